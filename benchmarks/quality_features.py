"""What the peers know of an ad: numbers, target statistics and text, all learned in a fold.

``fit_transform`` returns what training ads are trained on; of everything that knows the
target that is out of fold, by seller, so that no ad is described by its own answer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from benchmarks.fidelity_models import SEED, Floats, numbers
from benchmarks.quality_folds import seller_folds
from demand.ads import TARGET

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


class AdNumbers:
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
        # The median of a batch is no part of a model: the learned ones replace it.
        plain = numbers(ads).drop(columns="price_place")
        return np.hstack([plain.to_numpy(), _text_counts(ads), self._places(ads)])

    def _places(self, ads: pd.DataFrame) -> Floats:
        price = np.log1p(ads["price"])
        places: list[pd.Series] = []
        for group, medians in zip(self.GROUPS, self.medians_, strict=True):
            place = price - joined(ads, group).map(medians)
            places.append(place.fillna(places[-1]) if places else place)
        return np.column_stack(places)


def _text_counts(ads: pd.DataFrame) -> Floats:
    """Return how title, description and price are written, shape (rows, 12)."""
    title, description, price = ads["title"], ads["description"].fillna(""), ads["price"]
    letters, title_letters = 1 + description.str.len(), 1 + title.str.len()
    columns = [
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
    return np.column_stack([np.asarray(column, dtype=np.float64) for column in columns])


class TargetStatistics:
    """Means of the target by :data:`STATISTICS`, each shrunk towards the one above it.

    Parameters
    ----------
    shrinkage
        Weight of the mean above, in ads.
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


class TextWeights:
    """TF-IDF of words and pairs of words of all texts, and of pieces of words of the title.

    Parameters
    ----------
    terms
        At most as many of each of the two kinds.
    """

    def __init__(self, terms: int = 60_000) -> None:
        common = {"sublinear_tf": True, "max_features": terms, "dtype": np.float32}
        self.words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, **common)
        self.pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), min_df=3, **common)

    def fit(self, ads: pd.DataFrame) -> TextWeights:
        """Learn the terms and how rare each is."""
        for model, texts in self._both(ads):
            model.fit(texts)
        return self

    def transform(self, ads: pd.DataFrame) -> csr_matrix:
        """Return the weights, shape (rows, terms)."""
        return hstack([model.transform(texts) for model, texts in self._both(ads)]).tocsr()

    def _both(self, ads: pd.DataFrame) -> Iterator[tuple[TfidfVectorizer, pd.Series]]:
        names = ("title", "description", *PARAMS, "category_name")
        first, *others = (ads[name].fillna("") for name in names)
        yield self.words, first.str.cat(others, sep=" ")
        yield self.pieces, ads["title"]


class TextDigest:
    """A rotation of the TF-IDF, and what ridge on it alone would answer.

    Parameters
    ----------
    components
        Of the rotation, at most.
    alpha
        Of the ridge.
    """

    def __init__(self, components: int = 64, alpha: float = 5.0, terms: int = 60_000) -> None:
        self.components = components
        self.alpha = alpha
        self.weights = TextWeights(terms)

    def fit_transform(self, ads: pd.DataFrame) -> Floats:
        """Learn from all ads; return shape (rows, components + 1), the answers out of fold."""
        weights = self.weights.fit(ads).transform(ads)
        targets = ads[TARGET].to_numpy(dtype=np.float64)
        components = min(self.components, *(size - 1 for size in weights.shape))
        self.rotation_ = TruncatedSVD(components, n_iter=4, random_state=SEED).fit(weights)
        fold = seller_folds(ads["user_id"], INNER_FOLDS, SEED)
        answers = np.empty(len(ads))
        for number in np.unique(fold):
            known, asked = fold != number, fold == number
            answers[asked] = self._ridge(weights[known], targets[known]).predict(weights[asked])
        self.ridge_ = self._ridge(weights, targets)
        return np.column_stack([self.rotation_.transform(weights), answers])

    def transform(self, ads: pd.DataFrame) -> Floats:
        """Return the rotation and ridge's answers, shape (rows, components + 1)."""
        weights = self.weights.transform(ads)
        return np.column_stack([self.rotation_.transform(weights), self.ridge_.predict(weights)])

    def _ridge(self, weights: csr_matrix, targets: Floats) -> Ridge:
        return Ridge(alpha=self.alpha, solver="sparse_cg", tol=1e-3).fit(weights, targets)
