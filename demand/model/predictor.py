"""The one object that answers: features and weights, saved as one directory.

With the forward pass, which needs no torch, and how a fitted model becomes few and small arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from demand.config import FeatureSettings
from demand.errors import ModelError, StateError
from demand.features.builder import FeatureBuilder, Features
from demand.features.encoding import BLOCK, AdColumns, parents
from demand.features.kernels import CATEGORY, PARENT, deal_probabilities
from demand.model.calibration import Intervals, Percentiles
from demand.schema.arrays import Floats
from demand.schema.columns import REQUEST_REQUIRED
from demand.workspace.workspace import read_json, write_aside_folder, write_json

if TYPE_CHECKING:
    import pandas as pd

    from demand.model.explanation import Explanation


Weights = Mapping[str, NDArray[Any]]

_FEATURES, _WEIGHTS, _WIDE = "features.", "weights.", "weights.wide."
_STEP_MAX = np.iinfo(np.uint16).max


class Inference:
    """From features to deal probabilities.

    The same arithmetic as :class:`demand.model.network.Wide` and
    :class:`demand.model.network.DemandNetwork` in evaluation; a test holds them together.
    The weights are ``wide.table`` (buckets,) and ``wide.bias`` (1,), and of the layers of the
    deep path ``deep.0.weight`` (outputs, inputs), ``deep.0.bias`` and so on.

    Raises
    ------
    LookupError, ValueError
        Arrays are missing, or do not fit together.
    """

    def __init__(self, weights: Weights) -> None:
        self._table = np.require(weights["wide.table"], np.float32, ("C", "W"))
        self._bias = float(weights["wide.bias"][0])
        self._deep, self._sizes = _layers(weights)

    def __call__(self, features: Features) -> Floats:
        """Return deal probabilities, shape (n,), in [0, 1].

        Raises
        ------
        ValueError
            The network is for other features.
        """
        dense, sparse = features.dense, features.sparse
        if dense.shape[1] != self._sizes[0]:
            raise ValueError(f"{dense.shape[1]} features, but weights for {self._sizes[0]}")
        network = self._table, self._bias, dense, self._deep, self._sizes
        return deal_probabilities(sparse.row, sparse.bucket, sparse.weight, *network)


def _layers(weights: Weights) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return all layers as one array, and their sizes, the inputs' first.

    A layer's weights come as (inputs, outputs), and then its biases.
    """
    parts: list[NDArray[Any]] = []
    sizes = [weights["deep.0.weight"].shape[1]]
    while (name := f"deep.{len(sizes) - 1}") in {key.rpartition(".")[0] for key in weights}:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if weight.shape != (len(bias), sizes[-1]) or bias.ndim != 1:
            raise ValueError(f"{name} is of shape {weight.shape}, and {bias.shape} its bias")
        parts += [weight.T.ravel(), bias]
        sizes.append(len(bias))
    if sizes[-1] != 1:
        raise ValueError(f"the last layer has {sizes[-1]} outputs")
    return np.concatenate(parts).astype(np.float32), np.array(sizes, np.int64)


def quantize(builder: FeatureBuilder, weights: Weights) -> dict[str, NDArray[Any]]:
    """Round to what is worth keeping.

    Of the wide path's table, those weights that are not zero, in 8 bits; 16 bits for the
    rest of the network and for group means.
    """
    quantized: dict[str, NDArray[Any]] = {}
    for name, array in builder.arrays.items():
        small = name.endswith(".means")
        quantized[f"{_FEATURES}{name}"] = array.astype(np.float16) if small else array
    for name, weight in weights.items():
        if name == "wide.table":
            quantized |= {f"{_WIDE}{part}": array for part, array in quantize_table(weight).items()}
        else:
            quantized[f"{_WEIGHTS}{name}"] = weight.astype(np.float16)
    return {name: np.ascontiguousarray(array) for name, array in quantized.items()}


def dequantize(
    quantized: Mapping[str, NDArray[Any]], settings: FeatureSettings
) -> tuple[FeatureBuilder, dict[str, NDArray[Any]]]:
    """Undo :func:`quantize`, into the types that compute fast; other arrays are left alone.

    Raises
    ------
    LookupError, ValueError
        Arrays are missing, or do not fit together.
    """
    arrays, weights = {}, {}
    for name, array in quantized.items():
        wide = array.astype(np.float32) if array.dtype == np.float16 else array
        if name.startswith(_FEATURES):
            arrays[name.removeprefix(_FEATURES)] = wide
        elif name.startswith(_WEIGHTS):
            weights[name.removeprefix(_WEIGHTS)] = wide
    table = {part: weights.pop(f"wide.{part}") for part in ("step", "weight", "scale")}
    weights["wide.table"] = dequantize_table(table, settings.table_size)
    return FeatureBuilder(settings, arrays), weights


