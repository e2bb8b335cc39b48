"""Key-value stores for histories and events."""
