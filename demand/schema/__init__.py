"""The columns of an ad: cells and records parsed, figures of the population."""
