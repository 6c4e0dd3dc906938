"""Three peers that predict ads, trained with the same code on demo ads and on real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from lightgbm import LGBMRegressor
from scipy.sparse import csr_matrix, hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from demand.ads import TARGET
from demand.evaluation.baselines import CategoryMeans, mean_baseline
from demand.metrics import rmse

Floats = npt.NDArray[np.float64]
Features = csr_matrix | Floats
Peer = Callable[[pd.DataFrame, pd.DataFrame], Floats]

SEED = 7
GROUPS = (
    ("category_name",),
    ("category_name", "param_1"),
    ("category_name", "param_1", "param_2"),
    ("category_name", "param_1", "param_2", "param_3"),
    ("image_top_1",),
    ("region", "city"),
    ("category_name", "user_type"),
    ("category_name", "title_word"),
)


def mean_peer(train: pd.DataFrame, test: pd.DataFrame) -> Floats:
    """Predict the mean of the training ads."""
    return mean_baseline(train[TARGET], len(test))


def category_peer(train: pd.DataFrame, test: pd.DataFrame) -> Floats:
    """Predict shrunk category means."""
    return CategoryMeans().fit(train).predict(test)


def _texts(ads: pd.DataFrame) -> pd.Series:
    parts = [ads[name].fillna("") for name in ("title", "description")]
    params = [ads[name].fillna("") for name in ("param_1", "param_2", "param_3", "category_name")]
    return parts[0].str.cat([*parts[1:], *params], sep=" ")


def numbers(ads: pd.DataFrame) -> pd.DataFrame:
    """Return what needs no learning: logs, lengths, missing values; shape (rows, 12)."""
    price = np.log1p(ads["price"])
    title, description = ads["title"], ads["description"].fillna("")
    middle = price.groupby(ads["category_name"]).transform("median")
    return pd.DataFrame(
        {
            "price": price,
            "price_place": price - middle,
            "no_price": price.isna(),
            "sequence": np.log1p(ads["item_seq_number"]),
            "image_class": ads["image_top_1"],
            "no_image": ads["image"].isna(),
            "no_description": ads["description"].isna(),
            "title_length": title.str.len(),
            "title_words": title.str.count(" "),
            "description_length": np.log1p(description.str.len()),
            "description_lines": description.str.count("\n"),
            "weekday": ads["activation_date"].dt.weekday,
        }
    ).astype(np.float64)


def ridge_peer(train: pd.DataFrame, test: pd.DataFrame) -> Floats:
    """Predict with ridge on TF-IDF of words and characters, one-hots and numbers."""
    blocks = [_tfidf(train, test), _one_hot(train, test), _scaled(train, test)]
    left, right = (hstack(side).tocsr() for side in zip(*blocks, strict=True))
    model = Ridge(alpha=12.0, solver="sparse_cg", tol=1e-3)
    model.fit(left, train[TARGET])
    return np.clip(model.predict(right), 0.0, 1.0)


def _tfidf(train: pd.DataFrame, test: pd.DataFrame) -> tuple[csr_matrix, csr_matrix]:
    words = TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, sublinear_tf=True, max_features=60_000, dtype=np.float32
    )
    letters = TfidfVectorizer(
        analyzer="char_wb",
        ngram_range=(3, 4),
        min_df=3,
        sublinear_tf=True,
        max_features=60_000,
        dtype=np.float32,
    )
    sides = []
    for ads, fit in ((train, True), (test, False)):
        pair = [
            model.fit_transform(texts) if fit else model.transform(texts)
            for model, texts in ((words, _texts(ads)), (letters, ads["title"]))
        ]
        sides.append(hstack(pair).tocsr())
    return sides[0], sides[1]


def _one_hot(train: pd.DataFrame, test: pd.DataFrame) -> tuple[csr_matrix, csr_matrix]:
    names = ["category_name", "user_type", "param_1", "param_2", "region"]
    encoder = OneHotEncoder(handle_unknown="ignore", min_frequency=3)
    return encoder.fit_transform(train[names].fillna("")), encoder.transform(test[names].fillna(""))


def _scaled(train: pd.DataFrame, test: pd.DataFrame) -> tuple[csr_matrix, csr_matrix]:
    scaler = StandardScaler()
    left = scaler.fit_transform(numbers(train).fillna(0.0))
    right = scaler.transform(numbers(test).fillna(0.0))
    return csr_matrix(left * 0.3), csr_matrix(right * 0.3)


def lightgbm_peer(train: pd.DataFrame, test: pd.DataFrame) -> Floats:
    """Predict with LightGBM on numbers, target statistics and a rotation of the TF-IDF."""
    left, right = _tfidf(train, test)
    rotation = TruncatedSVD(n_components=24, n_iter=2, random_state=SEED)
    columns = [
        (numbers(train).to_numpy(), numbers(test).to_numpy()),
        _target_statistics(train, test),
        (rotation.fit_transform(left), rotation.transform(right)),
    ]
    model = LGBMRegressor(
        n_estimators=170,
        learning_rate=0.03,
        num_leaves=15,
        min_child_samples=40,
        subsample=0.7,
        subsample_freq=1,
        colsample_bytree=0.4,
        reg_lambda=5.0,
        random_state=SEED,
        n_jobs=1,
        verbose=-1,
    )
    model.fit(np.hstack([pair[0] for pair in columns]), train[TARGET])
    predicted = model.predict(np.hstack([pair[1] for pair in columns]))
    return np.clip(np.asarray(predicted, dtype=np.float64), 0.0, 1.0)


def _target_statistics(train: pd.DataFrame, test: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return shrunk means of each group; those of training ads never see the ad itself."""
    left = np.empty((len(train), len(GROUPS)))
    right = np.empty((len(test), len(GROUPS)))
    words = [_with_title_word(ads) for ads in (train, test)]
    keys = [[_joined(ads, group) for ads in words] for group in GROUPS]
    inner = list(GroupKFold(5).split(train, groups=train["user_id"]))
    targets = train[TARGET].to_numpy()
    for column, (known, asked) in enumerate(keys):
        right[:, column] = _shrunk(known, targets, asked)
        for fit, rest in inner:
            left[rest, column] = _shrunk(known.iloc[fit], targets[fit], known.iloc[rest])
    return left, right


