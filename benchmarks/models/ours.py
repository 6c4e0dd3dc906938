"""Ours in the comparison: trained as the training pipeline does, and its variants.

Two of them read texts in the order of their words, instead of as n-grams: tried, and worse.
Their wide path gets no words and n-grams of title and description; the deep path reads them
by a GRU or by attention. All else is as in training, but nothing is rounded: what is
trained answers. ``docs/decisions.md`` has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.models.folds import Entry, Model
from demand.config import SplitSettings, TrainingConfig
from demand.data.splitting import split_ads
from demand.evaluation.metrics import rmse
from demand.features.builder import (
    FeatureBuilder,
    SparseAds,
    build_features,
    fitted_state,
    target_means,
)
from demand.features.encoding import AdColumns, letters_table
from demand.features.kernels import TokenGroup, find_words, transform_block
from demand.features.training_ads import TrainingAds
from demand.model.network import DemandNetwork, Wide, cross_fitted_logits, fit_wide
from demand.model.predictor import Predictor
from demand.model.training import CROSS_FITS, refit, train
from demand.schema.arrays import Floats
from demand.schema.columns import INPUT_COLUMNS, REQUEST_REQUIRED, TARGET

OPTIONAL = tuple(c.name for c in INPUT_COLUMNS if c.name not in REQUEST_REQUIRED)
IMAGE_COLUMNS = ("image", "image_top_1")
# Not the seller's id: it only says which ads must not be parted.
SELLER_COLUMNS = ("user_type", "item_seq_number")
SEEDS = (42, 43, 44, 45, 46)
WORDS_MAX, BUCKETS, EMBEDDING = 40, 2048, 16
PADDING = 0
_TEXT_GROUPS = [group for group in TokenGroup if group.name.startswith(("TITLE_", "DESCRIPTION_"))]


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


class GruEncoder(nn.Module):
    """The last state of a gated recurrent unit that reads a text's words.

    (Cho et al., EMNLP 2014.)

    Shape
    -----
    Input: (n, length) buckets, padding at the end. Output: (n, embedding).
    """

    def __init__(self) -> None:
        super().__init__()
        self.table = _word_table()
        self.gru = nn.GRU(EMBEDDING, EMBEDDING, batch_first=True)

    def forward(self, words: Tensor) -> Tensor:
        """Return a vector for each text; zeros where it has no words."""
        lengths = (words != PADDING).sum(dim=1)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.table[words], lengths.clamp(min=1), batch_first=True, enforce_sorted=False
        )
        state: Tensor = self.gru(packed)[1][0]
        return state * (lengths > 0)[:, None]


class AttentionEncoder(nn.Module):
    """The mean of a text's word vectors, weighted by one learnt question.

    (Yang et al., *Hierarchical attention networks*, NAACL 2016, one level.)

    Shape
    -----
    Input: (n, length) buckets, padding at the end. Output: (n, embedding).
    """

    def __init__(self) -> None:
        super().__init__()
        self.table = _word_table()
        self.question = nn.Parameter(torch.zeros(EMBEDDING))

    def forward(self, words: Tensor) -> Tensor:
        """Return a vector for each text; zeros where it has no words."""
        vectors = self.table[words]
        score = torch.exp((vectors @ self.question).clamp(-20.0, 20.0)) * (words != PADDING)
        share = score / score.sum(dim=1, keepdim=True).clamp(min=1e-12)
        return (share[:, :, None] * vectors).sum(dim=1)


ENCODERS: dict[str, type[nn.Module]] = {"gru": GruEncoder, "attention": AttentionEncoder}


class SequenceNetwork(nn.Module):
    """The deep path beside the wide one, of numbers and of what an encoder makes of a text."""

    def __init__(self, width: int, encoder: str, hidden: list[int], dropout: float) -> None:
        super().__init__()
        self.encoder = ENCODERS[encoder]()
        self.deep = DemandNetwork(width + EMBEDDING, hidden=hidden, dropout=dropout)

    def forward(self, dense: Tensor, words: Tensor, wide: Tensor) -> Tensor:
        """Return logits, shape (n,)."""
        logits: Tensor = self.deep(torch.cat([dense, self.encoder(words)], dim=1), wide)
        return logits


class SequenceModel:
    """Ours with an encoder; the seed is that of the split, the features and the network."""

    builder: FeatureBuilder
    wide: Wide
    network: SequenceNetwork

    def __init__(self, config: TrainingConfig, encoder: str, seed: int) -> None:
        self.config, self.encoder, self.seed = config, encoder, seed

    def fit(self, ads: pd.DataFrame) -> SequenceModel:
        """Find the best epoch for held out sellers, then learn so long from all ads."""
        training, held = held_out(ads, self.config.split.validation_share, self.seed)
        errors = [rmse(held[TARGET], self.predict(held)) for _ in self._epochs(training)]
        for _ in zip(range(int(np.argmin(errors)) + 1), self._epochs(ads), strict=False):
            pass
        return self

    def predict(self, ads: pd.DataFrame) -> Floats:
        """Return a deal probability for each ad, shape (n,)."""
        columns = AdColumns.from_frame(ads)
        sparse, dense = features_without_texts(self.builder, columns)
        inputs = _inputs(dense, word_sequences(self.builder, columns), self.wide.logits(sparse))
        with torch.no_grad():
            answers: Floats = torch.sigmoid(self.network.eval()(*inputs)).double().numpy()
        return answers

    def _epochs(self, ads: pd.DataFrame) -> Iterator[None]:
        """Train as :func:`demand.model.training.train` does; stop after each epoch."""
        settings, seed = self.config.training, self.seed
        built = build_features(ads, None, self.config.features, seed)
        self.builder, target = built.builder, built.training.target
        columns = AdColumns.from_frame(ads)
        sparse = features_without_texts(self.builder, columns)[0]
        how = {"buckets": self.config.features.buckets, "penalty": settings.penalty}
        self.wide = fit_wide(sparse, target, **how).pruned(sparse, settings.wide_weights)
        offsets = cross_fitted_logits(sparse, target, built.fold % CROSS_FITS, **how)
        torch.manual_seed(seed)
        torch.set_num_threads(settings.threads)
        dense = built.training.features.dense
        self.network = SequenceNetwork(
            dense.shape[1], self.encoder, settings.hidden, settings.dropout
        )
        every = [*self.network.parameters()]
        groups = [
            {"params": [p for p in every if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in every if p.ndim == 1], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate)
        steps = settings.epochs_max * math.ceil(len(ads) / settings.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser,
            lambda step: (
                min(1.0, (step + 1) / (settings.warmup_share * steps))
                * (0.5 * (1.0 + math.cos(math.pi * min(step / steps, 1.0))))
            ),
        )
        inputs = _inputs(dense, word_sequences(self.builder, columns), offsets)
        wanted, rng = torch.from_numpy(target).float(), np.random.default_rng(seed)
        for _ in range(settings.epochs_max):
            self.network.train()
            order = torch.from_numpy(rng.permutation(len(ads)))
            for rows in torch.split(order, settings.batch_size):
                logits = self.network(*(each[rows] for each in inputs))
                optimiser.zero_grad()
                nn.functional.binary_cross_entropy_with_logits(logits, wanted[rows]).backward()
                optimiser.step()
                schedule.step()
            yield


def features_without_texts(
    builder: FeatureBuilder, ads: AdColumns
) -> tuple[SparseAds, NDArray[np.float32]]:
    """Return tokens, but not those of title and description, and dense features, (n, d)."""
    known = fitted_state(builder.settings, builder.arrays)
    scale = known.group_scale.copy()
    scale[_TEXT_GROUPS] = 0.0
    how = tuple(known._replace(group_scale=scale))
    means = tuple(target_means(builder.arrays))
    tokens, dense = [], []
    for block in ads.blocks():
        row, bucket, weight, numbers, _ = transform_block(tuple(builder.encode(block)), how, means)
        tokens.append(SparseAds(len(numbers), row, bucket, weight))
        dense.append(numbers)
    return SparseAds.joined(tokens), np.concatenate(dense)


def word_sequences(builder: FeatureBuilder, ads: AdColumns) -> NDArray[np.int64]:
    """Return the words of title and description as buckets, shape (n, words).

    In [0, buckets); ``PADDING`` behind the last word.
    """
    sequences = []
    for block in ads.blocks():
        coded, rows = builder.encode(block), block.rows
        read = find_words(coded.code, coded.first, letters_table(), builder.settings.word_letters)
        row, hashed = (each[read.stems.row < 2 * rows] for each in read.stems)
        order = np.argsort(row % rows, kind="stable")
        ad = (row % rows)[order]
        place = np.arange(len(ad)) - np.searchsorted(ad, ad)
        near = place < WORDS_MAX
        sequence = np.full((rows, WORDS_MAX), PADDING, np.int64)
        bucket = hashed[order] % np.uint64(BUCKETS - 1) + np.uint64(1)
        sequence[ad[near], place[near]] = bucket[near]
        sequences.append(sequence)
    return np.concatenate(sequences)


def _inputs(
    dense: NDArray[np.float32], words: NDArray[np.int64], wide: Floats
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.from_numpy(dense), torch.from_numpy(words), torch.from_numpy(wide).float()


def _word_table() -> nn.Parameter:
    return nn.Parameter(torch.randn(BUCKETS, EMBEDDING) * 0.1)


def our_entries(config: TrainingConfig, seeds: tuple[int, ...] = SEEDS) -> list[Entry]:
    """Return the line of one seed, that of all seeds averaged, and the variants'."""

    def entry(key: str, name: str, make: Callable[[int], Model]) -> Entry:
        return Entry(f"ours-{key}", f"ours {name}", lambda _: make, seeds[:1], optional=True)

    ours, sequence = partial(Ours, config), partial(SequenceModel, config)
    first = Entry("ours", "ours", lambda _: ours, seeds[:1], missing=OPTIONAL)
    return [
        first,
        replace(first, key="ours5", name=f"ours, {len(seeds)} seeds averaged", seeds=seeds),
        entry("gru", "with a GRU", partial(sequence, "gru")),
        entry("attention", "with attention", partial(sequence, "attention")),
        entry("no-image", "without image information", partial(ours, without=IMAGE_COLUMNS)),
        entry("no-seller", "without seller information", partial(ours, without=SELLER_COLUMNS)),
    ]
