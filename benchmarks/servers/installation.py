"""An installation of its own for a benchmark: trained, served, and none of it left behind.

It is used through the project's doors only, so that another checkout is measured alike.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from demand.demo import generate
from demand.errors import ServingError
from demand.schema.columns import TARGET
from demand.serving.client import Endpoint
from demand.workspace.workspace import PROJECT_ROOT

PREDICT, INVOCATIONS = "/predict", "/invocations"
Ads = list[dict[str, Any]]
JSON = {"Content-Type": "application/json"}
_AD = {"title": "Велосипед горный", "category_name": "Велосипеды", "price": 9000}

_TRAINING_ROWS, _TRAINING_SEED, _ADS_SEED = 2_000, 7, 8
_START_S, _END_S, _POLL_S = 120.0, 20.0, 0.01
# They would lead to, or ask for, what is not this installation's.
_NOT_PASSED_ON = ("DEMAND_API_TOKEN", "DEMAND_LOG_URL", "MLFLOW_TRACKING_URI")
# So few ads and epochs make a poor model, but of the same kind and as fast as any.
_QUICK = {
    "training": {"epochs_max": 1},
    "checks": {"giskard_scan": False},
    "gate": {"rmse_threshold": 0.3},
}


@dataclass(frozen=True)
class Server:
    """A server that runs at the root of its URLs, with what lists its processes.

    ``start_s`` are the seconds from the start of the first one to the first answer.
    """

    address: str
    processes: Callable[[], list[psutil.Process]]
    start_s: float

    def resident_mb(self) -> float:
        """Return the resident megabytes of its processes.

        A page that n of them share counts as one n-th of it in each (*proportional set size*).
        """
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss / 1e6
        return total


class Installation:
    """State, reports and ZenML's store in a folder, and a port that nobody else uses.

    What runs is the source in ``checkout``, with this interpreter; its libraries' loops take so
    many ``threads``.

    Raises
    ------
    ServingError
        There is no checkout of this project.
    """

    def __init__(self, folder: Path, checkout: Path = PROJECT_ROOT, threads: int = 1) -> None:
        if not (checkout / "run.py").is_file():
            raise ServingError(f"{checkout} is no checkout of this project: it has no run.py")
        self.folder = folder
        self.home = folder / "home"
        self.port = _free_port()
        self._checkout = checkout.resolve()
        kept = {name: text for name, text in os.environ.items() if name not in _NOT_PASSED_ON}
        self._environment = {
            **kept,
            "DEMAND_HOME": str(self.home),
            "DEMAND_REPORTS": str(folder / "reports"),
            "ZENML_CONFIG_PATH": str(folder / "zenml"),
            "PYTHONPATH": os.pathsep.join([str(self._checkout), kept.get("PYTHONPATH", "")]),
            # Which programs MLflow starts is decided by the path: those beside our Python.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")]),
            "OMP_NUM_THREADS": str(threads),
        }

    def train(self, seed: int = 42, *, champion: bool = True) -> None:
        """Train quickly, and let it be the champion; or only register what may be worse.

        Raises
        ------
        ServingError
            The run failed; quotes what it said.
        """
        data = self.folder / "ads.csv"
        if not data.exists():
            generate(_TRAINING_ROWS, _TRAINING_SEED).to_csv(data, index=False)
        command = f"run.py --pipeline training --data {data} --config {self._config(seed)}"
        self._run(f"{command} --no-deploy --quiet", (0,) if champion else (0, 2))

    @contextlib.contextmanager
    def model_server(self) -> Iterator[Server]:
        """Run ``demand serve``; yield once its server has answered."""
        mark = str(self.home / "serving")

        def processes() -> list[psutil.Process]:
            listed = psutil.process_iter(["cmdline"])
            return [each for each in listed if mark in " ".join(each.info["cmdline"] or [])]

        address = f"http://127.0.0.1:{self.port}"
        command = f"-m cli.main serve --config {self._config(42)}"
        try:
            with self.program(command, address + INVOCATIONS) as (process, _):
                now = time.clock_gettime(time.CLOCK_BOOTTIME)
                first = min(each.create_time() for each in processes())
                process.wait(_START_S)
            # Both of psutil's times share an error of up to a second.
            yield Server(address, processes, now - (first - psutil.boot_time()))
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop the model server, if one runs."""
        self._run("-m cli.main stop")

    def api(self, *, logged: bool = True) -> contextlib.AbstractContextManager[Server]:
        """Run ``demand api``, with its production log or without; yield once it has answered."""
        variables = {} if logged else {"DEMAND_LOG_URL": "off"}
        return self._server("-m cli.main api", PREDICT, variables)

    def empty(self) -> contextlib.AbstractContextManager[Server]:
        """Run ``mlflow models serve`` of a model that does nothing, with the signature of ours."""
        import mlflow

        folder = self.folder / "empty"
        if not folder.exists():
            ours = next(self.home.rglob("MLmodel")).parent
            # It advises types and an example, which our signature stands for, and heeds no filter.
            with contextlib.redirect_stderr(io.StringIO()):
                mlflow.pyfunc.save_model(
                    str(folder),
                    python_model=str(Path(__file__).with_name("empty.py")),
                    signature=mlflow.models.Model.load(str(ours)).signature,
                    pip_requirements=["mlflow"],
                )
        command = f"-m mlflow models serve --env-manager local --model-uri {folder}"
        return self._server(command, INVOCATIONS)

    @contextlib.contextmanager
    def _server(
        self, command: str, path: str, variables: Mapping[str, str] | None = None
    ) -> Iterator[Server]:
        """Run Python, which serves on a free port; yield once it has answered."""
        port = _free_port()
        address = f"http://127.0.0.1:{port}"
        served = self.program(f"{command} --port {port}", address + path, variables)
        with served as (process, start_s):
            yield Server(address, lambda: [process, *process.children(recursive=True)], start_s)

    def _config(self, seed: int) -> Path:
        path = self.folder / f"training-{seed}.yaml"
        settings = {"seed": seed, "deploy": {"port": self.port}, **_QUICK}
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return path

    def _run(self, command: str, good: tuple[int, ...] = (0,)) -> None:
        with self.program(command) as (process, _):
            if (status := process.wait()) not in good:
                raise ServingError(
                    f"`python {command}` ended with {status}:\n{self.said()[-2_000:]}"
                )

    @contextlib.contextmanager
    def program(
        self, command: str, url: str = "", variables: Mapping[str, str] | None = None
    ) -> Iterator[tuple[psutil.Popen, float]]:
        """Run Python in a group of its own, yield it and the seconds since its start.

        Variables come on top of the environment. With a URL that is once it answers there. At the
        end, all of the group is ended.
        """
        begun, log = time.perf_counter(), self.folder / f"{time.time_ns()}.log"
        with log.open("wb") as output:
            process = psutil.Popen(
                [sys.executable, *shlex.split(command)],
                cwd=self._checkout,
                env={**self._environment, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if url and not await_answer(url, _START_S, lambda: process.poll() not in (None, 0)):
                raise ServingError(f"`python {command}` does not answer:\n{self.said()[-2_000:]}")
            yield process, time.perf_counter() - begun
        finally:
            with contextlib.suppress(psutil.Error):
                process.terminate()
                process.wait(_END_S)
            # MLflow's own server is a grandchild, which does not hear of its parent's end.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def said(self) -> str:
        """Return what the last program has said so far."""
        log = max(self.folder.glob("*.log"))
        return log.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def temporary_installation(
    checkout: Path = PROJECT_ROOT, threads: int = 1
) -> Iterator[Installation]:
    """Yield an empty installation, and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix="demand-benchmark-") as folder:
        yield Installation(Path(folder), checkout, threads)


def new_ads(rows: int) -> Ads:
    """Return ads to ask about, that no model was trained on, as a caller would write them."""
    ads = generate(rows, _ADS_SEED).drop(columns=[TARGET, "item_id"])
    ads["activation_date"] = ads["activation_date"].dt.strftime("%Y-%m-%d")
    return [{str(name): cell for name, cell in ad.dropna().items()} for _, ad in ads.iterrows()]


def body_for(path: str, ads: Ads) -> Any:
    """Return what a route is sent, for JSON: ``/predict`` takes one ad as it is."""
    if path == INVOCATIONS:
        return {"dataframe_records": ads}
    return ads[0] if len(ads) == 1 else ads


def answers(url: str, ads: Ads) -> list[float]:
    """Return the probabilities that a server gives; ServingError where it gives none."""
    with Endpoint(url) as endpoint:
        return endpoint.ask(ads).answers


def await_answer(url: str, seconds: float, failed: Callable[[], bool] = lambda: False) -> bool:
    """Wait until a server answers, or something failed; return whether it did in time."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until and not failed():
        with contextlib.suppress(ServingError):
            return bool(answers(url, [_AD]))
        time.sleep(_POLL_S)
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
