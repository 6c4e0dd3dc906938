"""The report's MLP: the student project's model, built again from its own recipe.

The recipe is in the report this project supersedes (its reports on data preparation and
model engineering); its result there was an RMSE of 0.2420 after 10,000 consecutive ads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from demand.ads import TARGET
from demand.metrics import Floats
from demand.reference import reference

if TYPE_CHECKING:
    import torch

INPUTS = 125
HIDDEN = (32, 16, 32)
LEARNING_RATE = 5e-4
WEIGHT_DECAY = 10.0
BATCH_SIZE = 512
EPOCHS = 25
TFIDF_TERMS = 128
TEXT_COMPONENTS = {"title": 8, "description": 16}
FREQUENT_VALUES = 10
NO_PARAM = "missing"
NO_DESCRIPTION = "нет описания"
PARAMS = ("param_1", "param_2", "param_3")
FREQUENT_COLUMNS = ("city", "category_name", *PARAMS)


class ReportsMLP:
    """The report's features and network, trained by its recipe.

    Parameters
    ----------
    seed
        Of the initial weights, the order of the batches and the PCA.

    Notes
    -----
    The 125 inputs: one-hot region (28), parent category (9) and seller type (3); the 10
    most frequent values of city, category and params (50) and "Other" of the category (1);
    8 and 16 principal components of the texts (24); price, ad number, image class and
    three lengths (6); sine and cosine of the days (4). "Other" of city and params is the
    row of zeros: with columns of their own there would be 129, and the report says 125.
    Unknown values are "Other" or zeros, and a missing value has the report's substitute.
    """

    NAME: ClassVar[str] = "reports_mlp"

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, frame: pd.DataFrame) -> ReportsMLP:
        """Learn from typed ads with their target; seconds for thousands of ads.

        Raises
        ------
        ValueError
            There are no ads.
        """
        from sklearn.preprocessing import StandardScaler

        if frame.empty:
            raise ValueError("the report's MLP needs at least one ad")
        self._learn_substitutes(frame)
        self.frequent_ = {
            name: _texts(frame, name).value_counts().index[:FREQUENT_VALUES].tolist()
            for name in FREQUENT_COLUMNS
        }
        self.text_ = {
            name: _TextComponents(count, self.seed).fit(_texts(frame, name))
            for name, count in TEXT_COMPONENTS.items()
        }
        inputs = self._inputs(frame)
        self.scaler_ = StandardScaler().fit(inputs)
        self.network_ = _train(
            self.scaler_.transform(inputs), frame[TARGET].to_numpy(dtype=np.float64), self.seed
        )
        return self

    def predict(self, frame: pd.DataFrame) -> Floats:
        """Return a probability an ad, shape (rows,), clipped to [0, 1]."""
        import torch

        if frame.empty:
            return np.empty(0)
        inputs = torch.as_tensor(self.scaler_.transform(self._inputs(frame)), dtype=torch.float32)
        with torch.inference_mode():
            answer: Floats = self.network_(inputs).squeeze(1).numpy().astype(np.float64)
        return answer.clip(0.0, 1.0)

    def _learn_substitutes(self, frame: pd.DataFrame) -> None:
        """Learn what stands for a missing price or image class."""
        self.price_of_category_ = frame.groupby("category_name")["price"].median()
        overall = frame["price"].quantile(0.5)
        self.price_ = 0.0 if pd.isna(overall) else float(overall)
        self.image_class_ = float(np.nan_to_num(frame["image_top_1"].max(), nan=-1.0)) + 1.0

    def _inputs(self, frame: pd.DataFrame) -> Floats:
        """Return the unscaled inputs, shape (rows, INPUTS)."""
        known = reference()
        parts = [
            _one_hot(frame["region"], list(known.regions)),
            _one_hot(frame["parent_category_name"], sorted(set(known.parent_of.values()))),
            _one_hot(frame["user_type"], list(known.user_types)),
        ]
        for name in FREQUENT_COLUMNS:
            encoded = _one_hot(_texts(frame, name), self.frequent_[name], FREQUENT_VALUES)
            parts.append(encoded)
            if name == "category_name":
                parts.append(1.0 - encoded.sum(axis=1, keepdims=True))
        parts += [text.transform(_texts(frame, name)) for name, text in self.text_.items()]
        parts += [self._numbers(frame), _days(frame["activation_date"])]
        return np.hstack(parts)

    def _numbers(self, frame: pd.DataFrame) -> Floats:
        """Return price, ad number, image class and lengths in letters, shape (rows, 6)."""
        typical = frame["category_name"].map(self.price_of_category_).astype(np.float64)
        price = frame["price"].fillna(typical).fillna(self.price_)
        columns = [
            price,
            frame["item_seq_number"].fillna(1.0),
            frame["image_top_1"].fillna(self.image_class_),
            _texts(frame, "title").str.len(),
            _texts(frame, "description").str.len(),
            sum(_texts(frame, name).str.len() for name in PARAMS),
        ]
        return np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])


class _TextComponents:
    """TF-IDF of the most frequent terms, and its principal components.

    Fewer terms than components (a single ad, or no words at all) leave columns of zeros.
    """

    def __init__(self, components: int, seed: int) -> None:
        self.components = components
        self.seed = seed

    def fit(self, texts: pd.Series) -> _TextComponents:
        """Learn terms and components from texts."""
        from sklearn.decomposition import PCA
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vectorizer_: Any = None
        vectorizer = TfidfVectorizer(max_features=TFIDF_TERMS)
        if len(texts) < 2 or not any(map(vectorizer.build_analyzer(), texts)):
            return self
        weights = vectorizer.fit_transform(texts).toarray()
        self.vectorizer_ = vectorizer
        self.pca_ = PCA(min(self.components, *weights.shape), random_state=self.seed).fit(weights)
        return self

    def transform(self, texts: pd.Series) -> Floats:
        """Return the components, shape (rows, components)."""
        found = np.zeros((len(texts), self.components))
        if self.vectorizer_ is not None:
            reduced = self.pca_.transform(self.vectorizer_.transform(texts).toarray())
            found[:, : reduced.shape[1]] = reduced
        return found


def _texts(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return a column of text with the report's word for a missing value."""
    return frame[name].fillna(NO_DESCRIPTION if name == "description" else NO_PARAM)


