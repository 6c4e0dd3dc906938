from __future__ import annotations

import json
import math
import pickletools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from demand.errors import ModelError, StateError
from demand.features.encoding import BLOCK, AdColumns
from demand.model.calibration import fit_intervals
from demand.model.predictor import ARRAYS_NAME, FORMAT, JSON_NAME, Predictor
from demand.model.training import calibrate_percentiles, train
from demand.registry.packaging import records
from demand.schema.columns import INPUT_COLUMNS, TARGET
from demand.schema.population import reference
from demand.schema.records import frame_from_records, typed_records
from demand.workspace.workspace import read_json, write_json
from tests.ads_factory import make_ads
from tests.full_disk import full_disk
from tests.tiny_model import (
    TRAINING,
    tiny_features,
    tiny_predictor,
)

ADS = make_ads(80, seed=7).drop(columns=TARGET)
OPTIONAL = [c.name for c in INPUT_COLUMNS if c.name not in ("title", "category_name")]
AD = {"title": "Велосипед горный", "category_name": "Велосипеды", "price": 9000}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return tiny_predictor()


@pytest.fixture(scope="module")
def answers(predictor: Predictor) -> np.ndarray:
    return predictor.predict(ADS)


@pytest.fixture
def folder(predictor: Predictor, tmp_path: Path) -> Path:
    predictor.save(tmp_path / "model")
    return tmp_path / "model"


def test_answers_are_probabilities_that_differ(answers: np.ndarray) -> None:
    assert answers.shape == (80,)
    assert answers.dtype == np.float64
    assert (answers >= 0).all()
    assert (answers <= 1).all()
    assert len(np.unique(answers)) > 40


def texts(change: Callable[[str], str]) -> pd.DataFrame:
    """Return the ads with every text but the ids changed."""
    changed = ADS.copy()
    for column in INPUT_COLUMNS:
        if column.kind == "text" and column.name not in ("item_id", "user_id", "image"):
            changed[column.name] = [v if v is None else change(v) for v in ADS[column.name]]
    return changed


@pytest.mark.parametrize(
    "change",
    [
        str.upper,
        str.lower,
        lambda text: text.replace("ё", "е").replace("Ё", "Е"),
        lambda text: f"{text}  \n",
        lambda text: f" \t{text}",
    ],
    ids=["upper", "lower", "yo", "space after", "space before"],
)
def test_the_way_of_writing_does_not_change_answers(
    predictor: Predictor, answers: np.ndarray, change: Callable[[str], str]
) -> None:
    np.testing.assert_array_equal(predictor.predict(texts(change)), answers)


@pytest.mark.parametrize("end", ["🙂", " 🎉🎉", "!!!", "...", " —", "\u200b", "️"])
def test_emoji_and_punctuation_do_not_change_answers(
    predictor: Predictor, answers: np.ndarray, end: str
) -> None:
    changed = ADS.copy()
    for name in ("title", "description"):
        changed[name] = [v if v is None else v.replace(" ", f"{end} ") + end for v in ADS[name]]
    np.testing.assert_array_equal(predictor.predict(changed), answers)


