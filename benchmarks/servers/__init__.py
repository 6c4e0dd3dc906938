"""The servers that are measured, and what loads them."""
