"""What a model must at least beat: the mean, category means, and the superseded report's MLP.

The MLP's recipe is in that report's parts on data preparation and model engineering; its
result there was an RMSE of 0.2420 after 10,000 consecutive ads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from demand.evaluation.metrics import Floats
from demand.progress import report
from demand.schema.arrays import Rows
from demand.schema.columns import PARAMS, TARGET
from demand.schema.population import reference

if TYPE_CHECKING:
    import torch

MEAN = "mean"
INPUTS = 125
HIDDEN = (32, 16, 32)
LEARNING_RATE = 5e-4
WEIGHT_DECAY = 10.0
BATCH_SIZE = 512
EPOCHS = 25
# As many as the report had.
ROWS_MAX = 10_000
TFIDF_TERMS = 128
TEXT_COMPONENTS = {"title": 8, "description": 16}
FREQUENT_VALUES = 10
MEANS_COLUMNS = ("category_name", TARGET)
FREQUENT_COLUMNS = ("city", "category_name", *PARAMS)


def baseline_answers(
    train: pd.DataFrame, drawn: pd.DataFrame, test: pd.DataFrame, seed: int
) -> dict[str, Floats]:
    """Fit every baseline on labelled ads, and let it predict others, shape (rows,) each.

    Of ``train`` no more than the ``MEANS_COLUMNS`` are read; ``drawn`` has the :func:`drawn_rows`
    of it with all columns, for the report's MLP, whose ``seed`` it is. No ads to fit on are a
    ValueError.
    """
    return {
        MEAN: mean_baseline(train[TARGET], len(test)),
        CategoryMeans.NAME: CategoryMeans().fit(train).predict(test),
        BaselineMLP.NAME: BaselineMLP(seed=seed).fit(drawn).predict(test),
    }


def drawn_rows(rows: int, seed: int) -> Rows:
    """Draw which of so many ads the report's MLP learns from: positions, at most ``ROWS_MAX``."""
    if rows <= ROWS_MAX:
        return np.arange(rows)
    return np.random.RandomState(seed).choice(rows, ROWS_MAX, replace=False)


def mean_baseline(train_y: npt.ArrayLike, n: int) -> Floats:
    """Return the mean of the training targets, of which there is one, ``n`` times, shape (n,)."""
    return np.full(n, np.mean(np.asarray(train_y, dtype=np.float64)))


class CategoryMeans:
    """Predict the mean target of an ad's category, shrunk towards the mean of all.

    A category with ``n`` ads that sum up to ``s`` predicts
    ``(s + SHRINKAGE * mean) / (n + SHRINKAGE)``; an unseen or missing one the mean.
    """

    NAME: ClassVar[str] = "category_means"
    SHRINKAGE: ClassVar[float] = 20.0

    def fit(self, frame: pd.DataFrame) -> CategoryMeans:
        """Learn from typed ads with their target."""
        self.mean_ = float(frame[TARGET].mean())
        groups = frame.groupby("category_name")[TARGET]
        weight = self.SHRINKAGE
        self.means_ = (groups.sum() + weight * self.mean_) / (groups.count() + weight)
        return self

    def predict(self, frame: pd.DataFrame) -> Floats:
        """Return a probability an ad, shape (rows,)."""
        known = frame["category_name"].map(self.means_).astype(np.float64)
        return known.fillna(self.mean_).to_numpy(dtype=np.float64)


