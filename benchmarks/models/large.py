"""The peers of very many ads: ``python -m benchmarks.models.large PEER ADS PARTS ANSWERS SECONDS``.

Each is a process of its own, so that it can be measured and stopped. It reads typed ads
(Parquet) and the rows of training, validation and test part (``.npz``), and writes its answers
to the test ads (``.npz``). Those that learn in rounds or passes stop by the validation ads, as
ours does, or when their SECONDS are over; the others learn from them, too.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_matrix, vstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor, nn

from benchmarks.models.features import SEED, AdNumbers
from benchmarks.models.peers import CATEGORIES, LightGBMPeer
from demand.config import FeatureSettings
from demand.data.typed import TypedAds
from demand.evaluation.metrics import Floats, rmse
from demand.features.encoding import AdColumns
from demand.features.feature_set import build_features
from demand.features.training_ads import TrainingAds
from demand.model.network import logit_of_mean
from demand.schema.arrays import Rows
from demand.schema.columns import TARGET

BUCKETS, COMPONENTS, ROTATION_ROWS = 2**20, 50, 200_000
LIGHTGBM = {"num_leaves": 63, "min_data_in_leaf": 100, "extra_trees": False, "num_threads": 0}
ROUNDS, PATIENCE = 5_000, 50
# As the winners of Kaggle's Mercari challenge had them, but for a third of the learning rate,
# with which it overfits less; each pass doubles the batch.
HIDDEN, PASSES, BATCH, LEARNING_RATE = (192, 64, 64), 3, 512, 1e-3
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Task:
    """Ads, the rows of each part, and when learning is to end, by ``time.monotonic``."""

    ads: TypedAds
    training: Rows
    validation: Rows
    test: Rows
    until: float

    @property
    def known(self) -> Rows:
        """Rows of both parts that may be learnt from."""
        return np.sort(np.concatenate([self.training, self.validation]))

    def target(self, rows: Rows) -> Floats:
        """Return deal probabilities, shape (n,)."""
        return self.ads.frame(rows, [TARGET])[TARGET].to_numpy(dtype=np.float64)

    def tf_idf(self, *parts: Rows) -> list[csr_matrix]:
        """Return hashed TF-IDF of each part, float32, shape (n, BUCKETS); the first is fitted."""
        counts = [_counts(self.ads, rows) for rows in parts]
        fitted = TfidfTransformer(sublinear_tf=True).fit(counts[0])
        return [fitted.transform(each, copy=False) for each in counts]


def tokens(ad: tuple[Any, ...]) -> Iterator[str]:
    """Yield words and pairs of words of title and description, and all other values."""
    for mark, text in zip("td", ad, strict=False):
        words = _WORD.findall(text.lower()) if text else []
        yield from (mark + word for word in words)
        yield from (f"{mark}{one} {two}" for one, two in pairwise(words))
    yield from (f"{place}={value}" for place, value in enumerate(ad[2:]))


def _counts(ads: TypedAds, rows: Rows) -> csr_matrix:
    how = {"analyzer": tokens, "alternate_sign": False, "norm": None, "dtype": np.float32}
    hashing, parts = HashingVectorizer(n_features=BUCKETS, **how), []
    for block in ads.blocks(rows, ["title", "description", *CATEGORIES, "price"]):
        block["price"] = np.floor(1.5 * np.log1p(block["price"])).astype(str)
        block["like"] = block["category_name"] + block["price"]
        parts.append(hashing.transform(block.itertuples(index=False, name=None)))
    return vstack(parts, format="csr")


def ridge(task: Task) -> tuple[Floats, str]:
    """Fit ridge on TF-IDF."""
    known, asked = task.tf_idf(task.known, task.test)
    model = Ridge(alpha=4.0, solver="sparse_cg", tol=1e-3).fit(known, task.target(task.known))
    return model.predict(asked).clip(0.0, 1.0), ""


def logistic(task: Task) -> tuple[Floats, str]:
    """Fit logistic regression on TF-IDF; an ad is a deal, and none, as likely as it was."""
    known, asked = task.tf_idf(task.known, task.test)
    target = task.target(task.known)
    likely, unlikely = target > 0, target < 1
    deal = np.repeat([1, 0], [likely.sum(), unlikely.sum()])
    weight = np.concatenate([target[likely], 1 - target[unlikely]])
    model = LogisticRegression(C=3.0, tol=1e-5, max_iter=150)
    model.fit(vstack([known[likely], known[unlikely]]), deal, sample_weight=weight)
    return model.predict_proba(asked)[:, 1], f"{model.n_iter_[0]} iterations"


def lightgbm_ours(task: Task) -> tuple[Floats, str]:
    """Grow trees on our dense features."""
    built = build_features(TrainingAds(task.ads, task.training), None, FeatureSettings(), SEED)
    inputs = [built.training.features.dense]
    for rows in (task.validation, task.test):
        blocks = map(AdColumns.from_frame, task.ads.blocks(rows))
        inputs.append(np.concatenate([built.builder.transform(block).dense for block in blocks]))
    return _grown(task, inputs, "auto")


def lightgbm_usual(task: Task) -> tuple[Floats, str]:
    """Grow trees on category codes, numbers, lengths, and a rotation of TF-IDF."""
    parts, inputs = (task.training, task.validation, task.test), []
    texts = task.tf_idf(*parts)
    drawn = np.random.default_rng(SEED).permutation(len(task.training))[:ROTATION_ROWS]
    rotation = TruncatedSVD(COMPONENTS, n_iter=3, random_state=SEED).fit(texts[0][drawn])
    learnt = task.ads.frame(task.training, [*CATEGORIES, "price"])
    numbers = AdNumbers().fit(learnt)
    codes = {each: pd.Index(learnt[each].unique()) for each in CATEGORIES}
    for rows, text in zip(parts, texts, strict=True):
        read = []
        for block in task.ads.blocks(rows):
            coded = [code.get_indexer(block[name]) for name, code in codes.items()]
            read.append(np.column_stack([*coded, numbers.transform(block)]).astype(np.float32))
        inputs.append(np.column_stack([np.concatenate(read), rotation.transform(text)]))
    return _grown(task, inputs, [*range(len(CATEGORIES))])


def _grown(task: Task, inputs: Sequence[Any], categories: list[int] | str) -> tuple[Floats, str]:
    """Grow trees on (training, validation, test), each of shape (n, inputs)."""

    def stop(at: lightgbm.callback.CallbackEnv) -> None:
        if time.monotonic() > task.until:
            raise lightgbm.callback.EarlyStopException(at.iteration, at.evaluation_result_list)

    learnt, held, asked = inputs
    data = lightgbm.Dataset(learnt, task.target(task.training), categorical_feature=categories)
    judged = data.create_valid(held, task.target(task.validation))
    calls = [lightgbm.early_stopping(PATIENCE, verbose=False), stop]
    how = LightGBMPeer.DEFAULTS | LIGHTGBM
    trees = lightgbm.train(how, data, ROUNDS, valid_sets=[judged], callbacks=calls)
    return np.asarray(trees.predict(asked)), f"after round {trees.best_iteration}"


class SparseMLP(nn.Module):
    """A network on TF-IDF.

    Shape
    -----
    Input: (n, BUCKETS), sparse. Output: logits, (n,).
    """

    def __init__(self) -> None:
        super().__init__()
        first, second, third = HIDDEN
        self.words = nn.EmbeddingBag(
            BUCKETS, first, mode="sum", sparse=True, include_last_offset=True
        )
        nn.init.normal_(self.words.weight, std=0.01)
        self.bias = nn.Parameter(torch.zeros(first))
        layers = nn.Linear(first, second), nn.ReLU(), nn.Linear(second, third), nn.ReLU()
        self.deep = nn.Sequential(nn.ReLU(), *layers, nn.Linear(third, 1))

    def forward(self, texts: csr_matrix) -> Tensor:
        """Return logits."""
        bucket, first, weight = map(torch.from_numpy, (texts.indices, texts.indptr, texts.data))
        hidden = self.words(bucket, first, per_sample_weights=weight) + self.bias
        logits: Tensor = self.deep(hidden)[:, 0]
        return logits

    def answers(self, texts: csr_matrix) -> Floats:
        """Return deal probabilities."""
        with torch.no_grad():
            parts = [self(texts[first : first + 8192]) for first in range(0, texts.shape[0], 8192)]
        return torch.sigmoid(torch.cat(parts)).double().numpy()


def sparse_mlp(task: Task) -> tuple[Floats, str]:
    """Train a network on TF-IDF; the pass that the validation ads like best answers."""
    learnt, held, asked = task.tf_idf(task.training, task.validation, task.test)
    target, judge = (
        torch.from_numpy(task.target(task.training)).float(),
        task.target(task.validation),
    )
    torch.manual_seed(SEED)
    network, rng = SparseMLP(), np.random.default_rng(SEED)
    nn.init.constant_(network.deep[-1].bias, logit_of_mean(target.numpy()))
    deep = [each for each in network.parameters() if each is not network.words.weight]
    optimisers = (
        torch.optim.SparseAdam([network.words.weight], lr=LEARNING_RATE),
        torch.optim.Adam(deep, lr=LEARNING_RATE),
    )
    best, found, told = np.inf, np.empty(0), ""
    for number in range(PASSES):
        order, size = rng.permutation(len(target)), BATCH << number
        for rows in np.split(order, range(size, len(order), size)):
            if time.monotonic() > task.until:
                break
            network.zero_grad()
            logits = network(learnt[rows])
            nn.functional.binary_cross_entropy_with_logits(logits, target[rows]).backward()
            for optimiser in optimisers:
                optimiser.step()
        if (error := rmse(judge, network.answers(held))) < best:
            best, found, told = error, network.answers(asked), f"after pass {number + 1}"
        if time.monotonic() > task.until:
            break
    return found, told


PEERS: dict[str, tuple[str, Callable[[Task], tuple[Floats, str]]]] = {
    "ridge": ("ridge on TF-IDF", ridge),
    "logistic": ("logistic regression on TF-IDF", logistic),
    "lightgbm-ours": ("LightGBM on our dense features", lightgbm_ours),
    "lightgbm": ("LightGBM on its usual features", lightgbm_usual),
    "mlp": ("sparse MLP on TF-IDF", sparse_mlp),
}


def main(peer: str, ads: str, parts: str, answers: str, seconds: str) -> None:
    """Let one peer learn, and answer."""
    until = time.monotonic() + float(seconds)
    found, told = PEERS[peer][1](Task(TypedAds(Path(ads)), **np.load(parts), until=until))
    np.savez(answers, answers=found, told=told)


if __name__ == "__main__":
    main(*sys.argv[1:])
