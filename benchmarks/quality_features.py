"""What the peers know of an ad: numbers, target statistics and text, all learned in a fold.

``fit_transform`` returns what training ads are trained on; of everything that knows the
target that is out of fold, by seller, so that no ad is described by its own answer.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.base import TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from benchmarks.quality_folds import seller_folds
from demand.evaluation.metrics import Floats
from demand.schema.columns import TARGET

SEED = 7
INNER_FOLDS = 10
CHAIN = ("parent_category_name", "category_name", "param_1", "param_2", "param_3")
PARAMS = CHAIN[2:]

# A statistic, the one it is shrunk towards (None: the overall mean), and its columns.
STATISTICS: tuple[tuple[str, str | None, tuple[str, ...]], ...] = (
    *(
        (name, CHAIN[level - 1] if level else None, CHAIN[: level + 1])
        for level, name in enumerate(CHAIN)
    ),
    ("user_type", "category_name", ("category_name", "user_type")),
    ("price", "param_1", ("category_name", "price_bin")),
    ("param_1_price", "price", ("category_name", "param_1", "price_bin")),
    ("image", None, ("image_top_1",)),
    ("category_image", "param_1", ("category_name", "image_top_1")),
    ("region", None, ("region",)),
    ("city", "region", ("region", "city")),
    ("category_region", "category_name", ("category_name", "region")),
    ("word", None, ("title_word",)),
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

    def fit(self, ads: pd.DataFrame) -> AdNumbers:
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


class TargetStatistics:
    """Means of the target by :data:`STATISTICS`, each shrunk towards the one above it.

    The mean above has the weight of ``shrinkage`` ads.
    """

    def __init__(self, shrinkage: float = 15.0) -> None:
        self.shrinkage = shrinkage

    def fit_transform(self, ads: pd.DataFrame) -> Floats:
        """Learn from all ads; return their statistics out of fold, shape (rows, 15)."""
        keys, targets = self._keys(ads), ads[TARGET].to_numpy(dtype=np.float64)
        fold = seller_folds(ads["user_id"], INNER_FOLDS, SEED)
        found = np.empty((len(ads), len(STATISTICS)))
        for number in np.unique(fold):
            known, asked = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            self._fit(keys.iloc[known], targets[known])
            found[asked] = self._look_up(keys.iloc[asked])
        self._fit(keys, targets)
        return found

    def transform(self, ads: pd.DataFrame) -> Floats:
        """Return the statistics of new ads, shape (rows, 15)."""
        return self._look_up(self._keys(ads))

    @staticmethod
    def _keys(ads: pd.DataFrame) -> pd.DataFrame:
        """Return the group of each ad, a column a statistic."""
        known = ads.assign(
            price_bin=np.floor(1.5 * np.log1p(ads["price"])),
            title_word=ads["title"].str.lower().str.split().str[0],
        )
        return pd.DataFrame({name: joined(known, columns) for name, _, columns in STATISTICS})

    def _fit(self, keys: pd.DataFrame, targets: Floats) -> None:
        self.mean_ = float(targets.mean())
        self.means_: dict[str, pd.Series] = {}
        estimates: dict[str | None, Floats] = {None: np.full(len(keys), self.mean_)}
        for name, above, _ in STATISTICS:
            known = pd.DataFrame({"target": targets, "above": estimates[above]})
            groups = known.groupby(keys[name].to_numpy())
            total = groups["target"].sum() + self.shrinkage * groups["above"].mean()
            self.means_[name] = total / (groups.size() + self.shrinkage)
            estimates[name] = keys[name].map(self.means_[name]).to_numpy(dtype=np.float64)

    def _look_up(self, keys: pd.DataFrame) -> Floats:
        estimates: dict[str | None, Floats] = {None: np.full(len(keys), self.mean_)}
        for name, above, _ in STATISTICS:
            found = keys[name].map(self.means_[name]).to_numpy(dtype=np.float64)
            estimates[name] = np.where(np.isnan(found), estimates[above], found)
        return np.column_stack([estimates[name] for name, _, _ in STATISTICS])


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
        self.alpha = alpha
        self.weights = text_weights(terms)

    def fit_transform(self, ads: pd.DataFrame) -> Floats:
        """Learn from all ads; return shape (rows, components + 1), the answers out of fold."""
        weights = self.weights.fit_transform(ads)
        targets = ads[TARGET].to_numpy(dtype=np.float64)
        components = min(self.components, *(size - 1 for size in weights.shape))
        self.rotation_ = TruncatedSVD(components, n_iter=4, random_state=SEED).fit(weights)
        ridge = Ridge(alpha=self.alpha, solver="sparse_cg", tol=1e-3)
        parts = PredefinedSplit(seller_folds(ads["user_id"], INNER_FOLDS, SEED))
        answers = cross_val_predict(ridge, weights, targets, cv=parts)
        self.ridge_ = ridge.fit(weights, targets)
        return np.column_stack([self.rotation_.transform(weights), answers])

    def transform(self, ads: pd.DataFrame) -> Floats:
        """Return the rotation and ridge's answers, shape (rows, components + 1)."""
        weights = self.weights.transform(ads)
        return np.column_stack([self.rotation_.transform(weights), self.ridge_.predict(weights)])
