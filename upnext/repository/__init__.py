"""Releases over HTTP: one machine offers them, others pull them, and who has the token pushes them."""