def _one_hot(values: pd.Series, known: list[str], width: int | None = None) -> Floats:
    """Return a column for each known value, then zeros up to ``width``; shape (rows, width)."""
    encoded = np.zeros((len(values), width or len(known)))
    codes = np.asarray(pd.Categorical(values, categories=known).codes)
    rows = np.flatnonzero(codes >= 0)
    encoded[rows, codes[rows]] = 1.0
    return encoded


def _days(dates: pd.Series) -> Floats:
    """Return sine and cosine of day of week and day of month; zeros without a date."""
    week = dates.dt.dayofweek * (2.0 * np.pi / 7.0)
    month = dates.dt.day * (2.0 * np.pi / 31.0)
    return np.nan_to_num(
        np.column_stack([np.sin(week), np.cos(week), np.sin(month), np.cos(month)])
    )


def _train(inputs: Floats, targets: Floats, seed: int) -> torch.nn.Sequential:
    """Train the network by the report's recipe, without touching torch's global generator."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network()
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        x = torch.as_tensor(inputs, dtype=torch.float32)
        y = torch.as_tensor(targets, dtype=torch.float32)
        for _ in range(EPOCHS):
            for rows in torch.split(torch.randperm(len(x)), BATCH_SIZE):
                squares = (network(x[rows]).squeeze(1) - y[rows]) ** 2
                # The root has no slope at 0, where a batch of one ad can arrive.
                loss = torch.sqrt(squares.mean() + 1e-12)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    return network.eval()


def _network() -> torch.nn.Sequential:
    """Return the untrained network: (rows, INPUTS) to (rows, 1)."""
    import torch

    layers: list[torch.nn.Module] = []
    width = INPUTS
    for hidden in HIDDEN:
        layers += [torch.nn.Linear(width, hidden), torch.nn.ReLU()]
        width = hidden
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, 1))
