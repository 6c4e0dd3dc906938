"""Ours in the comparison: trained as the training pipeline does, and its variants.

A variant is a line in :data:`VARIANTS`; ``python -m benchmarks.quality --models KEY``
then runs it, and everybody else's folds are its folds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.quality_folds import Entry, Family
from benchmarks.quality_sequences import SequenceModel
from demand.config import SplitSettings, TrainingConfig
from demand.data.splitting import split_ads
from demand.evaluation.metrics import Floats
from demand.features.builder import build_features
from demand.model.predictor import Predictor
from demand.model.training import refit
from demand.model.training import train as fit_network
from demand.schema.columns import INPUT_COLUMNS, REQUEST_REQUIRED

OPTIONAL = tuple(c.name for c in INPUT_COLUMNS if c.name not in REQUEST_REQUIRED)
IMAGE_COLUMNS = ("image", "image_top_1")
# Not the seller's id: it only says which ads must not be parted.
SELLER_COLUMNS = ("user_type", "item_seq_number")
SEEDS = (42, 43, 44, 45, 46)


@dataclass(frozen=True)
class Variant:
    """Ours with something else.

    ``without`` are columns that neither training nor test ads have; ``encoder`` is one of
    :data:`benchmarks.quality_sequences.ENCODERS`, which then reads the texts.
    """

    key: str
    name: str
    without: tuple[str, ...] = ()
    encoder: str = ""


VARIANTS = (
    Variant("ours-gru", "ours with a GRU", encoder="gru"),
    Variant("ours-attention", "ours with attention", encoder="attention"),
    Variant("ours-no-image", "ours without image information", without=IMAGE_COLUMNS),
    Variant("ours-no-seller", "ours without seller information", without=SELLER_COLUMNS),
)


class Ours:
    """A Predictor, trained as the pipeline does; the seed is that of split and network.

    The columns ``without`` are emptied; they stay, since the split counts on them.
    """

    def __init__(self, config: TrainingConfig, seed: int, without: tuple[str, ...] = ()) -> None:
        self.config = config
        self.seed = seed
        self.emptied = dict.fromkeys(without, None)

    def fit(self, ads: pd.DataFrame) -> Ours:
        """Hold some sellers out for early stopping, then learn from all ads."""
        ads, config = ads.assign(**self.emptied), self.config
        # There is no test part here: both other parts train.
        share = config.split.validation_share
        settings = SplitSettings(test_share=share, validation_share=share)
        parts = split_ads(ads, settings, self.seed)
        training = pd.concat([parts.train, parts.validation], ignore_index=True)
        features = build_features(training, parts.test, config.features, self.seed)
        trained = fit_network(features, config.training, self.seed)
        self.predictor: Predictor = trained.predictor
        if config.training.refit:
            self.predictor = refit(
                ads, trained.best_epoch, config.features, config.training, self.seed
            )
        return self

    def predict(self, ads: pd.DataFrame) -> Floats:
        """Return a probability an ad, shape (rows,)."""
        return self.predictor.predict(ads.assign(**self.emptied))

    def save(self, folder: Path) -> None:
        """Write the Predictor."""
        self.predictor.save(folder)


def our_entries(config: TrainingConfig, seeds: tuple[int, ...] = SEEDS) -> list[Entry]:
    """Return the line of one seed, that of all seeds averaged, and the variants'."""
    family = Family("ours", lambda _: lambda seed: Ours(config, seed), missing=OPTIONAL)
    return [
        Entry("ours", "ours", family, seeds[:1]),
        Entry("ours5", f"ours, {len(seeds)} seeds averaged", family, seeds),
        *(Entry(v.key, v.name, _variant_family(config, v), seeds[:1]) for v in VARIANTS),
    ]


def _variant_family(config: TrainingConfig, variant: Variant) -> Family:
    if variant.encoder:
        return Family(
            variant.key, lambda _: lambda seed: SequenceModel(config, variant.encoder, seed)
        )
    return Family(variant.key, lambda _: lambda seed: Ours(config, seed, variant.without))
