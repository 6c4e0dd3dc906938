"""From a model that passed its gates to the champion, or the reason why not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demand.errors import GateRefusal, ModelError
from demand.gate import champion_gate, is_tie
from demand.metrics import Floats, Interval
from demand.predictor import Predictor
from demand.serving.mlflow_model import HELD_OUT
from demand.serving.model_files import load_predictor, require_whole
from demand.serving.registry import Registry
from demand.serving.tracking import TrackedRun, open_run
from demand.serving.versions import RegisteredVersion

# With fewer ads that neither model has seen, a comparison would be a coin toss.
COMPARABLE_MIN = 100

SELLERS_FILE, LINEAGE_FOLDER = "training_sellers.npy", "lineage"


@dataclass(frozen=True)
class Promotion:
    """What became of a challenger.

    Parameters
    ----------
    version
        The champion now.
    promoted
        It was made champion by this call; False where it was before.
    reason
        One line for people.
    """

    version: RegisteredVersion
    promoted: bool
    reason: str


def log_sellers(run: TrackedRun, sellers: Iterable[str]) -> None:
    """Keep with a run which sellers its judged fit learnt from, as sorted 64-bit hashes.

    A later model is compared with this one on sellers that neither has seen.
    """
    with tempfile.TemporaryDirectory() as temporary:
        np.save(Path(temporary) / SELLERS_FILE, np.unique(_hashes(sellers)), allow_pickle=False)
        run.log_folder(Path(temporary), LINEAGE_FOLDER)


def champion_answers(
    version: str | None, ads: pd.DataFrame
) -> tuple[Floats | None, NDArray[np.bool_]]:
    """Return the champion's answers, and for which ads they are a fair comparison.

    Parameters
    ----------
    version
        The champion's version; None where there is none.
    ads
        Typed ads, shape (n, columns), that the challenger has not seen.

    Returns
    -------
    answers
        Shape (n,); None where there is no champion, or where its files are damaged: a
        broken champion must not keep a whole one from its place.
    fresh
        The ads to compare on, shape (n,): those of sellers that the champion was trained
        without. If they are fewer than ``COMPARABLE_MIN``, all ads: the champion knows
        some of them by heart, so that the challenger's gate is narrower, never wider.
    """
    everything = np.ones(len(ads), dtype=bool)
    if version is None:
        return None, everything
    fresh = unseen_by(version, ads["user_id"])
    try:
        answers = judged_predictor(version).predict(ads)
    except ModelError:
        return None, everything
    return answers, fresh if fresh.sum() >= COMPARABLE_MIN else everything


def unseen_by(version: str, sellers: Iterable[str]) -> NDArray[np.bool_]:
    """Say for each ad's seller whether the model of ``version`` was trained without them.

    Shape (ads,). Where the run's record is gone, nobody counts as unseen.
    """
    from mlflow.exceptions import MlflowException

    hashes = _hashes(sellers)
    run = open_run(Registry().version(version).run_id)
    try:
        path = run.client.download_artifacts(run.run_id, f"{LINEAGE_FOLDER}/{SELLERS_FILE}")
        return ~np.isin(hashes, np.load(path, allow_pickle=False))
    except (OSError, EOFError, ValueError, MlflowException):
        return np.zeros(len(hashes), dtype=bool)


def champion_predictor(version: str) -> Predictor:
    """Load the Predictor of a registered version.

    Raises
    ------
    ModelError
        Its files are missing or were changed after it was registered.
    """
    found = Registry().version(version)
    return load_predictor(found.version, found.source, found.files_sha256)


def judged_predictor(version: str) -> Predictor:
    """Load the fit of a registered version whose figures are known.

    Where what serves was refitted on all ads, that is the fit before it, which has not
    learnt from its test ads.

    Raises
    ------
    ModelError
        As :func:`champion_predictor`.
    """
    found = Registry().version(version)
    held_out = found.source / HELD_OUT
    if not held_out.is_dir():
        return load_predictor(found.version, found.source, found.files_sha256)
    require_whole(found.version, found.source, found.files_sha256)
    return Predictor.load(held_out)


def promote_challenger(
    model_id: str,
    *,
    data_md5: str,
    fingerprint: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str | None],
    compared: str | None,
    margin: float,
) -> Promotion:
    """Register a logged model as challenger and make it champion, if it may be.

    Parameters
    ----------
    model_id
        MLflow's id of the logged model.
    data_md5, fingerprint, metrics, tags
        What the registry keeps with the version. ``metrics`` holds the comparison with
        the champion, where there was one: ``champion_difference`` and its bounds.
    compared
        The champion's version when the metrics were made; None where there was none.
    margin
        See :func:`demand.gate.champion_gate`.

    Raises
    ------
    GateRefusal
        The champion stays, because the challenger is worse, was rolled back before, or
        was compared with another champion.
        (A twin or a tie is no refusal: nothing is wrong with the model.)
    """
    registry = Registry()
    try:
        version = registry.register_challenger(
            model_id, data_md5=data_md5, fingerprint=fingerprint, metrics=metrics, tags=tags
        )
    except ModelError as error:
        raise ModelError(f"{error}; train it anew with --no-cache") from error
    champion = registry.champion()
    if champion is not None and champion.version == version.version:
        return Promotion(version, False, "the champion was made of the same data, code and config")
    if compared != (champion.version if champion else None):
        raise GateRefusal(
            "champion", "the champion changed while this model was trained: run again to compare"
        )
    if _was_rolled_back(registry, version.version):
        raise GateRefusal(
            "champion",
            f"the same data, code and config made version {version.version}, which was rolled "
            f"back: put it back with `demand rollback --to {version.version}` if that is wanted",
        )
    difference = _difference(metrics)
    decision = champion_gate(difference, margin)
    if champion is not None and difference is not None and is_tie(difference):
        return Promotion(champion, False, decision.reason)
    decision.require()
    reason = decision.reason
    if champion is not None and difference is None:
        reason = f"the champion, version {champion.version}, is damaged: not compared"
    return Promotion(registry.promote(version.version, reason), True, reason)


def _was_rolled_back(registry: Registry, version: str) -> bool:
    """Say whether somebody went back from this version and nobody put it back since."""
    rolled_back = False
    for change in registry.history():
        if change.to_version == version:
            rolled_back = False
        elif change.action == "rollback" and change.from_version == version:
            rolled_back = True
    return rolled_back


def _difference(metrics: Mapping[str, float]) -> Interval | None:
    if "champion_difference" not in metrics:
        return None
    name = "champion_difference"
    return Interval(metrics[name], metrics[f"{name}_low"], metrics[f"{name}_high"])


def _hashes(sellers: Iterable[str]) -> NDArray[np.uint64]:
    digests = b"".join(blake2b(seller.encode(), digest_size=8).digest() for seller in sellers)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
