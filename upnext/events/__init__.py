"""The event log: segments, splits, the audit, and the readers of source files."""
