"""The door to day-two commands: ``demand status``, ``demand rollback`` and the like."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from demand import __version__
from demand.config import TrainingConfig, load_config
from demand.doors import Parser, guarded
from demand.errors import EXIT_ERROR, AdsFileError, GateRefusal
from demand.progress import QUIET, rows_shown
from demand.state import PROJECT_ROOT, reports_folder, write_json

if TYPE_CHECKING:
    from demand.predictor import Predictor

    # argparse has no public name for what add_subparsers returns.
    Commands = argparse._SubParsersAction[Any]

Handler = Callable[[argparse.Namespace], int]
ROWS_MAX = 20_000_000
SEED_MAX = 2**32 - 1
# Enough for all coalitions of all fields, so that the contributions are exact.
EXPLAINED_PERMUTATIONS = 374


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run one command."""
    arguments = _parser().parse_args(argv)
    handler: Handler = arguments.handler
    return guarded(lambda: handler(arguments))


def _parser() -> Parser:
    parser = Parser(
        prog="demand",
        description="Look after the deployed model of avito-demand.",
        epilog="example:\n  demand status\n\nPipelines are run by `python run.py --pipeline NAME`.",
    )
    parser.add_argument("--version", action="version", version=f"avito-demand {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_SubParser)
    for add in (_add_serving, _add_api, _add_data, _add_dashboard, _add_predict, _add_explain):
        add(commands)
    return parser


class _SubParser(Parser):
    """What ``add_subparsers`` makes: its keywords are argparse's own."""

    def __init__(self, *, prog: str, help: str = "", epilog: str = "") -> None:  # noqa: A002
        super().__init__(prog=prog, description=help, epilog=f"example:\n  {epilog}")


def _add(commands: Commands, name: str, text: str, example: str, handler: Handler) -> Parser:
    parser: Parser = commands.add_parser(name, help=text, epilog=example)
    parser.set_defaults(handler=handler)
    return parser


def _add_serving(commands: Commands) -> None:
    status = _add(commands, "status", "what serves, and how it is", "demand status --json", _status)
    status.add_argument("--json", action="store_true", help="print JSON for other programs")
    serve = _add(commands, "serve", "serve the champion, as after a reboot", "demand serve", _serve)
    _add_config(serve, "its section deploy has host and port")
    _add(commands, "stop", "stop the model server and the dashboards", "demand stop", _stop)
    rollback = _add(
        commands,
        "rollback",
        "make the champion before this one champion again, and serve it",
        "demand rollback --to 3 --reason 'complaints from sellers'",
        _rollback,
    )
    rollback.add_argument("--to", metavar="VERSION", help="a version other than the previous one")
    rollback.add_argument("--reason", default="asked for", help="kept in the history")
    _add_config(rollback, "its section deploy has host and port")
    history = _add(commands, "history", "all changes of the champion", "demand history", _history)
    history.add_argument("--json", action="store_true", help="print JSON for other programs")


def _add_api(commands: Commands) -> None:
    api = _add(
        commands,
        "api",
        "the Flask API: one address for whatever model serves, until Ctrl-C",
        "demand api --port 8000",
        _api,
    )
    api.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    api.add_argument("--port", type=_whole_number(0, 65535), default=8000, help="default: 8000")
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
    api.add_argument("--quiet", action="store_true", help="no line a request")


def _add_data(commands: Commands) -> None:
    validate = _add(
        commands,
        "validate",
        "check a file of labelled ads, as the training pipeline does",
        "demand validate --data ads.csv",
        _validate,
    )
    validate.add_argument("--data", type=Path, required=True, metavar="FILE", help="ads")
    _add_config(validate, "its section validation has the tolerances")
    settings = TrainingConfig().data
    demo = _add(
        commands,
        "demo",
        "generate demo ads (made up, never real ones)",
        "demand demo --rows 100000 --seed 1 --output ads.csv",
        _demo,
    )
    rows, seed = _whole_number(1, ROWS_MAX), _whole_number(0, SEED_MAX)
    demo.add_argument("--rows", type=rows, default=settings.demo_rows, help="1 to 20 million")
    demo.add_argument("--seed", type=seed, default=settings.demo_seed, help="other seed, other ads")
    demo.add_argument("--output", type=Path, required=True, metavar="FILE", help="CSV to write")
    demo.add_argument("--quiet", action="store_true", help="no progress")


def _add_dashboard(commands: Commands) -> None:
    dashboard = _add(
        commands,
        "dashboard",
        "ZenML's dashboard and MLflow's UI, until Ctrl-C",
        "demand dashboard",
        _dashboard,
    )
    port = _whole_number(1, 65535)
    dashboard.add_argument("--zenml-port", type=port, default=8237, help="default: 8237")
    dashboard.add_argument("--mlflow-port", type=port, default=5000, help="default: 5000")


def _add_predict(commands: Commands) -> None:
    predict = _add(
        commands,
        "predict",
        "ask the champion about one ad or a list of ads, as JSON",
        'echo \'{"title": "Велосипед", "category_name": "Велосипеды"}\' | demand predict',
        _predict,
    )
    predict.add_argument(
        "--ad", type=Path, metavar="FILE", help="JSON file (default: standard input)"
    )


def _add_explain(commands: Commands) -> None:
    explain = _add(
        commands,
        "explain",
        "what each field of an ad contributes to the champion's answer",
        "demand explain --ad ad.json",
        _explain,
    )
    explain.add_argument(
        "--ad", type=Path, metavar="FILE", help="JSON file of one ad (default: standard input)"
    )


def _add_config(parser: Parser, what: str) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=PROJECT_ROOT / "configs" / "training.yaml",
        help=f"{what} (default: configs/training.yaml)",
    )


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a type for argparse: a whole number between two bounds."""

    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return number


def _status(arguments: argparse.Namespace) -> int:
    from demand.serving.server import status

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


def _api(arguments: argparse.Namespace) -> int:
    import os

    from demand.serving.api.server import ApiPlace, serve_api
    from demand.serving.api.settings import TOKEN_VARIABLE, ApiSettings

    model = (arguments.model, arguments.model_version) if arguments.model else None
    settings = ApiSettings(
        token=os.environ.get(TOKEN_VARIABLE) or None,
        origins=tuple(arguments.origin),
        access_log=not arguments.quiet,
    )
    serve_api(ApiPlace(arguments.host, arguments.port, model, arguments.model_server), settings)
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


def _validate(arguments: argparse.Namespace) -> int:
    from demand.expectations.validation import validate_ads
    from demand.ingestion.reading import read_ads

    config = load_config(arguments.config, TrainingConfig)
    loaded = read_ads(arguments.data, max_file_gb=config.data.max_file_gb)
    if loaded.ignored_columns:
        # repr keeps a name that is empty or has a line break in it legible.
        print(f"warning: ignored columns: {', '.join(map(repr, loaded.ignored_columns))[:300]}")
    reports = reports_folder("validation")
    found = validate_ads(
        loaded.frame, loaded.unparsed, config.validation, reports, lines=loaded.lines
    )
    write_json(reports / "summary.json", found.summary)
    if found.refusal is not None:
        raise GateRefusal("data", found.refusal)
    for warning in found.warnings:
        print(f"warning: {warning}")
    print(
        f"{len(found.accepted)} of {len(loaded.frame)} ads accepted; Data Docs: {found.docs_html}"
    )
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    import os

    from demand.demo import write_demo

    if arguments.quiet:
        os.environ[QUIET] = "1"
    with rows_shown("demo ads", arguments.rows) as progress:
        md5 = write_demo(arguments.output, arguments.rows, arguments.seed, progress)
    print(f"{arguments.rows} demo ads in {arguments.output}, md5 {md5}")
    return 0


def _dashboard(arguments: argparse.Namespace) -> int:
    from demand.dashboard.run import run_dashboard

    return run_dashboard(arguments.zenml_port, arguments.mlflow_port)


def _predict(arguments: argparse.Namespace) -> int:
    from demand.ingestion.records import frame_from_records

    asked = _read_json(arguments.ad)
    predictor = _champion()
    ads = frame_from_records(asked if isinstance(asked, list) else [asked])
    for answer in predictor.predict(ads):
        print(f"{answer:.6f}")
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from demand.explanation import explained
    from demand.ingestion.records import frame_from_records

    ad = _read_json(arguments.ad)
    # It refuses what is no ad, naming the field.
    frame_from_records([ad])
    explanation = _champion().explain(ad, permutations=EXPLAINED_PERMUTATIONS)
    Console(soft_wrap=True).print(explained(explanation))
    return 0


def _read_json(path: Path | None) -> Any:
    name = str(path or "standard input")
    try:
        return json.loads(path.read_bytes() if path else sys.stdin.buffer.read())
    except OSError as error:
        raise AdsFileError(f"cannot read {name}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise AdsFileError(f"{name} is not valid JSON: {error}") from error


def _champion() -> Predictor:
    from demand.errors import ModelError
    from demand.serving.promotion import champion_predictor
    from demand.serving.registry import Registry

    champion = Registry().champion()
    if champion is None:
        raise ModelError("there is no champion yet: run `python run.py --pipeline training`")
    return champion_predictor(champion.version)


if __name__ == "__main__":
    sys.exit(main())
