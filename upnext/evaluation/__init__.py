"""Evaluation: cases of a split, models ranked over them, and the report."""