@pytest.mark.parametrize(
    "change",
    [
        lambda ads: ads[ads.columns[::-1]],
        lambda ads: ads.assign(item_id="?", user_id="nobody"),
        lambda ads: ads.drop(columns=["item_id", "user_id"]),
        lambda ads: ads.assign(colour="red"),
        lambda ads: ads.assign(**{TARGET: 1.0}),
        lambda ads: ads.set_index(pd.Index(range(7, 7 + len(ads)))),
        lambda ads: ads.assign(image="f" * 64).where(ads["image"].notna(), ads),
    ],
    ids=["order", "ids", "no ids", "other column", "the target", "index", "image id"],
)
def test_what_says_nothing_of_the_ad_does_not_change_answers(
    predictor: Predictor, answers: np.ndarray, change: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    np.testing.assert_array_equal(predictor.predict(change(ADS)), answers)


def test_the_order_of_ads_is_that_of_answers(predictor: Predictor, answers: np.ndarray) -> None:
    np.testing.assert_array_equal(predictor.predict(ADS[::-1]), answers[::-1])


def test_many_ads_are_answered_in_blocks(predictor: Predictor, answers: np.ndarray) -> None:
    many = pd.concat([ADS] * (BLOCK // len(ADS) + 2), ignore_index=True)
    found = predictor.predict(many)
    assert len(found) == len(many) > BLOCK
    np.testing.assert_array_equal(found[-80:], answers)


def test_no_ads_get_no_answers(predictor: Predictor) -> None:
    assert predictor.predict(ADS.head(0)).shape == (0,)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("column", OPTIONAL)
def test_an_optional_column_may_be_absent_or_empty(predictor: Predictor, column: str) -> None:
    absent = predictor.predict(ADS.drop(columns=column))
    empty = ADS.assign(**{column: pd.NaT if column == "activation_date" else None})
    assert np.isfinite(absent).all()
    np.testing.assert_array_equal(predictor.predict(empty), absent)


@pytest.mark.filterwarnings("error")
def test_title_and_category_are_enough(predictor: Predictor) -> None:
    assert np.isfinite(predictor.predict(ADS[["title", "category_name"]])).all()


@pytest.mark.parametrize("column", ["title", "category_name"])
def test_an_absent_required_column_is_named(predictor: Predictor, column: str) -> None:
    with pytest.raises(ModelError, match=f"no column {column}"):
        predictor.predict(ADS.drop(columns=column))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("column", ["category_name", "region", "city", "param_1", "user_type"])
def test_an_unseen_value_is_answered(predictor: Predictor, column: str) -> None:
    ads = ADS.assign(**{column: "нет такого"})
    assert np.isfinite(predictor.predict(ads)).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "odd",
    [
        {"price": 0},
        {"price": 1},
        {"price": 79e9},
        {"price": 1e300},
        {"price": -5},
        {"price": math.inf},
        {"item_seq_number": -1},
        {"item_seq_number": -1000},
        {"item_seq_number": 10**30},
        {"image_top_1": -3},
        {"image_top_1": 2**64},
        {"image_top_1": 0.5},
        {"title": ""},
        {"title": "🙂🙂"},
        {"title": "自転車 売ります"},
        {"title": "דרגש أريكة Ñandú"},
        {"title": "\ud83d"},
        {"description": "\0"},
        {"activation_date": "not a date"},
        {"activation_date": "9999-12-31"},
        {"activation_date": "12:30"},
    ],
    ids=repr,
)
def test_an_odd_ad_gets_a_probability(predictor: Predictor, odd: dict[str, Any]) -> None:
    ad = AD | odd
    answer = predictor.predict_one(ad)
    assert 0.0 <= answer <= 1.0
    assert predictor.predict(pd.DataFrame([ad]))[0] == answer


def test_a_description_of_five_megabytes_is_answered_in_bounded_time(predictor: Predictor) -> None:
    started = time.process_time()
    answer = predictor.predict_one(AD | {"description": "почти новый велосипед, " * 220_000})
    assert 0.0 <= answer <= 1.0
    assert time.process_time() - started < 5.0


def test_one_ad_is_answered_as_in_a_table(predictor: Predictor, answers: np.ndarray) -> None:
    for row, ad in enumerate(ADS.to_dict("records")):
        one = predictor.predict_one({str(name): value for name, value in ad.items()})
        assert one == answers[row]


NUMBER = st.none() | st.integers(-(10**30), 10**30) | st.floats(allow_subnormal=False)
WORDING = st.none() | st.text(max_size=40)
RECORD = st.fixed_dictionaries(
    {"title": WORDING, "category_name": WORDING | st.sampled_from([*reference().parent_of])},
    optional={
        "price": NUMBER,
        "item_seq_number": NUMBER,
        "image_top_1": NUMBER,
        "description": WORDING,
        "param_1": WORDING,
        "region": WORDING,
        "image": WORDING,
        "user_type": st.sampled_from(["Private", "Company", "Shop", "?", None]),
        "activation_date": st.none() | st.text(max_size=12) | st.dates().map(str) | st.dates(),
    },
)


@settings(max_examples=150)
@given(st.lists(RECORD, min_size=1, max_size=3))
def test_any_record_is_answered_as_in_a_table(records: list[dict[str, Any]]) -> None:
    predictor = tiny_predictor()
    names = {name for record in records for name in record}
    frame = pd.DataFrame(
        {n: pd.Series([record.get(n) for record in records], dtype=object) for n in names}
    )
    found = predictor.predict(frame)
    assert (found >= 0).all()
    assert (found <= 1).all()
    alone = [predictor.predict_one(record) for record in records]
    np.testing.assert_array_equal(found, alone)


def test_a_record_is_answered_like_the_typed_ad_of_it(predictor: Predictor) -> None:
    ads = [AD, AD | {"activation_date": "2017-03-28"}, AD | {"description": "  ", "param_2": None}]
    typed = predictor.predict(frame_from_records(ads))
    np.testing.assert_array_equal(typed[:2], [predictor.predict_one(ad) for ad in ads[:2]])


def test_answers_are_the_same_after_saving_and_loading(folder: Path, answers: np.ndarray) -> None:
    assert Predictor.load(folder).predict(ADS).tobytes() == answers.tobytes()


def test_a_model_answers_the_same_after_loading(folder: Path) -> None:
    made, again = tiny_predictor(), Predictor.load(folder)
    assert again.predict(ADS).tobytes() == made.predict(ADS).tobytes()
    assert again.predict_one(AD) == made.predict_one(AD)
    assert again.predict_one({}) == made.predict_one({})


def with_settings(folder: Path, **settings: Any) -> None:
    """Save settings that models had when texts could be read in other ways, too."""
    about = read_json(folder / JSON_NAME)
    about["features"] |= settings
    write_json(folder / JSON_NAME, about)


def test_a_model_from_before_other_encoders_were_gone_answers_the_same(folder: Path) -> None:
    before = Predictor.load(folder).predict(ADS)
    with_settings(folder, text_encoder="ngrams", sequence_words_max=40, sequence_buckets=2048)
    assert Predictor.load(folder).predict(ADS).tobytes() == before.tobytes()


@pytest.mark.parametrize("encoder", ["gru", "attention"])
def test_a_model_of_an_encoder_that_is_gone_is_refused(folder: Path, encoder: str) -> None:
    with_settings(folder, text_encoder=encoder, sequence_words_max=40, sequence_buckets=2048)
    with pytest.raises(ModelError, match=f"reads texts by '{encoder}'.*: retrain with"):
        Predictor.load(folder)


def test_an_ad_is_answered_as_in_a_table() -> None:
    made = tiny_predictor()
    together = made.predict(ADS)
    for row in range(0, len(ADS), 8):
        alone = made.predict(ADS.iloc[row : row + 1])
        np.testing.assert_allclose(alone, together[row], rtol=0, atol=1e-6)


def test_a_model_that_was_loaded_saves_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    Predictor.load(folder).save(tmp_path / "again")
    for name in (JSON_NAME, ARRAYS_NAME):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_the_same_training_saves_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    train(tiny_features(), TRAINING, seed=1).predictor.save(tmp_path / "again")
    for name in (JSON_NAME, ARRAYS_NAME):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_a_saved_model_is_json_and_arrays_without_pickle(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [ARRAYS_NAME, JSON_NAME]
    assert json.loads((folder / JSON_NAME).read_text())["format"] == FORMAT
    assert all(array.dtype != object for array in load_file(folder / ARRAYS_NAME).values())
    for path in folder.iterdir():
        with pytest.raises(ValueError, match=r".*"):
            list(pickletools.genops(path.read_bytes()))


def test_saving_replaces_the_model_before(folder: Path, answers: np.ndarray) -> None:
    (folder / "stray").touch()
    tiny_predictor().save(folder)
    assert sorted(path.name for path in folder.iterdir()) == [ARRAYS_NAME, JSON_NAME]
    assert Predictor.load(folder).predict(ADS).tobytes() == answers.tobytes()


def test_a_full_disk_keeps_the_model_before(folder: Path, answers: np.ndarray) -> None:
    with full_disk(limit=1000), pytest.raises(StateError, match=f"cannot write {folder}"):
        tiny_predictor().save(folder)
    assert Predictor.load(folder).predict(ADS).tobytes() == answers.tobytes()
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def _without(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        arrays = load_file(folder / ARRAYS_NAME)
        del arrays[name]
        save_file(arrays, folder / ARRAYS_NAME)

    return damage


def _reshaped(folder: Path) -> None:
    arrays = load_file(folder / ARRAYS_NAME)
    arrays["weights.deep.0.weight"] = arrays["weights.deep.0.weight"][:, :-1].copy()
    save_file(arrays, folder / ARRAYS_NAME)


def _changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        arrays = load_file(folder / ARRAYS_NAME)
        arrays[name] = np.ascontiguousarray(change(arrays[name]))
        save_file(arrays, folder / ARRAYS_NAME)

    return damage


def _truncated(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-50]) and None


def _with_json(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / JSON_NAME).write_text(text, encoding="utf-8") and None


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "holds no model"),
        (lambda folder: (folder / JSON_NAME).unlink(), "holds no model"),
        (lambda folder: (folder / ARRAYS_NAME).unlink(), "damaged"),
        (_truncated(ARRAYS_NAME), "damaged"),
        (_truncated(JSON_NAME), "damaged"),
        (lambda folder: (folder / JSON_NAME).write_bytes(b"\xff\xfe\0"), "damaged"),
        (lambda folder: (folder / ARRAYS_NAME).write_bytes(b""), "damaged"),
        (lambda folder: (folder / ARRAYS_NAME).write_bytes(b"\x80\x04]."), "damaged"),
        (_without("weights.wide.step"), "damaged"),
        (_without("weights.wide.weight"), "damaged"),
        (_without("weights.wide.scale"), "damaged"),
        (_without("weights.deep.0.bias"), "damaged"),
        (_without("features.center"), "damaged"),
        (_without("features.target.keys"), "damaged"),
        (_reshaped, "damaged"),
        (_without("features.rarity"), "damaged"),
        # Compiled code looks at no bounds, so that these would be read past their end.
        (_changed("features.rarity", lambda rarity: rarity[:-1]), "damaged"),
        (_changed("features.center", lambda center: center[:-1]), "damaged"),
        (_changed("features.scale", lambda scale: scale[None]), "damaged"),
        (_changed("features.target.means", lambda means: means[:-1]), "damaged"),
        (_changed("features.price.means", lambda means: means[:-1]), "damaged"),
        (_changed("features.overall", lambda overall: overall[:0]), "damaged"),
        (_changed("features.numbers.which", lambda which: which + 1), "damaged"),
        (_changed("features.numbers.which", lambda which: which - 1), "damaged"),
        (_changed("features.numbers.width", lambda width: width[:-1]), "damaged"),
        (_changed("weights.deep.0.bias", lambda bias: bias[:-1]), "damaged"),
        (_changed("weights.deep.1.weight", lambda weight: weight[:, :-1]), "damaged"),
        (_without("weights.deep.2.weight"), "damaged"),
        (_with_json('{"format": 3}'), "damaged"),
        (_with_json('{"format": 3, "features": null}'), "damaged"),
        (_with_json('{"format": 3, "features": {"buckets": 0}}'), "damaged"),
        (_with_json('{"format": 3, "features": {"unknown": 5}}'), "damaged"),
        (_with_json('{"format": 1, "features": {}}'), "format 1, this version reads 3"),
        (_with_json('{"format": 4, "features": {}}'), "format 4, this version reads 3"),
        (_with_json("{}"), "format None, this version reads 3"),
        (_with_json("[1]"), "format None, this version reads 3"),
    ],
)
def test_a_damaged_or_foreign_folder_is_named(
    folder: Path, damage: Callable[[Path], Any], words: str
) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=words) as raised:
        Predictor.load(folder)
    assert str(folder) in str(raised.value)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    with pytest.raises(ModelError, match="holds no model"):
        Predictor.load(tmp_path / "model")


