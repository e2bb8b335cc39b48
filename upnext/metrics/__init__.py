"""Pure NumPy functions that judge recommendations: ranking, beyond accuracy, and how sure we can be."""
