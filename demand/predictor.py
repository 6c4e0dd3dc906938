"""The one object that answers: features and weights, saved as one directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from demand.ads import REQUEST_REQUIRED
from demand.config import FeatureSettings
from demand.errors import ModelError, StateError
from demand.features.builder import FeatureBuilder
from demand.features.columns import BLOCK, AdColumns, Floats
from demand.features.keys import CATEGORY, PARENT, parents
from demand.forward import Forward, Weights
from demand.intervals import Intervals
from demand.packing import pack, unpack
from demand.ranks import Ranks
from demand.state import read_json, write_aside_folder, write_json

if TYPE_CHECKING:
    import pandas as pd

    from demand.explanation import Explanation

FORMAT = 3
JSON_NAME, ARRAYS_NAME = "predictor.json", "arrays.safetensors"
INTERVALS, RANKS = "intervals", "ranks"


@dataclass(frozen=True)
class Answers:
    """All that is said of n ads, each of shape (n,).

    Parameters
    ----------
    probability
        Deal probability, in [0, 1].
    low, high
        Where the outcome lies with a probability of 80 %; None where the model has no
        intervals.
    percentile
        Share of its category's ads that the model gives less, in [0, 1]; None where the
        model has no ranks.
    """

    probability: Floats
    low: Floats | None
    high: Floats | None
    percentile: Floats | None

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """Return what is said of some ads and then of others, by the same model."""
        if len(parts) == 1:
            return parts[0]

        def of_all(name: str) -> Floats | None:
            arrays = [getattr(part, name) for part in parts]
            return None if arrays[0] is None else np.concatenate(arrays)

        probability = np.concatenate([part.probability for part in parts])
        return cls(probability, of_all("low"), of_all("high"), of_all("percentile"))


class Predictor:
    """From raw ads to deal probabilities, without torch and without pickle.

    Parameters
    ----------
    builder
        The fitted features.
    weights
        The network's weights; they are rounded here to what is saved, so that a
        Predictor answers the same before it is saved and after it is loaded.
    """

    def __init__(self, builder: FeatureBuilder, weights: Weights) -> None:
        self._set(pack(builder, weights), builder.settings)

    def _set(self, packed: dict[str, NDArray[Any]], settings: FeatureSettings) -> None:
        self._packed = packed
        self._builder, weights = unpack(packed, settings)
        self._forward = Forward(weights)
        known = f"{INTERVALS}.pooled" in packed
        self._intervals = Intervals.read(packed, INTERVALS) if known else None
        self._ranks = Ranks.read(packed, RANKS) if f"{RANKS}.keys" in packed else None

    def with_intervals(self, intervals: Intervals) -> Self:
        """Return the same model, with intervals that were calibrated for it."""
        return self._with(intervals, INTERVALS)

    def with_ranks(self, ranks: Ranks) -> Self:
        """Return the same model, with the ranks of its answers."""
        return self._with(ranks, RANKS)

    def _with(self, table: Intervals | Ranks, name: str) -> Self:
        other = type(self).__new__(type(self))
        packed = dict(self._packed)
        table.store(packed, name)
        other._set(packed, self._builder.settings)
        return other

    def predict(self, ads: pd.DataFrame) -> NDArray[np.float64]:
        """Return the deal probability of each ad, shape (n,), in [0, 1].

        Columns may come in any order; all but ``title`` and ``category_name`` may be
        absent, and any value may be missing.

        Raises
        ------
        ModelError
            A required column is absent; it is named.
        """
        absent = [name for name in REQUEST_REQUIRED if name not in ads.columns]
        if absent:
            raise ModelError(f"the ads have no column {', '.join(absent)}; every ad needs it")
        if len(ads) <= BLOCK:  # a slice of one ad would cost as much as its answer
            return self._answer(AdColumns.from_frame(ads))
        blocks = [
            self._answer(AdColumns.from_frame(ads.iloc[first : first + BLOCK]))
            for first in range(0, len(ads), BLOCK)
        ]
        return np.concatenate(blocks)

    def answer(self, ads: AdColumns) -> Answers:
        """Return all that is to be said of n ads."""
        return Answers.joined([self._answer_block(block) for block in ads.blocks()])

    def _answer_block(self, ads: AdColumns) -> Answers:
        coded = self._builder.coded(ads)
        probability = self._forward(self._builder.of_block(coded))
        low = high = percentile = None
        if self._intervals is not None:
            low, high = self._intervals.bounds(probability, coded.hashes[PARENT])
        if self._ranks is not None:
            percentile = self._ranks.percentiles(probability, coded.hashes[CATEGORY])
        return Answers(probability, low, high, percentile)

    @property
    def size_bytes(self) -> int:
        """Size of the arrays as they are saved, which is nearly that of the whole."""
        return sum(array.nbytes for array in self._packed.values())

    @property
    def has_intervals(self) -> bool:
        """Whether :meth:`interval` has an answer."""
        return self._intervals is not None

    def interval(self, ads: pd.DataFrame) -> tuple[Floats, Floats]:
        """Return where the outcome of each ad lies with a probability of 80 %.

        Returns
        -------
        low, high
            Each of shape (n,), with 0 <= low <= prediction <= high <= 1; see
            :meth:`demand.intervals.Intervals.bounds`.

        Raises
        ------
        ModelError
            As :meth:`predict`; or no intervals were calibrated for this model.
        """
        if self._intervals is None:
            raise ModelError("this model has no intervals: too few ads were held out for them")
        return self._intervals.bounds(self.predict(ads), parents_of(ads))

    def explain(self, ad: Mapping[str, Any], *, permutations: int = 32) -> Explanation:
        """Return what each field of an ad contributes to its prediction.

        See :func:`demand.explanation.explain`; contributions add up to the prediction.
        """
        import pandas as pd

        from demand.explanation import explain

        def answers(ads: Sequence[Mapping[str, Any]]) -> Floats:
            return self.predict(pd.DataFrame(list(ads)))

        return explain(answers, ad, permutations=permutations)

    def predict_one(self, ad: Mapping[str, Any]) -> float:
        """Return the deal probability of one ad given as a mapping."""
        return float(self._answer(AdColumns.from_record(ad))[0])

    def _answer(self, ads: AdColumns) -> NDArray[np.float64]:
        return self._forward(self._builder.transform(ads))

    def save(self, folder: Path) -> None:
        """Write ``predictor.json`` and ``arrays.safetensors``; all or nothing."""
        from safetensors.numpy import save

        with write_aside_folder(folder) as aside:
            # safetensors' header takes the names in order of dtype and name, so equal
            # arrays give equal bytes.
            (aside / ARRAYS_NAME).write_bytes(save(self._packed))
            settings = self._builder.settings.model_dump()
            write_json(aside / JSON_NAME, {"format": FORMAT, "features": settings})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a saved Predictor.

        Raises
        ------
        ModelError
            The folder is no Predictor, is damaged, or is of another format.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not (folder / JSON_NAME).is_file():
            raise ModelError(f"{folder} holds no model: {JSON_NAME} is missing")
        try:
            about = read_json(folder / JSON_NAME)
        except StateError as error:
            raise _damaged(folder, error) from error
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            found = about.get("format") if isinstance(about, dict) else None
            raise ModelError(
                f"{folder} is a model of format {found!r}, this version reads {FORMAT}: "
                "retrain with `python run.py --pipeline training`"
            )
        predictor = cls.__new__(cls)
        try:
            settings = FeatureSettings.model_validate(about["features"])
            predictor._set(load_file(folder / ARRAYS_NAME), settings)
            # One answer takes every array: one that is missing or of another shape shows now.
            predictor.answer(AdColumns.from_record({}))
        except (OSError, SafetensorError, LookupError, ValueError) as error:
            raise _damaged(folder, error) from error
        return predictor


def parents_of(ads: pd.DataFrame) -> list[str | None]:
    """Return the parent category of each ad, None where it is neither given nor known."""
    columns = AdColumns.from_frame(ads)
    return parents(columns.text["parent_category_name"], columns.text["category_name"])


def _damaged(folder: Path, error: Exception) -> ModelError:
    return ModelError(
        f"the model in {folder} is damaged ({type(error).__name__}: {error}): "
        "retrain, or go back with `demand rollback`"
    )
