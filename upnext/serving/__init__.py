"""Serving: a release answers requests and takes events. Nothing here is needed only for training."""
