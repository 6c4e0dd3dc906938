"""ZenML steps, a file a room of the core: each reads its inputs, calls it, names its outputs."""
