"""What was answered in production, and what became of it."""
