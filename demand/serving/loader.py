"""Loader of models that were packaged before the registry had it: MLflow finds it by this name."""

from demand.registry.loader import _load_pyfunc

__all__ = ["_load_pyfunc"]
