"""What ``python run.py --pipeline NAME`` does, for each of the names."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Column, Table

from demand.config import DataSettings, TrainingConfig, Until, load_config
from demand.workspace.workspace import current_workspace, exclusive, read_json, reports_folder

if TYPE_CHECKING:
    import pandas as pd

    from demand.registry.versions import RegisteredVersion

# How many ads production-evaluation sends unless another number is asked for.
ROWS = 10_000
# Trials that the table of a search shows beside the base.
SHOWN = 3


def find_ads(given: Path | None, settings: DataSettings, out: Console) -> Path:
    """Return the file to train on; the demo ads are generated where they are absent."""
    from demand.data.versioning import demo_file, ensure_demo_ads

    path = given or (Path(settings.file) if settings.file else None)
    if path is not None:
        return path
    demo = (settings.demo_rows, settings.demo_seed)
    return ensure_demo_ads(demo_file(*demo), *demo, out.print)


def demo_origin(path: Path, md5: str, settings: DataSettings) -> tuple[int, int] | None:
    """Return rows and seed of the demo ads if the file is those, so that the floor is known."""
    from demand.data.versioning import demo_file
    from demand.demo import DEFAULT_MD5

    default = DataSettings()
    if md5 == DEFAULT_MD5:
        return default.demo_rows, default.demo_seed
    asked = (settings.demo_rows, settings.demo_seed)
    is_asked = asked != (default.demo_rows, default.demo_seed) and path == demo_file(*asked)
    return asked if is_asked else None


@contextlib.contextmanager
def alone(pipeline: str) -> Iterator[Path]:
    """Yield the folder of the pipeline's reports, emptied, while no other run writes there.

    Another run that uses the same state or reports is a :class:`StateError`.
    """
    folder = reports_folder(pipeline)
    with contextlib.ExitStack() as locks:
        locks.enter_context(exclusive(current_workspace().locks / f"{pipeline}.lock", pipeline))
        locks.enter_context(exclusive(folder.parent / ".locks" / f"{pipeline}.lock", pipeline))
        # Reports of an earlier run must not pass for those of a run that is refused.
        clear(folder)
        yield folder


def clear(folder: Path) -> None:
    """Remove the reports of the run before; what it logged to MLflow and ZenML stays."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def train(arguments: argparse.Namespace, out: Console) -> int:
    """Run the training pipeline, alone in this installation."""
    from demand.evaluation.checks import require_known

    config = load_config(arguments.config, TrainingConfig)
    require_known(config.checks)
    with alone("training") as folder:
        _train_alone(arguments, config, folder, out)
    return 0


def _train_alone(
    arguments: argparse.Namespace, config: TrainingConfig, folder: Path, out: Console
) -> None:
    from demand.data.lineage import model_fingerprint
    from demand.data.reading import ads_md5
    from demand.data.versioning import keep_metrics
    from demand.registry.registry import Registry
    from demand.registry.tracking import store_id
    from demand.reports.training import TIMINGS_FILE, complete_report
    from orchestration.model_versions import zenml_model
    from orchestration.runs import require_experiment, run_pipeline
    from pipelines.training import training

    path = find_ads(arguments.data, config.data, out)
    md5 = ads_md5(path, config.data.max_file_gb)
    demo = demo_origin(path, md5, config.data)
    _say(out, f"training on {path}" + (" (demo ads)" if demo else ""))
    until: Until = "promote" if arguments.no_deploy else "deploy"
    until = "evaluate" if arguments.no_promote else until
    require_experiment()
    champion = Registry().champion()
    fingerprint = model_fingerprint(md5, config)
    compared = champion.version if champion else None
    asked = (str(path.absolute()), md5, config, fingerprint, store_id(), compared, demo, until)
    model, cached = zenml_model(fingerprint), not arguments.no_cache
    cache_gb = config.data.cache_gb
    run = run_pipeline(training, asked, folder, model=model, cached=cached, cache_gb=cache_gb)
    outputs = {name: step.outputs for name, step in run.steps.items()}
    promoted, deployed = until != "evaluate", until == "deploy"
    version = outputs["promote"]["champion_version"][0].load() if promoted else None
    endpoint = outputs["deploy"]["endpoint"][0].load() if deployed else None
    metrics = complete_report(folder, version, endpoint)
    if arguments.metrics is not None:
        keep_metrics(folder, arguments.metrics)
    show_training(out, metrics, read_json(folder / TIMINGS_FILE), folder)


def show_training(
    out: Console, metrics: dict[str, Any], took: list[dict[str, Any]], folder: Path
) -> None:
    """Print what was reached, what it took, and where to look."""
    table = Table("part", "seconds")
    for row in took:
        table.add_row(row["part"], "cached" if row["cached"] else f"{row['seconds']:.1f}")
    out.print(table)
    limits = f"threshold {metrics['threshold']}, mean predictor {metrics['baseline_rmse']:.4f}"
    _say(out, f"test RMSE {metrics['rmse']:.4f} on {metrics['rows_test']} ads ({limits})")
    if "explained_share" in metrics:
        explained = f"{metrics['explained_share']:.0%} of what can be explained is"
        _say(out, f"noise floor {metrics['noise_floor_rmse']:.4f}: {explained}")
    if metrics["model_version"]:
        _say(out, f"champion: version {metrics['model_version']}")
    if metrics["endpoint"]:
        _say(out, f"endpoint: {metrics['endpoint']}\ntry it:", curl_line(metrics["endpoint"]))
    _say(out, f"reports: {folder}")


