"""Training: batches under a token budget, one loop, optimiser, schedule, checkpoints."""
