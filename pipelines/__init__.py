"""ZenML pipelines: one file a pipeline, wiring only."""