def _with_title_word(ads: pd.DataFrame) -> pd.DataFrame:
    return ads.assign(title_word=ads["title"].str.lower().str.split().str[0])


def _joined(ads: pd.DataFrame, names: tuple[str, ...]) -> pd.Series:
    first, *others = (ads[name].astype(str) for name in names)
    return first.str.cat(others, sep="|") if others else first


def _shrunk(known: pd.Series, targets: Floats, asked: pd.Series, weight: float = 15.0) -> Floats:
    mean = float(targets.mean())
    groups = pd.Series(targets).groupby(known.to_numpy())
    means = (groups.sum() + weight * mean) / (groups.count() + weight)
    return asked.map(means).fillna(mean).to_numpy(dtype=np.float64)


PEERS: dict[str, Peer] = {
    "mean": mean_peer,
    "category means": category_peer,
    "ridge on TF-IDF": ridge_peer,
    "LightGBM": lightgbm_peer,
}


@dataclass(frozen=True)
class Score:
    """RMSE of one peer over all folds together, on one set of ads."""

    peer: str
    rmse: float


def cross_validate(ads: pd.DataFrame, folds: int, only: set[str] | None = None) -> Iterator[Score]:
    """Yield the out-of-fold RMSE of each peer; a seller's ads lie in one fold."""
    parts = list(GroupKFold(folds).split(ads, groups=ads["user_id"]))
    for name, peer in PEERS.items():
        if only is not None and name not in only:
            continue
        predicted = np.empty(len(ads))
        for train, test in parts:
            predicted[test] = peer(ads.iloc[train], ads.iloc[test])
        yield Score(name, rmse(ads[TARGET], predicted))
