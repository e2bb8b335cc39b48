"""What prepare needs besides the source: the log that is there already, and what must stay out of it."""
