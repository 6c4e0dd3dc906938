"""ZenML's dashboard and MLflow's UI, started as processes."""