def quantize_table(table: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Keep what is not zero of a table: the steps from place to place, and 8 bits each.

    Returns ``step``, uint16, and ``weight``, int8, both of shape (kept,); ``scale``, float32, (1,).
    """
    scale = np.maximum(np.abs(table).max(initial=0.0), 1e-12) / 127.0
    rounded = np.rint(table / scale).astype(np.int8)
    place = np.flatnonzero(rounded)
    step = np.diff(place, prepend=-1)
    # A step that is too long for 16 bits is made in several, over weights of zero.
    between = (step - 1) // _STEP_MAX
    last = np.cumsum(between + 1) - 1
    steps = np.full(len(place) + between.sum(), _STEP_MAX, dtype=np.uint16)
    steps[last] = step - between * _STEP_MAX
    weight = np.zeros(len(steps), dtype=np.int8)
    weight[last] = rounded[place]
    return {"step": steps, "weight": weight, "scale": np.array([scale], dtype=np.float32)}


def dequantize_table(quantized: Mapping[str, NDArray[Any]], buckets: int) -> NDArray[np.float32]:
    """Undo :func:`quantize_table`: the whole table, shape (buckets,).

    Raises
    ------
    IndexError, ValueError
        There are more places than buckets, or not as many steps as weights.
    """
    table = np.zeros(buckets, dtype=np.float32)
    place = np.cumsum(quantized["step"].astype(np.int64)) - 1
    table[place] = quantized["weight"] * quantized["scale"]
    return table


FORMAT = 3
JSON_NAME, ARRAYS_NAME = "predictor.json", "arrays.safetensors"
# Settings of models that were saved when texts could also be read by a GRU or by attention;
# they say nothing where texts were read as n-grams.
_GONE = ("text_encoder", "sequence_words_max", "sequence_buckets")


class Answers(NamedTuple):
    """All that is said of n ads, each of shape (n,); None where the model has no table for it."""

    probability: Floats  # deal probability, in [0, 1]
    low: Floats | None  # between low and high the outcome lies with a probability of 80 %
    high: Floats | None
    percentile: Floats | None  # share of its category's ads that the model gives less, in [0, 1]

    @property
    def interval(self) -> tuple[Floats, Floats] | None:
        """Both ends of the interval, where the model has one."""
        return None if self.low is None or self.high is None else (self.low, self.high)


class Predictor:
    """From raw ads to deal probabilities, without torch and without pickle.

    Beside the settings of its features, ``arrays`` are all of its state by name, as
    :func:`quantize` leaves it; intervals and percentiles may be among it.

    Raises
    ------
    LookupError, ValueError
        Arrays are missing, or do not fit together.
    """

    def __init__(self, arrays: dict[str, NDArray[Any]], settings: FeatureSettings) -> None:
        self._arrays, self._settings = arrays, settings
        self._builder, weights = dequantize(arrays, settings)
        self.infer = Inference(weights)
        self._intervals = Intervals.from_arrays(arrays)
        self._percentiles = Percentiles.from_arrays(arrays)

    @classmethod
    def of(cls, builder: FeatureBuilder, weights: Weights) -> Self:
        """Make one of fitted features and the network's weights.

        These are rounded here to what is saved, so that a Predictor answers the same before
        it is saved and after it is loaded.
        """
        return cls(quantize(builder, weights), builder.settings)

    @property
    def features(self) -> FeatureSettings:
        """Settings of the features that the model takes."""
        return self._settings

    def with_table(self, table: Intervals | Percentiles) -> Self:
        """Return the same model, with intervals or percentiles that were fitted for it."""
        return type(self)(self._arrays | table.to_arrays(), self._settings)

    def predict(self, ads: pd.DataFrame) -> Floats:
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
        firsts = range(0, len(ads), BLOCK)
        blocks = (AdColumns.from_frame(ads.iloc[first : first + BLOCK]) for first in firsts)
        return np.concatenate([self._answer(block) for block in blocks])

    def answer(self, ads: AdColumns) -> Answers:
        """Return all that is to be said of n ads."""
        parts = [self._answer_block(block) for block in ads.blocks()]
        if len(parts) == 1:
            return parts[0]
        # What the model has no table for is None in all parts.
        columns: Any = zip(*parts, strict=True)
        joined: Any = (None if each[0] is None else np.concatenate(each) for each in columns)
        return Answers(*joined)

    def _answer_block(self, ads: AdColumns) -> Answers:
        encoded = self._builder.encode(ads)
        probability = self.infer(self._builder.transform_block(encoded))
        low = high = percentile = None
        if self._intervals is not None:
            low, high = self._intervals.bounds(probability, encoded.hashes[PARENT])
        if self._percentiles is not None:
            percentile = self._percentiles.of(probability, encoded.hashes[CATEGORY])
        return Answers(probability, low, high, percentile)

    @property
    def size_bytes(self) -> int:
        """Size of the arrays as they are saved, which is nearly that of the whole."""
        return sum(array.nbytes for array in self._arrays.values())

    @property
    def has_intervals(self) -> bool:
        """Whether :meth:`interval` has an answer."""
        return self._intervals is not None

    def interval(self, ads: pd.DataFrame) -> tuple[Floats, Floats]:
        """Return where the outcome of each ad lies with a probability of 80 %.

        Low and high are each of shape (n,), with 0 <= low <= prediction <= high <= 1; see
        :meth:`demand.model.calibration.Intervals.bounds`.

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

        See :func:`demand.model.explanation.explain`; contributions add up to the prediction.
        """
        import pandas as pd

        from demand.model.explanation import explain

        def answers(ads: Sequence[Mapping[str, Any]]) -> Floats:
            return self.predict(pd.DataFrame(list(ads)))

        return explain(answers, ad, permutations=permutations)

    def predict_one(self, ad: Mapping[str, Any]) -> float:
        """Return the deal probability of one ad given as a mapping."""
        return float(self._answer(AdColumns.from_record(ad))[0])

    def _answer(self, ads: AdColumns) -> Floats:
        return self.infer(self._builder.transform(ads))

    def save(self, folder: Path) -> None:
        """Write ``predictor.json`` and ``arrays.safetensors``; all or nothing."""
        from safetensors.numpy import save

        with write_aside_folder(folder) as aside:
            # safetensors' header takes the names in order of dtype and name, so equal
            # arrays give equal bytes.
            (aside / ARRAYS_NAME).write_bytes(save(self._arrays))
            settings = self._settings.model_dump()
            write_json(aside / JSON_NAME, {"format": FORMAT, "features": settings})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a saved Predictor.

        Raises
        ------
        ModelError
            The folder is no Predictor, is damaged, is of another format, or reads texts in a
            way that is gone.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not (folder / JSON_NAME).is_file():
            raise ModelError(f"{folder} holds no model: {JSON_NAME} is missing")
        try:
            about = read_json(folder / JSON_NAME)
        except StateError as error:
            raise _damaged(folder, error) from error
        if (found := about.get("format") if isinstance(about, dict) else None) != FORMAT:
            raise ModelError(
                f"{folder} is a model of format {found!r}, this version reads {FORMAT}: "
                "retrain with `python run.py --pipeline training`"
            )
        try:
            settings = _settings(about["features"], folder)
            predictor = cls(load_file(folder / ARRAYS_NAME), settings)
            # One answer takes every array: one that is missing or of another shape shows now.
            predictor.answer(AdColumns.from_record({}))
        except (OSError, SafetensorError, LookupError, ValueError) as error:
            raise _damaged(folder, error) from error
        return predictor


def parents_of(ads: pd.DataFrame) -> list[str | None]:
    """Return the parent category of each ad, None where it is neither given nor known."""
    columns = AdColumns.from_frame(ads)
    return parents(columns.text["parent_category_name"], columns.text["category_name"])


def _settings(saved: Any, folder: Path) -> FeatureSettings:
    """Return the settings of a saved model, without those that say nothing any more."""
    if isinstance(saved, dict):
        encoder = saved.get("text_encoder", "ngrams")
        if encoder != "ngrams":
            raise ModelError(
                f"the model in {folder} reads texts by {encoder!r}, which this version cannot: "
                "retrain with `python run.py --pipeline training`"
            )
        saved = {name: value for name, value in saved.items() if name not in _GONE}
    return FeatureSettings.model_validate(saved)


def _damaged(folder: Path, error: Exception) -> ModelError:
    return ModelError(
        f"the model in {folder} is damaged ({type(error).__name__}: {error}): "
        "retrain, or go back with `demand rollback`"
    )
