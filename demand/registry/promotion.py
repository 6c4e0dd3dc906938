"""From a model that passed its gates to the champion, or the reason why not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demand.errors import GateRefusal, ModelError, StateError
from demand.evaluation.evaluate import champion_gate, is_tie
from demand.evaluation.metrics import Floats, Interval
from demand.registry.model_files import load_predictor
from demand.registry.registry import Registry
from demand.registry.tracking import TrackedRun, open_run
from demand.registry.versions import RegisteredVersion

# With fewer ads that neither model has seen, a comparison would be a coin toss.
COMPARABLE_MIN = 100

SELLERS_FILE, LINEAGE_FOLDER = "training_sellers.npy", "lineage"
_Refusal = partial(GateRefusal, "champion")


class Promotion(NamedTuple):
    """What became of a challenger: the champion now, whether this call made it so, and why."""

    version: RegisteredVersion
    promoted: bool
    reason: str


def log_sellers(run: TrackedRun, sellers: Iterable[str]) -> None:
    """Keep with a run which sellers its judged fit learnt from, as sorted 64-bit hashes.

    A later model is compared with this one on sellers that neither has seen.
    """
    with tempfile.TemporaryDirectory() as temporary:
        np.save(Path(temporary) / SELLERS_FILE, np.unique(_hashes(sellers)), allow_pickle=False)
        run.client.log_artifacts(run.run_id, temporary, LINEAGE_FOLDER)


def champion_answers(
    version: str | None, ads: pd.DataFrame
) -> tuple[Floats | None, NDArray[np.bool_]]:
    """Return the answers of the champion's version, and for which ads they are a fair comparison.

    Both have the shape (n,); answers are None where there is no champion. ``ads``, typed, are
    such that the challenger has not seen. To be compared on are those of sellers that the
    champion was trained without. If they are fewer than ``COMPARABLE_MIN``, all are: the
    champion knows some of them by heart, so that the challenger's gate is narrower, never wider.
    A champion that cannot be read is a GateRefusal: what cannot be compared is not promoted.
    """
    everything = np.ones(len(ads), dtype=bool)
    if version is None:
        return None, everything
    registry = Registry()
    champion = registry.version(version)
    told = registry.damage(champion)
    if told is not None:
        raise _Refusal(f"there is nothing to compare with: {told}")
    try:
        answers = load_predictor(champion, judged=True).predict(ads)
    except ModelError as error:
        raise _Refusal(
            f"the champion, version {version}, cannot be compared with: {error}; before another "
            "can take its place, go back with `demand rollback`, or leave no champion with "
            "`demand withdraw`"
        ) from error
    fresh = unseen_by(champion, ads["user_id"])
    return answers, fresh if fresh.sum() >= COMPARABLE_MIN else everything


def withdraw_unreadable(reason: str) -> str:
    """Leave no champion where its files are lost, and return the version that it was.

    The next promotion is compared with none. This is for a champion that nothing brings
    back: that one can be read, or that there is none, is a ModelError.
    """
    registry = Registry()
    champion = registry.champion()
    if champion is None:
        raise ModelError("there is no champion to withdraw")
    try:
        load_predictor(champion)
        load_predictor(champion, judged=True)
    except ModelError as error:
        registry.remove_champion(champion.version, f"{reason}: {error}")
        return champion.version
    raise ModelError(
        f"version {champion.version} is whole and stays champion: "
        "`demand rollback` goes back to the one before it"
    )


def unseen_by(version: RegisteredVersion, sellers: Iterable[str]) -> NDArray[np.bool_]:
    """Say for each ad's seller whether the model of ``version`` was trained without them.

    Shape (ads,). Where the run's record is gone, nobody counts as unseen.
    """
    from mlflow.exceptions import MlflowException

    hashes = _hashes(sellers)
    try:
        run = open_run(version.run_id)
        path = run.client.download_artifacts(run.run_id, f"{LINEAGE_FOLDER}/{SELLERS_FILE}")
        return ~np.isin(hashes, np.load(path, allow_pickle=False))
    except (OSError, EOFError, ValueError, MlflowException, StateError):
        return np.zeros(len(hashes), dtype=bool)


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

    The metrics are kept with the version, as ``data_md5``, ``fingerprint`` and ``tags`` are.
    They hold the comparison with the champion, where there was one: ``champion_difference``
    and its bounds. ``compared`` was the champion's version then, None where there was none;
    for ``margin`` see :func:`demand.evaluation.evaluate.champion_gate`.

    Where the challenger is worse, was rolled back before, or was compared with another
    champion or with none, a GateRefusal keeps the champion. A twin or a tie is no refusal:
    nothing is wrong with the model.
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
        raise _Refusal("the champion changed while this model was trained: run again to compare")
    # Whether somebody went back from it and nobody put it back since.
    about = [
        change.to_version == version.version
        for change in registry.history()
        if change.to_version == version.version
        or (change.action == "rollback" and change.from_version == version.version)
    ]
    if about and not about[-1]:
        raise _Refusal(
            f"the same data, code and config made version {version.version}, which was rolled "
            f"back: put it back with `demand rollback --to {version.version}` if that is wanted"
        )
    name, difference = "champion_difference", None
    if name in metrics:
        difference = Interval(metrics[name], metrics[f"{name}_low"], metrics[f"{name}_high"])
    if champion is not None and difference is None:
        compare = f"the model was not compared with the champion, version {champion.version}"
        raise _Refusal(f"{compare}: run again")
    decision = champion_gate(difference, margin)
    if champion is not None and difference is not None and is_tie(difference):
        return Promotion(champion, False, decision.reason)
    if not decision.passed:
        raise _Refusal(decision.reason)
    return Promotion(registry.promote(version.version, decision.reason), True, decision.reason)


def _hashes(sellers: Iterable[str]) -> NDArray[np.uint64]:
    digests = b"".join(blake2b(seller.encode(), digest_size=8).digest() for seller in sellers)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
