"""An installation of its own for a benchmark: models, servers, and none of it left behind."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from demand.ads import TARGET
from demand.config import DeploySettings, TrainingConfig
from demand.demo import generate
from demand.errors import ServingError
from demand.features.feature_set import build_features
from demand.predictor import Predictor
from demand.refitting import calibrated, ranked, refit
from demand.serving.mlflow_model import log_model, records, signature
from demand.serving.registry import Registry
from demand.serving.server import stop
from demand.serving.tracking import quiet_mlflow, tracked_run
from demand.splitting import split_ads
from demand.state import PROJECT_ROOT, Home
from demand.trainer import train

Say = Callable[[str], None]
# Away from the preferred port, where the user's own server may answer.
SETTINGS = DeploySettings(port=18790)

_TRAINING_ROWS, _TRAINING_SEED, _ADS_SEED = 2_000, 7, 8
_START_S, _END_S, _POLL_S = 120.0, 20.0, 0.005
_ADDRESS = re.compile(r"answers at (http://\S+)")
_NOT_PASSED_ON = ("DEMAND_API_TOKEN",)


@contextlib.contextmanager
def own_home(prefix: str) -> Iterator[Home]:
    """Let ``DEMAND_HOME`` name a temporary folder; afterwards stop what serves there."""
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        place = Home(Path(folder) / "home")
        place.root.mkdir()
        changed = {"DEMAND_HOME": str(place.root), "DEMAND_REPORTS": str(Path(folder) / "reports")}
        before = {name: os.environ.get(name) for name in changed}
        os.environ.update(changed)
        try:
            yield place
        finally:
            stop(place)
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def quick_models(number: int, folder: Path | None, say: Say) -> list[Predictor]:
    """Return as many models that answer differently, trained on demo ads in seconds.

    Parameters
    ----------
    folder
        A saved Predictor to return instead, as often as asked for.
    """
    if folder is not None:
        return [Predictor.load(folder)] * number
    return [_quick_model(seed, say) for seed in range(number)]


def _quick_model(seed: int, say: Say) -> Predictor:
    config = TrainingConfig()
    ads = generate(_TRAINING_ROWS, _TRAINING_SEED + 100 * seed)
    split = split_ads(ads, config.split, config.seed)
    say(f"training model {seed + 1} on {len(ads):,} demo ads")
    built = build_features(split.train, split.validation, config.features, config.seed)
    judged = train(built, config.training, config.seed)
    refitted = refit(ads, judged.best_epoch, config.features, config.training, config.seed)
    held_out = pd.concat([split.validation, split.test], ignore_index=True)
    return ranked(calibrated(refitted, judged.predictor, held_out), ads)


def register(models: Sequence[Predictor], place: Home) -> list[str]:
    """Register models as versions of the registry; return their numbers."""
    registry = Registry(place)
    versions = []
    for number, model in enumerate(models):
        with tracked_run("benchmark", tags={}, place=place) as run:
            model_id = log_model(run, model, new_ads(32))
        found = registry.register_challenger(
            model_id, data_md5="demo ads", fingerprint=f"benchmark {number}", metrics={}
        )
        versions.append(found.version)
    return versions


def new_ads(rows: int) -> pd.DataFrame:
    """Return ads to ask about, that no model was trained on, without their target."""
    return generate(rows, _ADS_SEED).drop(columns=[TARGET, "item_id"])


def as_json(ads: pd.DataFrame) -> list[dict[str, object]]:
    """Return ads as a caller would write them: without the fields that are missing."""
    return [{k: v for k, v in ad.items() if v is not None} for ad in records(ads)]


def save_empty_model(folder: Path) -> None:
    """Save :mod:`benchmarks.serving_empty` with our model's signature."""
    quiet_mlflow()
    import mlflow.pyfunc

    # It advises types and an example, which our signature stands for, and heeds no filter.
    with contextlib.redirect_stderr(io.StringIO()):
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(Path(__file__).with_name("serving_empty.py")),
            signature=signature(),
            pip_requirements=["mlflow"],
        )


@dataclass(frozen=True)
class Program:
    """A server that runs.

    Parameters
    ----------
    pid
        Its process; it leads a group of its own.
    address
        Root of its URLs.
    """

    pid: int
    address: str


@contextlib.contextmanager
def flask_api(log: Path) -> Iterator[Program]:
    """Run ``demand api`` as its user does; it may not be ready, but it listens."""
    command = [sys.executable, "-m", "demand.cli", "api", "--port", "0"]
    with _program(command, log) as process:
        deadline = time.monotonic() + _START_S
        while (found := _ADDRESS.search(log.read_text(encoding="utf-8"))) is None:
            _check(process, log, deadline)
            time.sleep(_POLL_S)
        yield Program(process.pid, found[1])


@contextlib.contextmanager
def mlflow_serve(
    model: Path, port: int, log: Path, ready: Callable[[str], bool]
) -> Iterator[Program]:
    """Run ``mlflow models serve``; yield it once ``ready`` says of the root of its URLs so."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["--model-uri", str(model), "--host", "127.0.0.1", "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    with _program(command, log) as process:
        deadline = time.monotonic() + _START_S
        while not ready(address):
            _check(process, log, deadline)
            time.sleep(_POLL_S)
        yield Program(process.pid, address)


@contextlib.contextmanager
def _program(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a group of its own, and end all of the group."""
    environment = {k: v for k, v in os.environ.items() if k not in _NOT_PASSED_ON}
    paths = [str(PROJECT_ROOT), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    # Which programs MLflow starts is decided by the path: they must be those beside our Python.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        # MLflow's own server is a grandchild, which does not hear of its parent's end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _check(process: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    if process.poll() is None and time.monotonic() < deadline:
        return
    said = log.read_text(encoding="utf-8", errors="replace")[-2_000:]
    what = " ".join(map(str, process.args[1:6]))  # type: ignore[index]
    raise ServingError(f"`python {what}` did not start; its output ends with:\n{said}")
