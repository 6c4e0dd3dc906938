"""Deploying: the new model server starts beside the old, proves itself, then takes over.

``DEMAND_HOME/serving/active.json`` is the record of what serves; it changes in one
atomic step, after the new server has given the Predictor's own answers and before
the old one is asked to stop. Since both run for a moment, a deployment takes another
port than the one before: the preferred one if it is free, else the next.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from demand.config import DeploySettings
from demand.errors import ModelError, ServingError, StateError
from demand.serving.listening import listen_near
from demand.serving.mlflow_model import sample_ads
from demand.serving.model_files import copy_model
from demand.serving.processes import ServerProcess, end, model_servers, start_server
from demand.serving.registry import Registry
from demand.serving.versions import RegisteredVersion
from demand.state import Home, exclusive, home, read_json, write_json


@dataclass(frozen=True)
class Deployment:
    """What serves.

    Parameters
    ----------
    server
        The process.
    started_at
        ISO time in UTC since when it serves.
    """

    server: ServerProcess
    started_at: str

    @property
    def version(self) -> str:
        """Version of the registered model."""
        return self.server.version

    @property
    def endpoint(self) -> str:
        """Full URL of ``/invocations``."""
        return f"{self.server.address}/invocations"


def deploy(
    version: RegisteredVersion, settings: DeploySettings, place: Home | None = None
) -> Deployment:
    """Serve ``version`` instead of what serves now.

    If it is served already and healthy, nothing changes.

    Raises
    ------
    ServingError
        The new server did not start or gave other answers than the Predictor.
    ModelError
        The model's files are missing or damaged.
    StateError
        The state cannot be written.

    After any of them, and after Ctrl-C, the new server is stopped, and the old one
    serves and is on record. A damaged record counts as none, and without one all that
    runs goes on until the new server has proved itself.
    """
    place = place or home()
    with exclusive(place.locks / "serving.lock", f"deploying {version.version}", wait=True):
        old = None
        with contextlib.suppress(ServingError):
            old = active(place)
        if old is not None:
            # Without a record, which of those that run serves? All go on until the new one does.
            _stop_servers(place, keep=old)
        if old and old.version == version.version and old.server.answers():
            return old
        folder = place.serving / version.version
        copy_model(version.source, version.files_sha256, folder)
        with _new_server(folder, version.version, settings, place) as server:
            check_answers(server, folder, settings)
            new = Deployment(server, datetime.datetime.now(datetime.UTC).isoformat("T", "seconds"))
            write_json(_record(place), dataclasses.asdict(new))
        _stop_servers(place, keep=new)
        _remove_other_copies(place, version.version)
        return new


def serve(settings: DeploySettings, place: Home | None = None) -> Deployment:
    """Serve the champion, as after a reboot.

    Raises
    ------
    ModelError
        There is no champion yet.
    DemandError
        As :func:`deploy`.
    """
    champion = Registry(place).champion()
    if champion is None:
        raise ModelError(
            "there is no champion yet: run `python run.py --pipeline training` to make one"
        )
    return deploy(champion, settings, place)


def stop(place: Home | None = None) -> bool:
    """Stop what serves; say whether anything did."""
    place = place or home()
    with exclusive(place.locks / "serving.lock", "stopping", wait=True):
        _record(place).unlink(missing_ok=True)
        return _stop_servers(place, keep=None)


def active(place: Home | None = None) -> Deployment | None:
    """Return what is on record as serving; whether it answers is another question.

    Raises
    ------
    ServingError
        The record is damaged; names it and the way out.
    """
    path = _record(place or home())
    if not path.exists():
        return None
    try:
        record = read_json(path)
        return Deployment(ServerProcess.from_record(record["server"]), str(record["started_at"]))
    except (StateError, ValueError, TypeError, KeyError) as error:
        raise ServingError(
            f"{path}, the record of what serves, is damaged: run `demand serve` to write it anew"
        ) from error


def check_answers(server: ServerProcess, folder: Path, settings: DeploySettings) -> None:
    """Send the model's sample ads and compare with the Predictor's own answers.

    Raises
    ------
    ServingError
        An answer is missing, not finite, or off by more than ``settings.tolerance``.
    """
    ads, expected = sample_ads(folder)
    ads, expected = ads[: settings.sample_ads], expected[: settings.sample_ads]
    answers = server.predict(ads)
    if len(answers) != len(expected):
        raise ServingError(
            f"the model server gave {len(answers)} answers for {len(expected)} sample ads"
        )
    for row, (answer, wanted) in enumerate(zip(answers, expected, strict=True)):
        # Written so that NaN fails.
        if not math.isfinite(answer) or not abs(answer - wanted) <= settings.tolerance:
            raise ServingError(
                f"the model server answers {answer:g} for sample ad {row}, the Predictor {wanted:g}"
                f" (tolerance {settings.tolerance:g}): version {server.version} is not deployed"
            )


@contextlib.contextmanager
def _new_server(
    folder: Path, version: str, settings: DeploySettings, place: Home
) -> Iterator[ServerProcess]:
    """Start a server and wait for it; whatever fails in the block stops it again."""
    log = place.logs / f"model-server-{version}.log"
    before = model_servers(place.serving)
    try:
        with listen_near(settings.host, settings.port) as listener:
            server = start_server(folder, version, listener, log)
        write_json(_started(place) / f"{server.pid}.json", dataclasses.asdict(server))
        server.wait_until_ready(settings.startup_timeout_s)
        yield server
    except BaseException:
        # Ctrl-C may come before the start has said which process it is.
        for process in model_servers(place.serving) - before:
            end(process)
        raise


def _stop_servers(place: Home, keep: Deployment | None) -> bool:
    """Stop every server that was started here but one; say whether any ran.

    That is the one before, after a deployment, and what a deployment left that was
    killed half-way, perhaps before it could record what it had started.
    """
    ran = False
    for record in sorted(_started(place).glob("*.json")):
        try:
            server = ServerProcess.from_record(read_json(record))
        except (StateError, ValueError):  # damaged: its process, if any, is found below
            record.unlink(missing_ok=True)
            continue
        if keep is None or server != keep.server:
            ran = ran or server.process() is not None
            server.stop()
            record.unlink(missing_ok=True)
    for process in model_servers(place.serving):
        if keep is None or process.pid != keep.server.pid:
            ran = True
            end(process)
    return ran


def _remove_other_copies(place: Home, version: str) -> None:
    """Free the disk of what served before; the registry keeps every version."""
    for folder in place.serving.iterdir():
        if folder.name.isdigit() and folder.name != version:
            shutil.rmtree(folder, ignore_errors=True)


def _record(place: Home) -> Path:
    return place.serving / "active.json"


def _started(place: Home) -> Path:
    return place.serving / "started"
