"""Ours in the comparison: trained as the training pipeline does, and its variants.

A variant is a line in :data:`VARIANTS`; ``python -m benchmarks.quality --models KEY``
then runs it, and everybody else's folds are its folds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from benchmarks.fidelity_models import Floats
from benchmarks.quality_folds import Entry, Family, Fit, Prepared
from demand.ads import INPUT_COLUMNS, REQUEST_REQUIRED
from demand.config import SplitSettings, TrainingConfig
from demand.features.feature_set import build_features
from demand.predictor import Predictor
from demand.refitting import refit
from demand.splitting import split_ads
from demand.trainer import train as fit_network

OPTIONAL = tuple(c.name for c in INPUT_COLUMNS if c.name not in REQUEST_REQUIRED)
IMAGE_COLUMNS = ("image", "image_top_1")
# Not the seller's id: it only says which ads must not be parted.
SELLER_COLUMNS = ("user_type", "item_seq_number")
SEEDS = (42, 43, 44, 45, 46)


@dataclass(frozen=True)
class Variant:
    """Ours with something else.

    Parameters
    ----------
    changes
        Of the configuration: by section, then by key.
    without
        Columns that neither training nor test ads have.
    """

    key: str
    name: str
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    without: tuple[str, ...] = ()


VARIANTS = (
    Variant("ours-gru", "ours with a GRU", {"features": {"text_encoder": "gru"}}),
    Variant("ours-attention", "ours with attention", {"features": {"text_encoder": "attention"}}),
    Variant("ours-no-image", "ours without image information", without=IMAGE_COLUMNS),
    Variant("ours-no-seller", "ours without seller information", without=SELLER_COLUMNS),
)


def ours(
    train: pd.DataFrame, test: pd.DataFrame, config: TrainingConfig, seed: int
) -> tuple[Floats, Predictor]:
    """Train on ``train`` as the pipeline does, and answer ``test``.

    Some of its sellers are held out for early stopping, then all of it is learnt from.

    Parameters
    ----------
    train
        Typed ads with their target.
    test
        Typed ads without it, shape (rows, 17).
    seed
        Of the split, the features and the network.
    """
    # There is no test part here: both other parts train.
    share = config.split.validation_share
    parts = split_ads(train, SplitSettings(test_share=share, validation_share=share), seed)
    training = pd.concat([parts.train, parts.validation], ignore_index=True)
    features = build_features(training, parts.test, config.features, seed)
    trained = fit_network(features, config.training, seed)
    predictor = trained.predictor
    if config.training.refit:
        predictor = refit(train, trained.best_epoch, config.features, config.training, seed)
    return predictor.predict(test), predictor


def our_entries(config: TrainingConfig, seeds: tuple[int, ...] = SEEDS) -> list[Entry]:
    """Return the line of one seed, that of all seeds averaged, and the variants'."""
    family = Family("ours", lambda _: Prepared(_fit(config)), missing=OPTIONAL)
    return [
        Entry("ours", "ours", family, seeds[:1]),
        Entry("ours5", f"ours, {len(seeds)} seeds averaged", family, seeds),
        *(Entry(v.key, v.name, _variant_family(config, v), seeds[:1]) for v in VARIANTS),
    ]


def changed(config: TrainingConfig, changes: dict[str, dict[str, Any]]) -> TrainingConfig:
    """Return the configuration with changes; an unknown section or key is an error."""
    sections = config.model_dump()
    for section, values in changes.items():
        sections[section] = {**sections.get(section, {}), **values}
    return TrainingConfig.model_validate(sections)


def _fit(config: TrainingConfig) -> Fit:
    return lambda train, test, seed: ours(train, test, config, seed)


def _variant_family(config: TrainingConfig, variant: Variant) -> Family:
    # The columns stay, since the split and validation count on them, but hold nothing.
    emptied = dict.fromkeys(variant.without, None)

    def prepare(_: pd.DataFrame) -> Prepared:
        varied = changed(config, variant.changes)

        def fit(train: pd.DataFrame, test: pd.DataFrame, seed: int) -> tuple[Floats, Predictor]:
            return ours(train.assign(**emptied), test.assign(**emptied), varied, seed)

        return Prepared(fit, variant.changes)

    return Family(variant.key, prepare)
