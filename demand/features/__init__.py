"""From ads to arrays."""
