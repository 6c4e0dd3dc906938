"""All commands: those of `run.py`, one file a pipeline, and `demand`, one file a subject."""
