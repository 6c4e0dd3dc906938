"""MLflow: tracking, packaging, aliases, promotion, rollback."""
