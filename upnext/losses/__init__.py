"""Losses as pure functions; each returns a sum, so that parts of a batch add up exactly."""
