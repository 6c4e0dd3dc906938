"""The door to day-two commands: ``demand status``, ``demand rollback`` and the like."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from cli.terminal import (
    TRAINING_CONFIG,
    Handler,
    Parser,
    guarded,
    prepare_environment,
    whole_number,
    zenml_config,
)
from demand import __version__
from demand.config import DataSettings, DeploySettings, TrainingConfig, load_config
from demand.errors import EXIT_ERROR, AdsFileError, ConfigError, GateRefusal
from demand.progress import QUIET, only_warned, rows_shown
from demand.workspace.workspace import current_workspace, reports_folder, write_json

if TYPE_CHECKING:
    from demand.model.predictor import Predictor

# Adds a command by name, help, example and handler; returns what adds its options.
Add = Callable[[str, str, str, Handler], Callable[..., Any]]

ROWS_MAX = 20_000_000
SEED_MAX = 2**32 - 1
# Enough for all coalitions of all fields, so that the contributions are exact.
EXPLAINED_PERMUTATIONS = 374
_DECISIONS = "verdicts of the pipeline monitoring: list them, or make them again from their inputs"
_WORKERS = 4  # of the API, by default


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run one command."""
    arguments = parser().parse_args(argv)
    return guarded(lambda: int(arguments.handler(arguments)))


def parser() -> Parser:
    """Return the parser of all commands; nothing heavy is imported."""
    made = Parser(
        prog="demand",
        description="Look after the deployed model of avito-demand.",
        epilog="example:\n  demand status\n\nPipelines are run by `python run.py --pipeline NAME`.",
    )
    made.add_argument("--version", action="version", version=f"avito-demand {__version__}")
    commands = made.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, text: str, example: str, handler: Handler) -> Callable[..., Any]:
        """Add a command; its example ends its ``--help``."""
        epilog = f"example:\n  {example}"
        command = commands.add_parser(name, help=text, description=text, epilog=epilog)
        command.set_defaults(handler=handler)
        return command.add_argument

    _add_champion(add)
    _add_servers(add)
    _add_ads(add)
    return made


def _add_champion(add: Add) -> None:
    """Add what shows or changes what serves."""
    option = add("status", "what serves, and how it is", "demand status --json", _status)
    option("--json", action="store_true", help="print JSON for other programs")
    option = add("serve", "serve the champion, as after a reboot", "demand serve", _serve)
    config = "its section deploy has host and port (default: as it was deployed before)"
    option("--config", type=Path, metavar="FILE", help=config)
    add("stop", "stop the model server and the dashboards", "demand stop", _stop)
    text = "make the champion before this one champion again, and serve it"
    example = "demand rollback --to 3 --reason 'complaints from sellers'"
    option = add("rollback", text, example, _rollback)
    option("--to", metavar="VERSION", help="a version other than the previous one")
    option("--reason", default="asked for", help="kept in the history")
    option("--config", type=Path, metavar="FILE", help=config)
    text = "leave no champion where its files are lost: the next training is compared with none"
    example = "demand withdraw --reason 'the disk is gone, and there is no backup'"
    option = add("withdraw", text, example, _withdraw)
    option("--reason", default="asked for", help="kept in the history")
    option = add("history", "all changes of the champion", "demand history", _history)
    option("--json", action="store_true", help="print JSON for other programs")
    text = "what past runs left on this disk, from which later ones take steps; clear it"
    option = add("cache", text, "demand cache --clear --keep-gb 5", _cache)
    option("--clear", action="store_true", help="remove it, the oldest first; what serves stays")
    text = "clear no more than what is beyond this (implies --clear)"
    option("--keep-gb", type=whole_number(0, 10**6), metavar="N", help=text)
    text = "its data.cache_gb is the bound that is shown (default: configs/training.yaml)"
    option("--config", type=Path, metavar="FILE", default=TRAINING_CONFIG, help=text)
    option("--json", action="store_true", help="print JSON for other programs")
    text = "what people were told of that still lasts, and since when; or send them a test message"
    option = add("alerts", text, "DEMAND_ALERT_URLS='slack://…' demand alerts test", _alerts)
    option("action", nargs="?", choices=["test"], help="send a message to each receiver")
    text = "its section alerts has a file of URLs (default: configs/monitoring.yaml)"
    option("--config", type=Path, metavar="FILE", help=text)
    option("--json", action="store_true", help="print JSON for other programs")