def curl_line(endpoint: str) -> str:
    """Return a command that asks the endpoint about one ad, as it can be pasted."""
    ad = '{"title": "Велосипед горный", "category_name": "Велосипеды", "price": 9000}'
    body = f'{{"dataframe_records": [{ad}]}}'
    return f"curl -s {endpoint} -H 'Content-Type: application/json' -d '{body}'"


def tune(arguments: argparse.Namespace, out: Console) -> int:
    """Run the tuning pipeline, alone in this installation."""
    from demand.data.reading import ads_md5
    from demand.evaluation.checks import require_known
    from demand.model.tuning.config import SearchSpace, TuningConfig

    settings = load_config(arguments.config, TuningConfig)
    base = load_config(arguments.config.parent / settings.base, TrainingConfig)
    require_known(base.checks)
    SearchSpace(base, settings.space)
    with alone("tuning") as folder:
        from orchestration.runs import require_experiment, run_pipeline
        from pipelines.tuning import tuning
        from steps.tuning import EXPERIMENT

        path, cached = find_ads(arguments.data, base.data, out), not arguments.no_cache
        trials = arguments.trials or settings.trials
        _say(out, f"tuning on {path}, {trials} trials")
        require_experiment(EXPERIMENT)
        md5 = ads_md5(path, base.data.max_file_gb)
        asked = (str(path.absolute()), md5, base, settings, trials, not cached)
        try:
            cache_gb = base.data.cache_gb
            run = run_pipeline(tuning, asked, folder, cached=cached, cache_gb=cache_gb)
        except KeyboardInterrupt:
            anew = "" if cached else ", if without --no-cache"
            _say(out, f"the same command goes on where this one ended{anew}")
            raise
        metrics, table = (
            run.steps["tune"].outputs[name][0].load() for name in ("metrics", "trials")
        )
        show_search(out, metrics, table, folder, arguments.data)
    return 0


def show_search(
    out: Console, metrics: dict[str, Any], trials: pd.DataFrame, folder: Path, data: Path | None
) -> None:
    """Print the best trials beside the base, what that is worth, and how to train with it."""
    from demand.reports.tuning import BEST_FILE, verdict

    out.print(best_table(trials))
    _say(
        out,
        f"{metrics['trials_finished']} trials finished, {metrics['trials_pruned']} pruned, "
        f"{metrics['trials_failed']} failed; mean RMSE over {metrics['folds']} folds: "
        f"best {metrics['best_rmse']:.5f}, base {metrics['base_rmse']:.5f}",
        verdict(metrics),
    )
    if metrics["best_trial"]:
        anyway = "" if metrics["better_than_noise"] else " anyway"
        _say(out, f"train with it{anyway}:", training_command(folder / BEST_FILE, data))
    _say(out, f"reports: {folder}")


def best_table(trials: pd.DataFrame) -> Table:
    """Return the base and the best finished trials, a column each."""
    finished = trials[trials["state"] == "finished"]
    ranked = finished[finished["trial"] > 0].sort_values("rmse", kind="stable").head(SHOWN)
    table = Table(Column("", overflow="fold"), "base", *(f"trial {n}" for n in ranked["trial"]))
    shown = [trials.iloc[0], *(row for _, row in ranked.iterrows())]
    table.add_row("mean RMSE", *(f"{row['rmse']:.5f}" for row in shown))
    for key in (column for column in map(str, trials) if "." in column):
        table.add_row(key, *(_short(row[key]) for row in shown))
    return table


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def training_command(config: Path, data: Path | None) -> str:
    """Return the command that trains with a config, as it can be pasted."""
    command = ["python", "run.py", "--pipeline", "training"]
    if data is not None:
        command += ["--data", str(data)]
    near = config.relative_to(Path.cwd()) if config.is_relative_to(Path.cwd()) else config
    return shlex.join([*command, "--config", str(near)])


def answer(arguments: argparse.Namespace, out: Console) -> int:
    """Write the answers of the champion, or of ``--model VERSION``, to a file of ads.

    Runs side by side do not disturb each other, unless they write to the same file.
    """
    from demand.registry.registry import Registry
    from demand.serving.batch import check_paths

    max_file_gb = load_config(arguments.config, TrainingConfig).data.max_file_gb
    # What is bound to fail fails now, and not after ZenML has started.
    check_paths(arguments.data, arguments.output, max_file_gb)
    version = Registry().asked(arguments.model)
    _say(out, f"version {version.version} answers {arguments.data}")
    begun = time.perf_counter()
    answered = answer_file(arguments.data, arguments.output, version, max_file_gb)
    seconds = time.perf_counter() - begun
    show_answered(out, answered, version.version, arguments.output, seconds)
    return 0


