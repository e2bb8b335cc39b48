"""Models, one paper per file; `build.py` lists them and writes and reads their checkpoints."""
