"""What travels with a model and is told of it: read once, and never in the model's way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand.features.category_statistics import category_statistics
from demand.registry import model_files
from demand.registry.model_files import (
    CARD_FILE,
    MARKET_FILE,
    NO_FACTS,
    copy_model,
    description,
    folder_digest,
    read_facts,
)
from demand.registry.packaging import save_model
from demand.registry.versions import RegisteredVersion
from demand.reports.card import model_card, write_card
from tests.ads_factory import make_ads
from tests.reports.card_facts import all_facts
from tests.serving.standin import LOADER, Standin

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an MLflow model with both files."""
    root = tmp_path_factory.mktemp("facts")
    write_card(model_card(all_facts()), root / "card")
    ads = make_ads(300)
    save_model(
        Standin(),
        root / "model",
        ads.head(5).drop(columns="deal_probability"),
        card=root / "card",
        market=category_statistics(ads),
        loader_module=LOADER,
    )
    return root / "model"


def copied(folder: Path, copy: Path) -> None:
    digest = folder_digest(folder)
    copy_model(RegisteredVersion("7", "", "", "", "", {}, folder, digest, "", {}), copy)


def written(folder: Path, file: Path, content: bytes) -> Path:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return folder


def test_both_files_travel_with_the_model(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copied(folder, copy)
    told = read_facts(copy, "7")
    assert told.market.body is not None
    assert told.card.body is not None
    assert json.loads(told.market.body) == category_statistics(make_ads(300))
    card = model_card(all_facts()).data
    assert json.loads(told.card.body) == {**card, "model_version": "7"}


def test_the_card_begins_with_the_model_and_what_it_is_for(folder: Path, tmp_path: Path) -> None:
    version, purpose = description(folder)
    assert version.startswith("# Model card: deal probability")
    assert "## Data" not in version
    assert purpose.startswith("For telling the seller")
    assert description(tmp_path) == ("", "")


@pytest.mark.parametrize("file", [MARKET_FILE, CARD_FILE])
def test_a_change_of_either_is_a_damaged_version(folder: Path, tmp_path: Path, file: Path) -> None:
    copy, digest = tmp_path / "copy", folder_digest(folder)
    copied(folder, copy)
    written(copy, file, b"{}")
    assert folder_digest(copy) != digest


def test_the_files_stay_small(folder: Path) -> None:
    assert (folder / MARKET_FILE).stat().st_size < 200_000
    assert (folder / CARD_FILE).stat().st_size < 50_000


def test_the_predictor_does_not_know_them(folder: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    save_model(Standin(), plain, make_ads(5).drop(columns="deal_probability"), loader_module=LOADER)
    assert folder_digest(plain / "data") == folder_digest(folder / "data")
    assert read_facts(plain, "7") == NO_FACTS


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "Expecting value"),
        (b'{"a": ', "Expecting value"),
        (b"\xff\xfe\xfd", "decode"),
        (b"[1]", "no JSON object"),
        (b'{"a": NaN}', "not JSON compliant"),
        (b'{"a": 1e999}', "not JSON compliant"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
        (b'{"a": %s}' % (b"[" * 100_000), "recursion"),
        (b'{"a": %s}' % (b"9" * 5000), "digits"),
        (b'{"a": "%s"}' % (b"a" * 2000), "over"),
    ],
    ids=["empty", "cut", "binary", "list", "nan", "infinite", "half", "deep", "digits", "large"],
)
def test_a_damaged_file_is_logged_and_not_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    content: bytes,
    why: str,
) -> None:
    if why == "over":
        monkeypatch.setattr(model_files, "_BYTES_MAX", 1000)
    told = read_facts(written(tmp_path, MARKET_FILE, content), "7")
    assert told.market.body is None
    assert "damaged" in told.market.why
    assert told.card == NO_FACTS.card
    (line,) = caplog.messages
    assert str(tmp_path / MARKET_FILE) in line
    assert why in line


def test_a_folder_in_place_of_a_file_is_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / CARD_FILE).mkdir(parents=True)
    assert read_facts(tmp_path, "7").card.body is None
    assert "Is a directory" in caplog.text


@settings(max_examples=30)
@given(value=st.dictionaries(st.text(), JSON))
def test_any_object_is_told_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, object]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    told = read_facts(written(folder, MARKET_FILE, json.dumps(value).encode()), "7")
    assert told.market.body is not None
    assert json.loads(told.market.body) == value