def complete_model(answers: np.ndarray) -> Predictor:
    """Return a model with intervals and percentiles."""
    outcomes = np.random.default_rng(0).random(len(ADS))
    intervals = fit_intervals(answers, outcomes, ADS["parent_category_name"].tolist())
    return calibrate_percentiles(tiny_predictor().with_table(intervals), ADS)


def test_an_answer_says_what_each_question_says(answers: np.ndarray) -> None:
    model = complete_model(answers)
    asked = records(ADS)
    found = model.answer(AdColumns.from_typed(typed_records(asked)))
    frame = frame_from_records(asked)
    np.testing.assert_array_equal(found.probability, model.predict(frame))
    low, high = model.interval(frame)
    np.testing.assert_array_equal(found.low, low)
    np.testing.assert_array_equal(found.high, high)
    assert found.percentile is not None
    assert 0.0 <= found.percentile.min() < found.percentile.max() <= 1.0


def test_an_answer_to_one_ad_is_that_of_a_batch(answers: np.ndarray) -> None:
    model = complete_model(answers)
    asked = records(ADS)
    together = model.answer(AdColumns.from_typed(typed_records(asked)))
    alone = [model.answer(AdColumns.from_typed(typed_records([ad]))) for ad in asked]
    for name in ("probability", "low", "high", "percentile"):
        found = np.concatenate([getattr(answer, name) for answer in alone])
        np.testing.assert_array_equal(found, getattr(together, name))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("intervals.quantiles", lambda quantiles: quantiles[:-1]),
        ("intervals.pooled", lambda pooled: pooled[:0]),
        ("ranks.quantiles", lambda quantiles: quantiles[:-1]),
        ("ranks.quantiles", lambda quantiles: quantiles[:, :-1]),
    ],
)
def test_damaged_tables_are_named(
    answers: np.ndarray, tmp_path: Path, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    outcomes = np.random.default_rng(0).random(len(ADS))
    intervals = fit_intervals(answers, outcomes, ["одна"] * len(ADS))
    model = calibrate_percentiles(tiny_predictor().with_table(intervals), ADS)
    model.save(tmp_path / "model")
    _changed(name, change)(tmp_path / "model")
    with pytest.raises(ModelError, match="damaged"):
        Predictor.load(tmp_path / "model")


def test_many_ads_get_all_answers_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    ads = AdColumns.from_frame(ADS)
    model = calibrate_percentiles(tiny_predictor(), ADS)
    whole = model.answer(ads)
    monkeypatch.setattr("demand.features.encoding.BLOCK", 7)
    in_blocks = model.answer(ads)
    np.testing.assert_array_equal(in_blocks.probability, whole.probability)
    np.testing.assert_array_equal(in_blocks.percentile, whole.percentile)
    assert in_blocks.low is None


def test_an_answer_without_tables_has_the_probability_alone() -> None:
    found = tiny_predictor().answer(AdColumns.from_typed(typed_records([AD])))
    assert (found.low, found.high, found.percentile) == (None, None, None)