def answer_file(
    data: Path, output: Path, version: RegisteredVersion, max_file_gb: float
) -> dict[str, Any]:
    """Run the pipeline and return what :class:`demand.serving.batch.Answered` holds."""
    from orchestration.model_versions import zenml_model
    from orchestration.runs import run_pipeline
    from pipelines.serving import batch_inference

    asked = (str(data.absolute()), str(output.absolute()), version.version, max_file_gb)
    run = run_pipeline(batch_inference, asked, model=zenml_model(version.fingerprint))
    answered: dict[str, Any] = run.steps["batch_inference"].outputs["answered"][0].load()
    return answered


def show_answered(
    out: Console, answered: dict[str, Any], version: str, output: Path, seconds: float
) -> None:
    """Print what was flawed, how many ads were answered, and where the answers are."""
    from demand.schema.error_text import counted

    _say(out, *(f"warning: {warning}" for warning in answered["warnings"]))
    asked = f"{counted(answered['rows'], 'ad')} in {seconds:.1f} s"
    _say(out, f"version {version} answered {answered['answered']:,} of {asked}")
    _say(out, f"answers: {output}")


def evaluate(arguments: argparse.Namespace, out: Console) -> int:
    """Send labelled ads through the deployed endpoint, and compare with the registered model."""
    from demand.data.reading import ads_md5
    from demand.monitoring.production import endpoint_at
    from demand.reports.training import METRICS_FILE

    config = load_config(arguments.config, TrainingConfig)
    with alone("production-evaluation") as folder:
        # What is bound to fail fails now, and not after ZenML has started.
        ads_md5(arguments.data, config.data.max_file_gb)
        url = endpoint_at(arguments.url).url
        _say(out, f"sending ads of {arguments.data} to {url}")
        try:
            evaluate_endpoint(arguments, config, folder)
        finally:
            # A gate that refuses leaves its figures, too.
            if (folder / METRICS_FILE).exists():
                show_evaluation(out, read_json(folder / METRICS_FILE), folder)
    return 0


def evaluate_endpoint(arguments: argparse.Namespace, config: TrainingConfig, folder: Path) -> None:
    """Run the pipeline, and leave its reports and timings."""
    from demand.registry.registry import Registry
    from demand.serving.deployment import active
    from orchestration.model_versions import zenml_model
    from orchestration.runs import run_pipeline
    from pipelines.serving import production_evaluation

    deployment = active() if arguments.url is None else None
    model = zenml_model(Registry().version(deployment.version).fingerprint) if deployment else None
    ads = (str(arguments.data.absolute()), arguments.url, arguments.rows or ROWS)
    asked = (*ads, config.gate, config.seed, config.data.max_file_gb)
    run_pipeline(production_evaluation, asked, folder, model=model)


def show_evaluation(out: Console, metrics: dict[str, Any], folder: Path) -> None:
    """Print the errors beside those of training, the speed, and where to read more."""
    from demand.monitoring.production import error_table

    heads, rows = error_table(metrics)
    table = Table(*heads)
    for row in rows:
        table.add_row(*row)
    out.print(table)
    _say(
        out,
        *(f"warning: {warning}" for warning in metrics["warnings"]),
        f"version {metrics['model_version']} answered {metrics['n']:,} ads in "
        f"{metrics['requests']} requests: {metrics['latency_ms_p50']:.1f} ms median, "
        f"{metrics['latency_ms_p99']:.1f} ms 99th percentile, "
        f"{metrics['throughput_ads_per_s']:,.0f} ads/s",
    )
    if metrics["max_difference"] is not None:
        furthest = f"{metrics['max_difference']:.2g}"
        _say(out, f"furthest from the registered model's own answer: {furthest}")
    _say(out, f"reports: {folder}")


def monitor(arguments: argparse.Namespace, out: Console) -> int:
    """Judge the champion by what production says."""
    from demand.production_log.config import MonitoringConfig

    config = load_config(arguments.config, MonitoringConfig)
    with alone("monitoring") as folder:
        from demand.registry.registry import Registry
        from orchestration.model_versions import zenml_model
        from orchestration.runs import require_experiment, run_pipeline
        from pipelines.monitoring import monitoring
        from steps.monitoring import EXPERIMENT

        champion = Registry().asked()
        require_experiment(EXPERIMENT)
        asked = (config, TrainingConfig().seed)
        model = zenml_model(champion.fingerprint)
        run = run_pipeline(monitoring, asked, folder, model=model)
        found = run.steps["monitor"].outputs["decision"][0].load()
        table = Table("rule", "state", "what was read")
        for each in found["findings"]:
            table.add_row(each["rule"], each["state"], each["told"])
        out.print(table)
        _say(out, f"verdict on {found['subject']}: {found['verdict']} (decision {found['id']})")
        if "rolled_back_to" in found:
            _say(out, f"version {found['rolled_back_to']} is champion again, and serves")
        _say(out, f"reports: {folder}")
    return 0


def _say(out: Console, *lines: str) -> None:
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)
