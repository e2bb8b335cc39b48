"""Objectives: the joint of model, sampler and losses; the only place that knows all three."""
