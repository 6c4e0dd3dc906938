"""The models that are compared: ours and its peers, on the same folds of sellers."""
