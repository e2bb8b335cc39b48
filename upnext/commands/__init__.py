"""Commands: what composes stages, or only reads artifacts."""
