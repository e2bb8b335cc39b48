"""A synthetic streaming service with a known truth: its log, its tables, and an oracle that knows every probability."""