class BaselineMLP:
    """The report's features and network, trained by its recipe.

    ``seed`` is of the initial weights, the order of the batches, the PCA, and the rows drawn.

    The 125 inputs: one-hot region (28), parent category (9) and seller type (3); the 10
    most frequent values of city, category and params (50) and "Other" of the category (1);
    8 and 16 principal components of the texts (24); price, ad number, image class and
    three lengths (6); sine and cosine of the days (4). "Other" of city and params is the
    row of zeros: with columns of their own there would be 129, and the report says 125.
    Unknown values are "Other" or zeros, and a missing value has the report's substitute.

    Of more ads than ``ROWS_MAX``, which the report had, it draws as many, so that what is
    only compared with never costs more than the model. It computes in one thread, which for
    layers of 32 units is faster than several.
    """

    # As reports have always called it.
    NAME: ClassVar[str] = "reports_mlp"

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, frame: pd.DataFrame) -> BaselineMLP:
        """Learn from typed ads with their target; seconds, however many there are.

        ValueError where there are none.
        """
        from sklearn.preprocessing import StandardScaler

        if frame.empty:
            raise ValueError("the report's MLP needs at least one ad")
        if len(frame) > ROWS_MAX:
            frame = frame.iloc[drawn_rows(len(frame), self.seed)].reset_index(drop=True)
        self.price_of_category_ = frame.groupby("category_name")["price"].median()
        self.price_ = float(np.nan_to_num(frame["price"].median()))
        self.image_class_ = float(np.nan_to_num(frame["image_top_1"].max(), nan=-1.0)) + 1.0
        self.frequent_ = {
            name: _texts(frame, name).value_counts().index[:FREQUENT_VALUES].tolist()
            for name in FREQUENT_COLUMNS
        }
        self.components_ = {
            name: _text_components(_texts(frame, name), count, self.seed)
            for name, count in TEXT_COMPONENTS.items()
        }
        inputs = self._inputs(frame)
        self.scaler_ = StandardScaler().fit(inputs)
        targets = frame[TARGET].to_numpy(dtype=np.float64)
        self.network_ = _train(self.scaler_.transform(inputs), targets, self.seed)
        return self

    def predict(self, frame: pd.DataFrame) -> Floats:
        """Return a probability an ad, shape (rows,), clipped to [0, 1]."""
        import torch

        inputs = self.scaler_.transform(self._inputs(frame))
        with torch.inference_mode():
            answer = self.network_(torch.as_tensor(inputs, dtype=torch.float32)).squeeze(1)
        probability: Floats = answer.numpy().astype(np.float64).clip(0.0, 1.0)
        return probability

    def _inputs(self, frame: pd.DataFrame) -> Floats:
        """Return the unscaled inputs, shape (rows, INPUTS)."""
        known = reference()
        parts = [
            _one_hot(frame["region"], known.regions),
            _one_hot(frame["parent_category_name"], sorted(set(known.parent_of.values()))),
            _one_hot(frame["user_type"], known.user_types),
        ]
        for name, frequent in self.frequent_.items():
            # Numbers, which no text equals, stand in for values that there are too few of.
            absent = range(FREQUENT_VALUES - len(frequent))
            parts.append(_one_hot(_texts(frame, name), [*frequent, *absent]))
            if name == "category_name":
                parts.append(1.0 - parts[-1].sum(axis=1, keepdims=True))
        parts += [found(_texts(frame, name)) for name, found in self.components_.items()]
        return np.hstack([*parts, self._numbers(frame), _days(frame)])

    def _numbers(self, frame: pd.DataFrame) -> Floats:
        """Return price, ad number, image class and lengths in letters, shape (rows, 6)."""
        typical = frame["category_name"].map(self.price_of_category_).astype(np.float64)
        columns = [
            frame["price"].fillna(typical).fillna(self.price_),
            frame["item_seq_number"].fillna(1.0),
            frame["image_top_1"].fillna(self.image_class_),
            _texts(frame, "title").str.len(),
            _texts(frame, "description").str.len(),
            sum(_texts(frame, name).str.len() for name in PARAMS),
        ]
        return np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])


def _texts(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return a column of text with the report's word for a missing value."""
    return frame[name].fillna("нет описания" if name == "description" else "missing")


def _text_components(texts: pd.Series, count: int, seed: int) -> Callable[[pd.Series], Floats]:
    """Learn TF-IDF's principal components; return what gives those of texts, (rows, count).

    Fewer terms than components (a single ad, or no words at all) leave columns of zeros.
    """
    from sklearn.decomposition import PCA
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer, pca = TfidfVectorizer(max_features=TFIDF_TERMS), None
    if len(texts) > 1 and any(map(vectorizer.build_analyzer(), texts)):
        weights = vectorizer.fit_transform(texts).toarray()
        pca = PCA(min(count, *weights.shape), random_state=seed).fit(weights)
    return partial(_components, vectorizer, pca, count)


def _components(vectorizer: Any, pca: Any, count: int, texts: pd.Series) -> Floats:
    found = np.empty((len(texts), 0))
    if pca is not None:
        found = pca.transform(vectorizer.transform(texts).toarray())
    return np.pad(found, ((0, 0), (0, count - found.shape[1])))


def _one_hot(values: pd.Series, known: Iterable[object]) -> Floats:
    """Return a column for each known value, shape (rows, known)."""
    placed = pd.Categorical(values, categories=pd.Index(list(known), dtype=object))
    return pd.get_dummies(placed, dtype=np.float64).to_numpy()


def _days(frame: pd.DataFrame) -> Floats:
    """Return sine and cosine of day of week and day of month; zeros without a date."""
    days = frame["activation_date"].dt
    week, month = days.dayofweek * (2.0 * np.pi / 7.0), days.day * (2.0 * np.pi / 31.0)
    return np.nan_to_num(
        np.column_stack([np.sin(week), np.cos(week), np.sin(month), np.cos(month)])
    )


def _train(inputs: Floats, targets: Floats, seed: int) -> torch.nn.Sequential:
    """Train the network by the report's recipe: (rows, INPUTS) to (rows, 1)."""
    import torch
    from torch import nn

    first, second, third = HIDDEN
    x = torch.as_tensor(inputs, dtype=torch.float32)
    y = torch.as_tensor(targets, dtype=torch.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # numbers too small to matter are slow
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = nn.Sequential(
                *(nn.Linear(INPUTS, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU()),
                *(nn.Linear(second, third), nn.ReLU(), nn.Linear(third, 1)),
            )
            weights = network.parameters()
            optimiser = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
            for epoch in range(EPOCHS):
                report(epoch, EPOCHS)
                for rows in torch.split(torch.randperm(len(x)), BATCH_SIZE):
                    squares = (network(x[rows]).squeeze(1) - y[rows]) ** 2
                    # The root has no slope at 0, where a batch of one ad can arrive.
                    loss = torch.sqrt(squares.mean() + 1e-12)
                    optimiser.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
    return network.eval()
