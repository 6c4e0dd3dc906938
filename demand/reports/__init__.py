"""Pages, plots, the model card and metrics.json."""
