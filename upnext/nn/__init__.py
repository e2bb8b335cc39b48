"""Layers: attention, feed-forward, normalisation. Each takes `(x, layout, cache)`."""
