"""Negatives: which items a softmax is compared with when the catalogue is too large, and how likely each was."""
