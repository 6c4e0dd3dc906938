"""The Flask API: one address for sellers' programs, whatever model serves behind it."""
