"""What the peers know of an ad: numbers, target statistics and text, all learned in a fold.

``fit_transform`` returns what training ads are trained on; of everything that knows the
target that is out of fold, by seller, so that no ad is described by its own answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from benchmarks.models.folds import seller_folds
from demand.evaluation.metrics import Floats
from demand.schema.columns import TARGET

SEED = 7
INNER_FOLDS = 10
CHAIN = ("parent_category_name", "category_name", "param_1", "param_2", "param_3")
PARAMS = CHAIN[2:]

ALL = "all"
# A statistic, the one it is shrunk towards (ALL: the mean of all ads), and its columns.
STATISTICS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    *((name, (ALL, *CHAIN)[level], CHAIN[: level + 1]) for level, name in enumerate(CHAIN)),
    ("user_type", "category_name", ("category_name", "user_type")),
    ("price", "param_1", ("category_name", "price_bin")),
    ("param_1_price", "price", ("category_name", "param_1", "price_bin")),
    ("image", ALL, ("image_top_1",)),
    ("category_image", "param_1", ("category_name", "image_top_1")),
    ("region", ALL, ("region",)),
    ("city", "region", ("region", "city")),
    ("category_region", "category_name", ("category_name", "region")),
    ("word", ALL, ("title_word",)),
    ("category_word", "param_1", ("category_name", "title_word")),
)


def joined(ads: pd.DataFrame, names: tuple[str, ...]) -> pd.Series:
    """Return one text an ad of several columns; a missing value is a value of its own."""
    first, *others = (ads[name].astype(str) for name in names)
    return first.str.cat(others, sep="|") if others else first


class AdNumbers(TransformerMixin):  # type: ignore[misc]
    """Counts, lengths and logs, and how far a price lies from the median of its like.

    Texts are counted without learning; medians of the logarithm of the price are learned
    by category, ``param_1`` and ``param_2``, each where the finer one is unknown.
    """

    GROUPS = (CHAIN[1:2], CHAIN[1:3], CHAIN[1:4])

    def fit(self, ads: pd.DataFrame, _: None = None) -> AdNumbers:
        """Learn the medians."""
        price = np.log1p(ads["price"])
        self.medians_ = [price.groupby(joined(ads, group)).median() for group in self.GROUPS]
        return self

    def transform(self, ads: pd.DataFrame) -> Floats:
        """Return shape (rows, 26); NaN where a price or an image is missing."""
        log_price = np.log1p(ads["price"])
        columns = [log_price, *_plain_numbers(ads)]
        place = pd.Series(np.nan, index=ads.index)
        for group, medians in zip(self.GROUPS, self.medians_, strict=True):
            place = (log_price - joined(ads, group).map(medians)).fillna(place)
            columns.append(place)
        return np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])


def _plain_numbers(ads: pd.DataFrame) -> list[pd.Series]:
    """Return what needs no learning: what is there, and how texts and price are written."""
    title, description, price = ads["title"], ads["description"].fillna(""), ads["price"]
    letters, title_letters = 1 + description.str.len(), 1 + title.str.len()
    return [
        price.isna(),
        np.log1p(ads["item_seq_number"]),
        ads["image_top_1"],
        ads["image"].isna(),
        ads["description"].isna(),
        title.str.len(),
        title.str.count(" "),
        np.log1p(description.str.len()),
        description.str.count("\n"),
        ads["activation_date"].dt.weekday,
        ads["activation_date"].dt.day,
        np.log1p(description.str.count(r"\s+")),
        title.str.count(r"\d"),
        description.str.count(r"\d") / letters,
        title.str.count(r"[A-ZА-ЯЁ]") / title_letters,
        description.str.count(r"[A-ZА-ЯЁ]") / letters,
        description.str.count(r"[^\w\s]") / letters,
        description.str.count("!"),
        description.str.count(","),
        ads[list(PARAMS)].notna().sum(axis=1),
        sum((price % size == 0).astype(int) for size in (10, 100, 1000)),
        price % 10 == 9,
    ]


def out_of_fold(model: Any, inputs: Any, ads: pd.DataFrame) -> Floats:
    """Fit a model to all ads; return what it answers to each if its seller is not among them."""
    targets = ads[TARGET].to_numpy(dtype=np.float64)
    parts = PredefinedSplit(seller_folds(ads["user_id"], INNER_FOLDS, SEED))
    answers: Floats = cross_val_predict(model, inputs, targets, cv=parts)
    model.fit(inputs, targets)
    return answers


class TargetStatistics(BaseEstimator):  # type: ignore[misc]
    """Means of the target by :data:`STATISTICS`, each shrunk towards the one above it.

    The mean above has the weight of ``shrinkage`` ads. As an estimator it takes the groups of
    each ad, a column a statistic; as an encoder the ads themselves.
    """

    def __init__(self, shrinkage: float = 15.0) -> None:
        self.shrinkage = shrinkage

    def fit_transform(self, ads: pd.DataFrame, _: None = None) -> Floats:
        """Learn from all ads; return their statistics out of fold, shape (rows, 15)."""
        return out_of_fold(self, _groups(ads), ads)

    def transform(self, ads: pd.DataFrame) -> Floats:
        """Return the statistics of new ads, shape (rows, 15)."""
        return self.predict(_groups(ads))

    def fit(self, keys: pd.DataFrame, targets: Floats) -> TargetStatistics:
        """Learn the mean of each group."""
        self.mean_ = float(targets.mean())
        self.means_: dict[str, pd.Series] = {}
        found = pd.DataFrame({ALL: self.mean_, "target": targets}, index=keys.index)
        for name, above, _ in STATISTICS:
            groups = found.groupby(keys[name])
            total = groups["target"].sum() + self.shrinkage * groups[above].mean()
            self.means_[name] = total / (groups.size() + self.shrinkage)
            found[name] = keys[name].map(self.means_[name])
        return self

    def predict(self, keys: pd.DataFrame) -> Floats:
        """Return the means of groups; of an unknown one that above it."""
        found = pd.DataFrame({ALL: self.mean_}, index=keys.index)
        for name, above, _ in STATISTICS:
            found[name] = keys[name].map(self.means_[name]).fillna(found[above])
        return found.drop(columns=ALL).to_numpy(dtype=np.float64)


def _groups(ads: pd.DataFrame) -> pd.DataFrame:
    known = ads.assign(
        price_bin=np.floor(1.5 * np.log1p(ads["price"])),
        title_word=ads["title"].str.lower().str.split().str[0],
    )
    return pd.DataFrame({name: joined(known, columns) for name, _, columns in STATISTICS})


def text_weights(terms: int = 60_000) -> Pipeline:
    """Return TF-IDF of words and pairs of words of all texts, and of pieces of the title's.

    ``terms`` are kept at most of each of the two kinds; a transformer to sparse (rows, terms).
    """
    common = {"sublinear_tf": True, "max_features": terms, "dtype": np.float32}
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, **common)
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), min_df=3, **common)
    both = make_column_transformer((words, "texts"), (pieces, "title"), sparse_threshold=1.0)
    return make_pipeline(FunctionTransformer(_with_all_texts), both)


def _with_all_texts(ads: pd.DataFrame) -> pd.DataFrame:
    names = ("title", "description", *PARAMS, "category_name")
    first, *others = (ads[name].fillna("") for name in names)
    return ads.assign(texts=first.str.cat(others, sep=" "))


class TextDigest:
    """A rotation of the TF-IDF (components, at most), and what ridge on it would answer."""

    def __init__(self, components: int = 64, alpha: float = 5.0, terms: int = 60_000) -> None:
        self.components = components
        self.weights = text_weights(terms)
        self.ridge = Ridge(alpha=alpha, solver="sparse_cg", tol=1e-3)

    def fit_transform(self, ads: pd.DataFrame, _: None = None) -> Floats:
        """Learn from all ads; return shape (rows, components + 1), the answers out of fold."""
        weights = self.weights.fit_transform(ads)
        components = min(self.components, *(size - 1 for size in weights.shape))
        self.rotation_ = TruncatedSVD(components, n_iter=4, random_state=SEED).fit(weights)
        return np.column_stack(
            [self.rotation_.transform(weights), out_of_fold(self.ridge, weights, ads)]
        )

    def transform(self, ads: pd.DataFrame) -> Floats:
        """Return the rotation and ridge's answers, shape (rows, components + 1)."""
        weights = self.weights.transform(ads)
        return np.column_stack([self.rotation_.transform(weights), self.ridge.predict(weights)])
