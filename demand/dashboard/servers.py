"""The two servers of the dashboard: ZenML's own, and MLflow's.

``zenml login --local`` would point the user's ZenML at its server, so that runs fail
once that server is gone. Here ZenML's server opens the very store that runs write to,
beside them. ``ZENML_SERVER`` in its environment keeps ZenML from writing the user's
configuration, so runs never hear of it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from demand.dashboard.local_server import LOOPBACK, LocalServer
from demand.state import home

ZENML = "ZenML's dashboard"
MLFLOW = "MLflow's UI"

# A browser that keeps a connection open must not hold up Ctrl-C.
_UVICORN_OPTIONS = ("--no-server-header", "--timeout-graceful-shutdown", "2")


def zenml_server(port: int) -> LocalServer:
    """ZenML's own server over the store that this environment's runs use.

    The variables are those of ``zenml login --local``, except that the user's own
    configuration folder stays: so the server finds the same store and artifacts.
    """
    return LocalServer(
        name=ZENML,
        module=("-m", "uvicorn", "zenml.zen_server.zen_server_api:app", *_UVICORN_OPTIONS),
        environment={
            "ZENML_SERVER": "true",
            "ZENML_SERVER_ALLOW_LOCAL_FILE_ACCESS": "true",
            "ZENML_SERVER_AUTH_SCHEME": "NO_AUTH",
            "ZENML_SERVER_AUTO_ACTIVATE": "true",
            "ZENML_SERVER_CORS_ALLOW_ORIGINS": f"http://{LOOPBACK}:{port}",
            "ZENML_SERVER_DEPLOYMENT_TYPE": "local",
            "ZENML_SERVER_DISPLAY_ANNOUNCEMENTS": "false",
            "ZENML_SERVER_DISPLAY_UPDATES": "false",
            "ZENML_ANALYTICS_OPT_IN": "false",
        },
        port=port,
        health_path="/health",
        log=home().logs / "dashboard-zenml.log",
    )


def mlflow_server(port: int) -> LocalServer:
    """MLflow's UI over this installation's tracking store, registry and artifacts."""
    state = home()
    return LocalServer(
        name=MLFLOW,
        module=(
            "-m",
            "mlflow",
            "server",
            "--backend-store-uri",
            f"sqlite:///{state.mlflow_database}",
            "--default-artifact-root",
            state.mlflow_artifacts.as_uri(),
            "--no-serve-artifacts",
            "--allowed-hosts",
            f"{LOOPBACK}:{port},localhost:{port}",
            "--cors-allowed-origins",
            f"http://{LOOPBACK}:{port},http://localhost:{port}",
            "--workers",
            "1",
            "--uvicorn-opts",
            " ".join(_UVICORN_OPTIONS),
        ),
        environment={
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            # Its job runner is for evaluations by language models.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },
        port=port,
        health_path="/health",
        log=state.logs / "dashboard-mlflow.log",
    )


def connected_zenml_server() -> str | None:
    """Return the address of the ZenML server that the user's ZenML is connected to.

    Read from the environment and ZenML's configuration file, as ZenML does;
    None for a store in a database of its own, the default.
    """
    url = os.environ.get("ZENML_STORE_URL") or _configured_zenml_store().get("url")
    return url if isinstance(url, str) and url.startswith(("http://", "https://")) else None


def _configured_zenml_store() -> dict[str, Any]:
    import click
    import yaml

    folder = os.environ.get("ZENML_CONFIG_PATH") or click.get_app_dir("zenml")
    try:
        text = (Path(folder) / "config.yaml").read_text(encoding="utf-8")
        config = yaml.safe_load(text)
    except (OSError, yaml.YAMLError):
        return {}
    store = config.get("store") if isinstance(config, dict) else None
    return store if isinstance(store, dict) else {}


def skip_onboarding(address: str) -> None:
    """Spare the user the form for name and mail address that hides a new dashboard.

    Says "no" to ZenML's newsletter in the user's name, unless it was answered before.
    A server that refuses only shows its form.
    """
    import requests

    url = f"{address}/api/v1/current-user"
    with suppress(requests.RequestException, ValueError, KeyError):
        if requests.get(url, timeout=10).json()["body"]["email_opted_in"] is None:
            answer = {
                "email_opted_in": False,
                "user_metadata": {"finished_onboarding_survey": True},
            }
            requests.put(url, json=answer, timeout=10)
