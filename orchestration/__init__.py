"""What ZenML needs from us: what steps share, how a run goes, and how models show."""
