"""Ours in the comparison: trained as the training pipeline does, and its variants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.models.folds import Entry, Model
from demand.config import SplitSettings, TrainingConfig
from demand.data.splitting import split_ads
from demand.features.feature_set import build_features
from demand.features.training_ads import TrainingAds
from demand.model.predictor import Predictor
from demand.model.training import refit, train
from demand.schema.arrays import Floats
from demand.schema.columns import INPUT_COLUMNS, REQUEST_REQUIRED

OPTIONAL = tuple(c.name for c in INPUT_COLUMNS if c.name not in REQUEST_REQUIRED)
IMAGE_COLUMNS = ("image", "image_top_1")
# Not the seller's id: it only says which ads must not be parted.
SELLER_COLUMNS = ("user_type", "item_seq_number")
SEEDS = (42, 43, 44, 45, 46)


def held_out(ads: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide training ads as the pipeline does; return the larger part, and one to stop early by.

    A ``share`` of the sellers is in the latter.
    """
    parts = split_ads(ads, SplitSettings(test_share=share, validation_share=share), seed)
    # There is no test part here: both other parts train.
    training = ads.iloc[np.concatenate([parts.train, parts.validation])]
    return training.reset_index(drop=True), ads.iloc[parts.test].reset_index(drop=True)


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
        training, held = held_out(ads, config.split.validation_share, self.seed)
        known = TrainingAds(training)
        features = build_features(known, held, config.features, self.seed)
        trained = train(features, config.training, self.seed, ads=known)
        self.predictor: Predictor = trained.predictor
        if config.training.refit:
            self.predictor = refit(
                ads, trained.best_epoch, features.builder.settings, config.training, self.seed
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

    def entry(key: str, name: str, make: Callable[[int], Model]) -> Entry:
        return Entry(f"ours-{key}", f"ours {name}", lambda _: make, seeds[:1], optional=True)

    ours = partial(Ours, config)
    first = Entry("ours", "ours", lambda _: ours, seeds[:1], missing=OPTIONAL)
    return [
        first,
        replace(first, key="ours5", name=f"ours, {len(seeds)} seeds averaged", seeds=seeds),
        entry("no-image", "without image information", partial(ours, without=IMAGE_COLUMNS)),
        entry("no-seller", "without seller information", partial(ours, without=SELLER_COLUMNS)),
    ]