def _add_servers(add: Add) -> None:
    """Add what runs until Ctrl-C: the Flask API, the seller's page, the dashboards."""
    any_port, port = whole_number(0, 65535), whole_number(1, 65535)
    local = {"default": "127.0.0.1", "help": "default: 127.0.0.1, this machine only"}
    named = "a name it may be asked by besides localhost, such as that of a reverse proxy"
    many: dict[str, Any] = {"action": "append", "default": []}
    text = "the Flask API: one address for whatever model serves, until Ctrl-C"
    option = add("api", text, "demand api --port 8000", _api)
    option("--host", **local)
    option("--port", type=any_port, default=8000, help="default: 8000")
    text = "a model to answer with (default: the champion)"
    option("--model", type=Path, metavar="FOLDER", help=text)
    option("--model-version", default="fixed", help="what --model is called in answers")
    text = "where /invocations is passed on to (default: the active model server)"
    option("--model-server", metavar="URL", help=text)
    text = "a site whose pages may ask (CORS); may be given more than once"
    option("--origin", metavar="URL", help=text, **many)
    option("--allow-host", metavar="NAME", help=named, **many)
    workers = min(os.cpu_count() or 1, _WORKERS)
    text = f"processes that answer (default: one a core, at most {_WORKERS})"
    option("--workers", type=whole_number(1, 64), default=workers, help=text)
    option("--quiet", action="store_true", help="no line a request")
    text = "the seller's page, which asks the API, until Ctrl-C"
    example = "demand ui --api http://127.0.0.1:8000 --link ZenML=http://127.0.0.1:8237"
    option = add("ui", text, example, _page)
    option("--host", **local)
    option("--port", type=any_port, default=7860, help="default: 7860")
    url = "http://127.0.0.1:8000"
    text = "the Flask API or an MLflow model server (default: %(default)s); "
    text += "DEMAND_API_TOKEN is its bearer token"
    option("--api", default=url, metavar="URL", help=text)
    text = "a dashboard that the team's tab links to; may be given more than once"
    option("--link", metavar="NAME=URL", help=text, **many)
    option("--allow-host", metavar="NAME", help=named, **many)
    option("--quiet", action="store_true", help="no line a request")
    text = "ZenML's dashboard and MLflow's UI, until Ctrl-C"
    option = add("dashboard", text, "demand dashboard", _dashboard)
    option("--zenml-port", type=port, default=8237, help="default: 8237")
    option("--mlflow-port", type=port, default=5000, help="default: 5000")


def _add_ads(add: Add) -> None:
    """Add what checks, generates, and asks about ads."""
    text = "check a file of labelled ads, as the training pipeline does"
    option = add("validate", text, "demand validate --data ads.csv", _validate)
    option("--data", type=Path, required=True, metavar="FILE", help="ads")
    text = "its section validation has the tolerances (default: configs/training.yaml)"
    option("--config", type=Path, metavar="FILE", default=TRAINING_CONFIG, help=text)
    settings, example = DataSettings(), "demand demo --rows 100000 --seed 1 --output ads.csv"
    option = add("demo", "generate demo ads (made up, never real ones)", example, _demo)
    rows, seed = whole_number(1, ROWS_MAX), whole_number(0, SEED_MAX)
    option("--rows", type=rows, default=settings.demo_rows, help="1 to 20 million")
    option("--seed", type=seed, default=settings.demo_seed, help="other seed, other ads")
    option("--output", type=Path, required=True, metavar="FILE", help="CSV to write")
    option("--quiet", action="store_true", help="no progress")
    text = "ask the champion about one ad or a list of ads, as JSON"
    example = 'echo \'{"title": "Велосипед", "category_name": "Велосипеды"}\' | demand predict'
    option = add("predict", text, example, _predict)
    option("--ad", type=Path, metavar="FILE", help="JSON file (default: standard input)")
    text = "keep what became of ads that were answered, from a file of labelled ads"
    option = add("decisions", _DECISIONS, "demand decisions replay decisions.jsonl", _decisions)
    option("action", choices=("list", "replay"))
    option("file", type=Path, nargs="?", metavar="FILE", help="default: all of this installation")
    option = add("outcomes", text, "demand outcomes import labelled.csv", _outcomes)
    option("action", choices=["import"], help="take item_id and deal_probability of each ad")
    option("file", type=Path, metavar="FILE", help="labelled ads, as for training")
    text = "what each field of an ad contributes to the champion's answer"
    option = add("explain", text, "demand explain --ad ad.json", _explain)
    option("--ad", type=Path, metavar="FILE", help="JSON file of one ad (default: standard input)")


