"""From a Predictor to an endpoint: tracking, registry, model server. MLflow is known only here."""
