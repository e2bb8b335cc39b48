"""Nearest neighbours by dot product."""
