"""Where state lives: paths, locks, atomic writes."""
