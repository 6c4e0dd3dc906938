"""Search for better parameters: on the training rows only, pruned, and resumable."""
