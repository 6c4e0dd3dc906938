"""Commands about what serves."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from demand.commands.parsers import add_command, add_config, whole_number
from demand.config import TrainingConfig, load_config
from demand.errors import EXIT_ERROR

if TYPE_CHECKING:
    from demand.commands.parsers import Commands

_WORKERS = 4  # of the API, by default


def add_serving(commands: Commands) -> None:
    """Add what changes or shows what serves: status, serve, stop, rollback, history."""
    status = add_command(
        commands, "status", "what serves, and how it is", "demand status --json", _status
    )
    status.add_argument("--json", action="store_true", help="print JSON for other programs")
    serve = add_command(
        commands, "serve", "serve the champion, as after a reboot", "demand serve", _serve
    )
    add_config(serve, "its section deploy has host and port")
    add_command(commands, "stop", "stop the model server and the dashboards", "demand stop", _stop)
    rollback = add_command(
        commands,
        "rollback",
        "make the champion before this one champion again, and serve it",
        "demand rollback --to 3 --reason 'complaints from sellers'",
        _rollback,
    )
    rollback.add_argument("--to", metavar="VERSION", help="a version other than the previous one")
    rollback.add_argument("--reason", default="asked for", help="kept in the history")
    add_config(rollback, "its section deploy has host and port")
    history = add_command(
        commands, "history", "all changes of the champion", "demand history", _history
    )
    history.add_argument("--json", action="store_true", help="print JSON for other programs")


def add_api(commands: Commands) -> None:
    """Add the Flask API."""
    api = add_command(
        commands,
        "api",
        "the Flask API: one address for whatever model serves, until Ctrl-C",
        "demand api --port 8000",
        _api,
    )
    api.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    api.add_argument("--port", type=whole_number(0, 65535), default=8000, help="default: 8000")
    api.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="a model to answer with (default: the champion)",
    )
    api.add_argument("--model-version", default="fixed", help="what --model is called in answers")
    api.add_argument(
        "--model-server",
        metavar="URL",
        help="where /invocations is passed on to (default: the active model server)",
    )
    api.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="URL",
        help="a site whose pages may ask (CORS); may be given more than once",
    )
    api.add_argument(
        "--workers",
        type=whole_number(1, 64),
        default=min(os.cpu_count() or 1, _WORKERS),
        help=f"processes that answer (default: one a core, at most {_WORKERS})",
    )
    api.add_argument("--quiet", action="store_true", help="no line a request")


def _status(arguments: argparse.Namespace) -> int:
    from demand.serving.status import status

    found = status()
    if arguments.json:
        print(json.dumps(dataclasses.asdict(found), ensure_ascii=False, indent=2))
    else:
        table = Table.grid(padding=(0, 2))
        for name, value in dataclasses.asdict(found).items():
            if name == "metrics":
                value = f"{value['rmse']:.4f}" if "rmse" in value else None
                name = "test RMSE"
            table.add_row(name.replace("_", " "), "–" if value is None else str(value))
        Console(soft_wrap=True).print(table)
    return 0 if found.healthy else EXIT_ERROR


def _serve(arguments: argparse.Namespace) -> int:
    from demand.serving.server import serve

    deployment = serve(load_config(arguments.config, TrainingConfig).deploy)
    print(f"version {deployment.version} serves at {deployment.endpoint}")
    return 0


def _stop(_: argparse.Namespace) -> int:
    from demand.dashboard.run import stop_dashboards
    from demand.serving.server import stop

    print("the model server is stopped" if stop() else "no model server was running")
    if stop_dashboards():
        print("the dashboards are stopped")
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    from demand.serving.rollout import roll_back

    settings = load_config(arguments.config, TrainingConfig).deploy
    deployment = roll_back(arguments.to, arguments.reason, settings)
    print(f"version {deployment.version} is champion again and serves at {deployment.endpoint}")
    return 0


def _history(arguments: argparse.Namespace) -> int:
    from demand.serving.registry import Registry

    changes = [dataclasses.asdict(change) for change in Registry().history()]
    if arguments.json:
        print(json.dumps(changes, ensure_ascii=False, indent=2))
        return 0
    for change in changes:
        print(
            f"{change['at']}  {change['action']:8}  {change['from_version'] or '–'} → "
            f"{change['to_version'] or '–'}  by {change['who']}: {change['reason']}"
        )
    return 0


def _api(arguments: argparse.Namespace) -> int:
    from demand.serving.api.server import ApiPlace, serve_api
    from demand.serving.api.settings import TOKEN_VARIABLE, ApiSettings

    model = (arguments.model, arguments.model_version) if arguments.model else None
    settings = ApiSettings(
        token=os.environ.get(TOKEN_VARIABLE) or None,
        origins=tuple(arguments.origin),
        access_log=not arguments.quiet,
        workers=arguments.workers,
    )
    serve_api(ApiPlace(arguments.host, arguments.port, model, arguments.model_server), settings)
    return 0
