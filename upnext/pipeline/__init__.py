"""The main path, one file per stage: a frozen configuration and `run`, which returns the artifact it made."""