def _status(arguments: argparse.Namespace) -> int:
    from demand.serving.deployment import status

    found = status()
    told = dataclasses.asdict(found)
    if arguments.json:
        print(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        table = Table.grid(padding=(0, 2))
        for name, value in told.items():
            if name == "metrics":
                value = f"{value['rmse']:.4f}" if "rmse" in value else None
                name = "test RMSE"
            table.add_row(name.replace("_", " "), "–" if value is None else str(value))
        Console(soft_wrap=True).print(table)
    return 0 if found.healthy else EXIT_ERROR


def _serve(arguments: argparse.Namespace) -> int:
    from demand.serving.deployment import serve

    deployment = serve(_deploy_settings(arguments.config))
    print(f"version {deployment.version} serves at {deployment.endpoint}")
    return 0


def _stop(_: argparse.Namespace) -> int:
    from cli.dashboard import stop_dashboards
    from demand.serving.deployment import stop

    print("the model server is stopped" if stop() else "no model server was running")
    if stop_dashboards():
        print("the dashboards are stopped")
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    from demand.serving.deployment import roll_back

    deployment = roll_back(arguments.to, arguments.reason, _deploy_settings(arguments.config))
    print(f"version {deployment.version} is champion again and serves at {deployment.endpoint}")
    tell_zenml()
    return 0


def _deploy_settings(config: Path | None) -> DeploySettings:
    """Return those of the file that is named, or those of the deployment before."""
    from demand.serving.deployment import last_settings

    kept = last_settings() if config is None else None
    return kept or load_config(config or TRAINING_CONFIG, TrainingConfig).deploy


def _withdraw(arguments: argparse.Namespace) -> int:
    from demand.registry.promotion import withdraw_unreadable

    version = withdraw_unreadable(arguments.reason)
    print(f"version {version} is champion no more: train another, or `demand rollback --to` one")
    tell_zenml()
    return 0


def tell_zenml() -> None:
    """Let ZenML's model stages follow a change of the champion, if ZenML has a store here.

    The change is made already, so that whatever is wrong with ZenML is only warned of.
    """
    if zenml_config().exists():
        prepare_environment()
        with only_warned("ZenML cannot be told what serves"):
            from orchestration.model_versions import follow_aliases

            follow_aliases()


def _history(arguments: argparse.Namespace) -> int:
    from demand.registry.registry import Registry

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


def _cache(arguments: argparse.Namespace) -> int:
    from cli.cache import show_cache

    bound_gb = load_config(arguments.config, TrainingConfig).data.cache_gb
    keep_gb = 0 if arguments.clear and arguments.keep_gb is None else arguments.keep_gb
    show_cache(bound_gb, keep_gb, as_json=arguments.json)
    return 0


def _alerts(arguments: argparse.Namespace) -> int:
    from cli.alerts import show_alerts, try_receivers

    if arguments.action == "test":
        return try_receivers(arguments.config)
    show_alerts(as_json=arguments.json)
    return 0


def _api(arguments: argparse.Namespace) -> int:
    from demand.serving.api.server import ApiSettings, serve_api
    from demand.serving.client import token_from_environment

    model = (arguments.model, arguments.model_version) if arguments.model else None
    settings = ApiSettings(
        token=token_from_environment(),
        origins=tuple(arguments.origin),
        allowed_hosts=tuple(arguments.allow_host),
        access_log=not arguments.quiet,
        workers=arguments.workers,
    )
    host, port, upstream = arguments.host, arguments.port, arguments.model_server
    serve_api(host, port, settings, model=model, model_server=upstream)
    return 0


def _page(arguments: argparse.Namespace) -> int:
    from demand.page.server import read_links, serve_page
    from demand.serving.client import token_from_environment

    serve_page(
        arguments.host,
        arguments.port,
        arguments.api,
        token=token_from_environment(),
        links=read_links(arguments.link),
        access_log=not arguments.quiet,
        allowed_hosts=arguments.allow_host,
    )
    return 0


def _validate(arguments: argparse.Namespace) -> int:
    from demand.data.flaws import table_flaws
    from demand.data.typed import store_ads
    from demand.reports.pages import write_data_docs
    from demand.validation.validate import validate_ads

    config = load_config(arguments.config, TrainingConfig)
    reports = reports_folder("validation")
    with tempfile.TemporaryDirectory() as folder:
        stored, max_file_gb = Path(folder) / "ads.parquet", config.data.max_file_gb
        ads, loaded = store_ads(arguments.data, stored, max_file_gb=max_file_gb)
        for warning in table_flaws(loaded).warnings():
            print(f"warning: {warning}")
        unparsed, lines = loaded.unparsed, loaded.lines
        found = validate_ads(ads, unparsed, config.validation, reports, lines=lines)
    docs = write_data_docs(found, reports / "data_docs")
    write_json(reports / "summary.json", found.summary)
    if found.refusal is not None:
        raise GateRefusal("data", found.refusal)
    for warning in found.warnings:
        print(f"warning: {warning}")
    print(f"{len(found.accepted)} of {ads.rows} ads accepted; Data Docs: {docs}")
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from demand.demo import write_demo

    if arguments.quiet:
        os.environ[QUIET] = "1"
    with rows_shown("demo ads", arguments.rows) as progress:
        md5 = write_demo(arguments.output, arguments.rows, arguments.seed, progress)
    print(f"{arguments.rows} demo ads in {arguments.output}, md5 {md5}")
    return 0


def _dashboard(arguments: argparse.Namespace) -> int:
    from cli.dashboard import run_dashboard

    return run_dashboard(arguments.zenml_port, arguments.mlflow_port)


def _predict(arguments: argparse.Namespace) -> int:
    from demand.schema.records import frame_from_records

    asked = _read_json(arguments.ad)
    ads = frame_from_records(asked if isinstance(asked, list) else [asked])
    for answer in _predictor().predict(ads):
        print(f"{answer:.6f}")
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from demand.model.explanation import explained
    from demand.schema.records import frame_from_records

    ad = _read_json(arguments.ad)
    # It refuses what is no ad, naming the field.
    frame_from_records([ad])
    explanation = _predictor().explain(ad, permutations=EXPLAINED_PERMUTATIONS)
    Console(soft_wrap=True).print(explained(explanation))
    return 0


def _decisions(arguments: argparse.Namespace) -> int:
    from demand.monitoring.decisions import read, replay

    path = arguments.file or current_workspace().decisions
    if arguments.action == "list":
        table = Table("made", "decision", "subject", "verdict", "rules that hold")
        for _, each in read(path):
            held = [found.rule for found in each.findings if found.state == "holds"]
            table.add_row(each.at, each.id, each.subject, each.verdict, ", ".join(held))
        Console(soft_wrap=True).print(table)
        return 0
    differing = replayed = 0
    for found in replay(path):
        replayed += 1
        if found.problem:
            differing += 1
            print(f"line {found.line}, decision {found.decision.id}: {found.problem}")
    print(f"{replayed - differing} of {replayed} decisions come out as they were made")
    return EXIT_ERROR if differing else 0


def _outcomes(arguments: argparse.Namespace) -> int:
    from demand.production_log.outcomes import outcomes_from_file
    from demand.production_log.store import current_log

    if (log := current_log()) is None:
        raise ConfigError("outcomes are not kept: DEMAND_LOG_URL is off")
    kept = log.add_outcomes(outcomes_from_file(arguments.file, DataSettings().max_file_gb))
    print(f"outcomes of {kept:,} ads are kept")
    return 0


def _read_json(path: Path | None) -> Any:
    name = str(path or "standard input")
    try:
        return json.loads(path.read_bytes() if path else sys.stdin.buffer.read())
    except OSError as error:
        raise AdsFileError(f"cannot read {name}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise AdsFileError(f"{name} is not valid JSON: {error}") from error


def _predictor() -> Predictor:
    from demand.registry.model_files import load_predictor
    from demand.registry.registry import Registry

    return load_predictor(Registry().asked())


if __name__ == "__main__":
    sys.exit(main())
