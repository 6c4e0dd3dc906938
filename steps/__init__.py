"""ZenML steps: each reads its inputs, calls the core, and names its outputs."""
