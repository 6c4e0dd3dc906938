"""The comparison with peers is fair: same folds, no look ahead, and every figure arrives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import quality
from benchmarks.models.features import AdNumbers, TargetStatistics, TextDigest
from benchmarks.models.folds import Entry, cross_validate, seller_folds
from benchmarks.models.ours import IMAGE_COLUMNS, OPTIONAL, SELLER_COLUMNS, Ours, our_entries
from benchmarks.models.peers import (
    EVERY,
    LightGBMPeer,
    Settings,
    chosen,
    inner_parts,
    peer_entries,
)
from benchmarks.quality import chosen_entries, main, measure, subsample
from benchmarks.report import Report
from demand.config import TrainingConfig
from demand.demo import generate
from demand.errors import ConfigError
from demand.evaluation.metrics import rmse
from demand.model.predictor import Predictor
from demand.schema.columns import TARGET
from demand.workspace.workspace import PROJECT_ROOT

REAL = PROJECT_ROOT.parent / "shared" / "avito" / "ads.csv"
ROWS = 400
TINY = peer_entries(
    ridge=tuple(Settings({"alpha": alpha}, rounds=EVERY, terms=500) for alpha in (10.0, 40.0)),
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

    def fit(self, ads: pd.DataFrame) -> Constant:
        return self

    def predict(self, ads: pd.DataFrame) -> np.ndarray:
        return np.full(len(ads), self.value)


class Spy:
    """Models that write down what they are given."""

    def __init__(self) -> None:
        self.searched: list[pd.DataFrame] = []
        self.trained: list[pd.DataFrame] = []
        self.asked: list[pd.DataFrame] = []

    def prepare(self, train: pd.DataFrame):
        self.searched.append(train)
        return lambda seed: Spied(0.1 * (1 + seed), self)

    def entry(self, key: str, seeds: tuple[int, ...] = (0,), combine="average") -> Entry:
        return Entry(key, key, self.prepare, seeds, combine)


class Spied(Constant):
    def __init__(self, value: float, spy: Spy) -> None:
        super().__init__(value)
        self.spy = spy

    def fit(self, ads: pd.DataFrame) -> Constant:
        self.spy.trained.append(ads)
        return self

    def predict(self, ads: pd.DataFrame) -> np.ndarray:
        # Asked again and again only to be timed.
        if len(self.spy.asked) < len(self.spy.trained):
            self.spy.asked.append(ads)
        return super().predict(ads)


def table(report: Report, title: str) -> list[dict[str, object]]:
    """The rows of the table whose title begins so."""
    (grid,) = [grid for grid in report.grids if grid.title.startswith(title)]
    return grid.records()


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
    assert [len(one.trained), len(two.trained)] == [3, 6]
    for ours, theirs in ((one.trained, two.trained), (one.asked, two.asked)):
        for part, same, again in zip(ours, theirs[:3], theirs[3:], strict=True):
            pd.testing.assert_frame_equal(part, same)
            pd.testing.assert_frame_equal(part, again)
    for train, test in zip(one.trained, one.asked, strict=True):
        assert not set(train["user_id"]) & set(test["user_id"])
        assert TARGET in train
        assert TARGET not in test


def test_a_search_never_sees_the_test_ads_of_its_fold(ads: pd.DataFrame) -> None:
    spy = Spy()
    list(cross_validate([spy.entry("spy", (0, 1))], ads, seller_folds(ads["user_id"], 3, 0)))
    (searched,) = spy.searched
    pd.testing.assert_frame_equal(searched, spy.trained[0])
    assert not set(searched["user_id"]) & set(spy.asked[0]["user_id"])


def test_inner_parts_of_a_search_share_no_seller(ads: pd.DataFrame) -> None:
    parts = list(inner_parts(ads))
    assert sum(len(asked) for _, asked in parts) == ROWS
    for known, asked in parts:
        assert not set(known["user_id"]) & set(asked["user_id"])


def test_a_search_finds_rounds_within_its_limit(ads: pd.DataFrame) -> None:
    candidate = Settings({"num_leaves": 4}, rounds=30, components=4, terms=500)
    found = chosen(LightGBMPeer, ads, (candidate,))
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
    assert (outcome.costs > 0.0).all()


def test_entries_that_are_prepared_alike_train_a_seed_once(ads: pd.DataFrame) -> None:
    spy = Spy()
    entries = [spy.entry("a", (0,)), spy.entry("b", (0, 1))]
    said: list[str] = []
    list(cross_validate(entries, ads, seller_folds(ads["user_id"], 2, 0), said.append))
    assert len(spy.trained) == 4
    assert said == ["a (1/2)", "b (2/2)"]


def test_seeds_are_averaged_or_count_each(ads: pd.DataFrame) -> None:
    entries = [Spy().entry("average", (0, 2)), Spy().entry("each", (0, 2), "each")]
    average, each = table(measure(ads, entries, 2, 0), "Quality")
    singles = [rmse(ads[TARGET], np.full(ROWS, value)) for value in (0.1, 0.3)]
    assert average["RMSE"] == pytest.approx(rmse(ads[TARGET], np.full(ROWS, 0.2)))
    assert each["RMSE"] == pytest.approx(np.mean(singles))


def test_a_distance_to_ours_is_that_of_the_two_errors(ads: pd.DataFrame) -> None:
    found = table(measure(ads, [Spy().entry("other", (1,)), Spy().entry("ours")], 2, 0), "Quality")
    gap = float(found[0]["RMSE"]) - float(found[1]["RMSE"])  # type: ignore[arg-type]
    assert str(found[0]["RMSE - ours"]).startswith(f"{gap:+.4f} (")
    assert found[1]["RMSE - ours"] is None


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
    good = Entry("ours", "ours", spy.prepare, missing=("price", "city"))
    found = measure(ads, [*TINY[:2], good], 2, 0)
    markdown = found.write(tmp_path).read_text(encoding="utf-8")
    tables = json.loads((tmp_path / "quality.json").read_text(encoding="utf-8"))["tables"]
    titles = [title.split()[0] for title in tables]
    assert titles == ["Quality", "Ours", "Calibration", "Outcomes"]
    models = [model["model"] for model in tables["Quality by model"]]
    assert models == ["mean", "category means", "ours"]
    assert {item["without"] for item in table(found, "Ours where")} == {"price", "city"}
    assert 0.0 <= float(table(found, "Outcomes")[0]["covered"]) <= 1.0  # type: ignore[arg-type]
    assert "| category means |" in markdown


def test_what_a_search_chose_is_told(ads: pd.DataFrame) -> None:
    (settings,) = measure(ads, TINY[3:4], 2, 0).details
    assert [(name, "alpha" in str(what)) for name, what in settings.rows] == [
        ("ridge on TF-IDF", True)
    ]


def test_all_deciles_and_ads_are_in_the_calibration(ads: pd.DataFrame) -> None:
    found = table(measure(ads, [Spy().entry("ours")], 2, 0), "Calibration")
    assert sum(int(each["ads"]) for each in found) == ROWS  # type: ignore[call-overload]


def test_ours_answers_each_ad_also_without_a_column(ads: pd.DataFrame) -> None:
    found = measure(ads, chosen_entries(our_entries(_quick()), "ours"), 2, 0)
    missing = table(found, "Ours where")
    assert {item["without"] for item in missing} == set(OPTIONAL)
    assert all(0.0 < float(item["RMSE"]) < 1.0 for item in missing)  # type: ignore[arg-type]
    assert float(table(found, "Quality")[0]["KB"]) > 1.0  # type: ignore[arg-type]


def test_ours_is_a_predictor_of_its_training_ads_only(ads: pd.DataFrame) -> None:
    test = ads.iloc[300:].drop(columns=TARGET)
    model = Ours(_quick(), 42).fit(ads.iloc[:300])
    assert isinstance(model.predictor, Predictor)
    np.testing.assert_array_equal(model.predict(test), model.predictor.predict(test))


@pytest.mark.parametrize(
    ("key", "without"), [("ours-no-image", IMAGE_COLUMNS), ("ours-no-seller", SELLER_COLUMNS)]
)
def test_a_variant_differs_from_ours_as_it_says(key: str, without: tuple[str, ...]) -> None:
    config = _quick()
    (entry,) = chosen_entries(our_entries(config), key)
    model = entry.prepare(pd.DataFrame())(42)
    assert isinstance(model, Ours)
    assert model.config == config
    assert tuple(model.emptied) == without


def test_columns_that_a_variant_lacks_are_neither_learnt_from_nor_read(ads: pd.DataFrame) -> None:
    train, test = ads.iloc[:300], ads.iloc[300:].drop(columns=TARGET)
    other = {"user_type": "Shop", "item_seq_number": 7.0}
    without = ("user_type", "item_seq_number")
    one = Ours(_quick(), 42, without).fit(train)
    two = Ours(_quick(), 42, without).fit(train.assign(**other))
    np.testing.assert_array_equal(one.predict(test), two.predict(test.assign(**other)))


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


def test_progress_is_a_line_a_model(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*options, "--models", "mean,categories"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" s  ")[1] for line in lines] == ["mean (1/2)", "category means (2/2)"]


def test_worse_than_category_means_without_a_column_is_a_failure(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Entry("ours", "ours", lambda _: lambda _: Constant(1.0), missing=("city",))
    monkeypatch.setattr(quality, "our_entries", lambda _: [bad])
    assert main([*options, "--models", "ours"]) == 1


@pytest.mark.parametrize(
    ("mistake", "word"),
    [(["--data", "none.csv"], "none.csv"), (["--models", "our"], "ours-no-image")],
)
def test_a_mistake_is_one_message(
    mistake: list[str], word: str, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, *mistake]) == 1
    (message,) = capfd.readouterr().err.splitlines()
    assert word in message


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "python -m benchmarks.quality --data" in capsys.readouterr().out


@pytest.mark.skipif(not REAL.exists(), reason=f"the real ads are not at {REAL}")
def test_category_means_beat_the_mean_on_real_ads(options: list[str], tmp_path: Path) -> None:
    assert main([*options, "--data", str(REAL), "--models", "mean,categories", "--quiet"]) == 0
    tables = json.loads((tmp_path / "quality.json").read_text())["tables"]
    mean, categories = (model["RMSE"] for model in tables["Quality by model"])
    assert 0.24 < categories < mean < 0.27


def _quick() -> TrainingConfig:
    return TrainingConfig.model_validate({"training": {"epochs_max": 1}})
