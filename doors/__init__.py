"""The doors of the pipelines: one file a pipeline, which parses nothing and prints all."""
