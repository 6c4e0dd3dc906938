"""The comparison with peers is fair: same folds, no look ahead, and every figure arrives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import quality, quality_ours
from benchmarks.quality import chosen_entries, main, measure, subsample
from benchmarks.quality_features import AdNumbers, TargetStatistics, TextDigest
from benchmarks.quality_folds import (
    Entry,
    Family,
    Prepared,
    cross_validate,
    seller_folds,
    steps_of,
)
from benchmarks.quality_ours import VARIANTS, changed, our_entries, ours
from benchmarks.quality_peers import chosen_trees, inner_parts, peer_entries
from benchmarks.quality_report import write_quality
from benchmarks.quality_trees import LightGBMPeer, Settings
from demand.ads import TARGET
from demand.config import TrainingConfig
from demand.demo import generate
from demand.errors import ConfigError
from demand.metrics import rmse
from demand.predictor import Predictor
from demand.state import PROJECT_ROOT

REAL = PROJECT_ROOT.parent / "shared" / "avito" / "ads.csv"
ROWS = 400
TINY = peer_entries(
    ridge=(Settings({"alpha": 10.0}, terms=500), Settings({"alpha": 40.0}, terms=500)),
    lightgbm=(
        Settings({"num_leaves": 4}, rounds=20, components=4, terms=500),
        Settings({"num_leaves": 7}, rounds=20, components=4, terms=500),
    ),
    catboost=(Settings({"depth": 3}, rounds=20, components=4, terms=500),),
    seeds=(0, 1),
)
# Those of several seeds train as those of one do, but the MLP.
ALONE = [entry for entry in TINY if len(entry.seeds) == 1 or entry.combine == "each"]


@pytest.fixture(scope="module")
def ads() -> pd.DataFrame:
    return generate(ROWS, 11)


@pytest.fixture
def options(ads: pd.DataFrame, tmp_path: Path) -> list[str]:
    """Ads in a file, a configuration of defaults, and a place for results."""
    ads.to_csv(tmp_path / "ads.csv", index=False)
    (tmp_path / "config.yaml").write_text("seed: 42\n")
    config = ["--config", str(tmp_path / "config.yaml")]
    return ["--data", str(tmp_path / "ads.csv"), "--results", str(tmp_path), *config]


class Constant:
    def __init__(self, value: float) -> None:
        self.value = value

    def predict(self, ads: pd.DataFrame) -> np.ndarray:
        return np.full(len(ads), self.value)


class Spy:
    """A family that writes down what it is given."""

    def __init__(self) -> None:
        self.searched: list[pd.DataFrame] = []
        self.parts: list[tuple[pd.DataFrame, pd.DataFrame, int]] = []

    def prepare(self, train: pd.DataFrame) -> Prepared:
        self.searched.append(train)
        return Prepared(self.fit)

    def fit(self, train: pd.DataFrame, test: pd.DataFrame, seed: int):
        self.parts.append((train, test, seed))
        model = Constant(0.1 * (1 + seed))
        return model.predict(test), model

    def entry(self, key: str, seeds: tuple[int, ...] = (0,), combine="average") -> Entry:
        return Entry(key, key, Family(key, self.prepare), seeds, combine)


def test_folds_share_no_seller(ads: pd.DataFrame) -> None:
    fold = seller_folds(ads["user_id"], 5, 0)
    assert set(fold) == set(range(5))
    assert (pd.Series(fold).groupby(ads["user_id"].to_numpy()).nunique() == 1).all()


def test_folds_follow_from_their_seed(ads: pd.DataFrame) -> None:
    first, again, other = (seller_folds(ads["user_id"], 5, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_folds_are_the_same_for_everybody(ads: pd.DataFrame) -> None:
    one, two = Spy(), Spy()
    fold = seller_folds(ads["user_id"], 3, 0)
    list(cross_validate([one.entry("one"), two.entry("two", (0, 1))], ads, fold))
    assert [len(one.parts), len(two.parts)] == [3, 6]
    for (train, test, _), (same_train, same_test, _) in zip(one.parts, two.parts[::2], strict=True):
        pd.testing.assert_frame_equal(train, same_train)
        pd.testing.assert_frame_equal(test, same_test)
        assert not set(train["user_id"]) & set(test["user_id"])


def test_test_ads_come_without_their_target(ads: pd.DataFrame) -> None:
    spy = Spy()
    list(cross_validate([spy.entry("spy")], ads, seller_folds(ads["user_id"], 3, 0)))
    assert all(TARGET in train and TARGET not in test for train, test, _ in spy.parts)


def test_a_search_never_sees_the_test_ads_of_its_fold(ads: pd.DataFrame) -> None:
    spy = Spy()
    list(cross_validate([spy.entry("spy", (0, 1))], ads, seller_folds(ads["user_id"], 3, 0)))
    (searched,) = spy.searched
    train, test, _ = spy.parts[0]
    pd.testing.assert_frame_equal(searched, train)
    assert not set(searched["user_id"]) & set(test["user_id"])


def test_inner_parts_of_a_search_share_no_seller(ads: pd.DataFrame) -> None:
    parts = list(inner_parts(ads))
    assert sum(len(asked) for _, asked in parts) == ROWS
    for known, asked in parts:
        assert not set(known["user_id"]) & set(asked["user_id"])


def test_a_search_finds_rounds_within_its_limit(ads: pd.DataFrame) -> None:
    candidate = Settings({"num_leaves": 4}, rounds=30, components=4, terms=500)
    found = chosen_trees(LightGBMPeer, ads, (candidate,))
    assert found.rounds in (10, 20, 30)
    assert found.parameters == candidate.parameters


@pytest.mark.parametrize("entry", ALONE, ids=lambda entry: entry.key)
def test_every_peer_answers_with_probabilities(entry: Entry, ads: pd.DataFrame) -> None:
    (outcome,) = cross_validate([entry], ads, seller_folds(ads["user_id"], 2, 0))
    models = len(entry.seeds) if entry.combine == "each" else 1
    assert outcome.predicted.shape == (models, ROWS)
    assert np.isfinite(outcome.predicted).all()
    assert outcome.predicted.min() >= 0.0
    assert outcome.predicted.max() <= 1.0
    assert outcome.kilobytes > 0.0


def test_entries_of_a_family_train_a_seed_once(ads: pd.DataFrame) -> None:
    spy = Spy()
    family = Family("one", spy.prepare)
    entries = [Entry("a", "a", family, (0,)), Entry("b", "b", family, (0, 1))]
    steps: list[str] = []
    fold = seller_folds(ads["user_id"], 2, 0)
    list(cross_validate(entries, ads, fold, lambda name, done: steps.append(name + done)))
    assert len(spy.parts) == 4
    assert len(steps) == steps_of(entries, 2)


def test_seeds_are_averaged_or_count_each(ads: pd.DataFrame) -> None:
    entries = [Spy().entry("average", (0, 2)), Spy().entry("each", (0, 2), "each")]
    average, each = measure(ads, entries, 2, 0).scores
    singles = [rmse(ads[TARGET], np.full(ROWS, value)) for value in (0.1, 0.3)]
    assert average.rmse == pytest.approx(rmse(ads[TARGET], np.full(ROWS, 0.2)))
    assert each.rmse == pytest.approx(np.mean(singles))


@pytest.mark.parametrize("learner", [TargetStatistics, lambda: TextDigest(4, terms=500)])
def test_no_training_ad_is_described_by_its_own_target(learner, ads: pd.DataFrame) -> None:
    seller = ads["user_id"] == ads["user_id"].iloc[0]
    other = ads.assign(**{TARGET: ads[TARGET].where(~seller, 1.0 - ads[TARGET])})
    before, after = learner().fit_transform(ads), learner().fit_transform(other)
    np.testing.assert_allclose(before[seller], after[seller])
    assert (before[~seller] != after[~seller]).any()


def test_an_ad_has_the_same_numbers_alone_as_among_others(ads: pd.DataFrame) -> None:
    numbers = AdNumbers().fit(ads)
    np.testing.assert_array_equal(numbers.transform(ads)[7], numbers.transform(ads.iloc[[7]])[0])


def test_tables_and_files_are_written(ads: pd.DataFrame, tmp_path: Path) -> None:
    spy = Spy()
    good = Entry("ours", "ours", Family("ours", spy.prepare, missing=("price", "city")))
    found = measure(ads, [*TINY[:2], good], 2, 0)
    markdown = write_quality(found, tmp_path).read_text(encoding="utf-8")
    written = json.loads((tmp_path / "quality.json").read_text(encoding="utf-8"))
    titles = [grid.title.split()[0] for grid in found.grids()]
    assert titles == ["Quality", "Ours", "Calibration", "Outcomes"]
    assert 0.0 <= written["coverage"]["ours"]["overall"] <= 1.0
    assert [model["key"] for model in written["models"]] == ["mean", "categories", "ours"]
    assert {item["column"] for item in written["missing_columns"]} == {"price", "city"}
    assert set(written["models"][0]["versus"]) == {"ours"}
    assert "| category means |" in markdown
    assert (tmp_path / "quality.png").read_bytes().startswith(b"\x89PNG")


def test_all_deciles_and_ads_are_in_the_calibration(ads: pd.DataFrame) -> None:
    (found,) = measure(ads, [Spy().entry("ours")], 2, 0).calibration.values()
    assert found["rows"].sum() == ROWS


def test_ours_answers_each_ad_also_without_a_column(ads: pd.DataFrame) -> None:
    entries = chosen_entries(our_entries(_quick()), "ours")
    found = measure(ads, entries, 2, 0)
    assert {item.column for item in found.missing} == set(quality_ours.OPTIONAL)
    assert all(0.0 < item.rmse < 1.0 for item in found.missing)
    assert found.scores[0].kilobytes > 1.0


def test_ours_is_a_predictor_of_its_training_ads_only(ads: pd.DataFrame) -> None:
    test = ads.iloc[300:].drop(columns=TARGET)
    predicted, predictor = ours(ads.iloc[:300], test, _quick(), 42)
    assert isinstance(predictor, Predictor)
    np.testing.assert_array_equal(predicted, predictor.predict(test))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.key)
def test_a_variant_differs_from_ours_as_it_says(
    variant, ads: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def instead(train, test, config, seed):
        seen.append((train, test, config))
        return np.zeros(len(test)), Constant(0.0)

    monkeypatch.setattr(quality_ours, "ours", instead)
    config = _quick()
    (entry,) = chosen_entries(our_entries(config), variant.key)
    list(cross_validate([entry], ads, seller_folds(ads["user_id"], 2, 0)))
    train, test, used = seen[0]
    assert used == changed(config, variant.changes)
    assert variant.without or used != config
    assert train[list(variant.without)].isna().all(axis=None)
    assert test[list(variant.without)].isna().all(axis=None)


def test_a_change_of_an_unknown_key_is_an_error() -> None:
    with pytest.raises(ValueError, match="no_such_key"):
        changed(TrainingConfig(), {"features": {"no_such_key": 1}})


def test_without_models_everything_but_the_variants_is_run() -> None:
    keys = [entry.key for entry in chosen_entries([*TINY, *our_entries(_quick())], None)]
    assert keys == [*(entry.key for entry in TINY), "ours", "ours5"]


def test_fewer_rows_are_a_part_of_the_ads_in_their_order(ads: pd.DataFrame) -> None:
    fewer = subsample(ads, 50, 0)
    assert len(fewer) == 50
    assert list(fewer["item_id"]) == [i for i in ads["item_id"] if i in set(fewer["item_id"])]
    assert subsample(ads, ROWS + 1, 0) is ads


def test_fewer_sellers_than_folds_are_an_error(ads: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="folds"):
        measure(ads.head(3), TINY[:1], 5, 0)


def test_the_program_prints_writes_and_is_quiet(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options += ["--folds", "2", "--rows", "200"]
    assert main([*options, "--models", "mean,categories", "--quiet"]) == 0
    said = capsys.readouterr()
    assert "category means" in said.out
    assert said.err == ""
    assert (tmp_path / "quality.md").exists()


def test_elsewhere_than_on_a_terminal_progress_is_a_line_a_model(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, "--models", "mean,categories"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["mean", "category means"]


def test_worse_than_category_means_without_a_column_is_a_failure(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    family = Family("ours", lambda _: Prepared(_bad), ("city",))
    monkeypatch.setattr(quality, "our_entries", lambda _: [Entry("ours", "ours", family)])
    assert main([*options, "--models", "ours"]) == 1


@pytest.mark.parametrize(
    ("mistake", "word"),
    [(["--data", "none.csv"], "--data"), (["--models", "our"], "ours-no-image")],
)
def test_a_mistake_is_one_message(
    mistake: list[str], word: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, *mistake]) == 1
    (message,) = capsys.readouterr().err.splitlines()
    assert word in message


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "python -m benchmarks.quality --data" in capsys.readouterr().out


@pytest.mark.skipif(not REAL.exists(), reason=f"the real ads are not at {REAL}")
def test_category_means_beat_the_mean_on_real_ads(options: list[str], tmp_path: Path) -> None:
    assert main([*options, "--data", str(REAL), "--models", "mean,categories", "--quiet"]) == 0
    mean, categories = json.loads((tmp_path / "quality.json").read_text())["models"]
    assert 0.24 < categories["rmse"] < mean["rmse"] < 0.27


def _quick() -> TrainingConfig:
    return changed(TrainingConfig(), {"training": {"epochs_max": 1}})


def _bad(train: pd.DataFrame, test: pd.DataFrame, seed: int):
    model = Constant(1.0)
    return model.predict(test), model
