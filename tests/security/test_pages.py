"""Pages of texts that strangers wrote: no element and no attribute of theirs is in them."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demand.config import CheckSettings, GateSettings, ValidationSettings
from demand.evaluation.checks import run_checks
from demand.evaluation.evaluate import evaluate
from demand.reports.pages import write_checks, write_data_docs, write_evaluation
from demand.validation.validate import validate_ads
from tests.ads_factory import make_ads
from tests.toy_model import GoodModel

HOSTILE = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script><evil>&lt;"
TEXTS = ("title", "description", "region", "city", "category_name", "parent_category_name")
IDS = ("item_id", "user_id")
UNPARSED = pd.DataFrame(columns=["row", "line", "item_id", "column", "value", "reason"])


class Elements(HTMLParser):
    """The elements of a page, and the attributes that run something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.running: list[str] = []
        self.sources: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.running += [name for name, _ in attrs if name.startswith("on")]
        self.sources += [value or "" for name, value in attrs if name == "src"]


def assert_harmless(page: str, *, scripts: int = 0) -> None:
    assert "alert(1)" in page, "the text is in the page, or this proves nothing"
    found = Elements(page)
    assert not found.tags & {"evil", "object", "embed"}
    assert page.count("<script") == scripts
    assert found.running == []
    assert all(source.startswith("data:image/png;base64,") for source in found.sources)


def hostile_ads(rows: int = 300) -> pd.DataFrame:
    ads = make_ads(rows, seed=3)
    for name in TEXTS:
        ads[name] = HOSTILE
    for name in IDS:
        ads[name] = ads[name] + HOSTILE
    return ads


def extra_column(ads: pd.DataFrame) -> pd.DataFrame:
    return ads.drop(columns="price").assign(**{HOSTILE: 1.0})


def other_type(ads: pd.DataFrame) -> pd.DataFrame:
    return ads.assign(price=HOSTILE)


def one_id(ads: pd.DataFrame) -> pd.DataFrame:
    return ads.assign(item_id=HOSTILE)


def as_they_are(ads: pd.DataFrame) -> pd.DataFrame:
    return ads


@pytest.mark.parametrize("spoil", [extra_column, other_type, one_id, as_they_are])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_data_docs_of_hostile_ads(tmp_path: Path, spoil, share: float) -> None:
    settings = ValidationSettings(quarantine_share_max=share)
    found = validate_ads(spoil(hostile_ads()), UNPARSED, settings, tmp_path)

    assert found.refusal is not None
    docs = write_data_docs(found, tmp_path / "data_docs")
    assert_harmless(docs.read_text(encoding="utf-8"))


def test_data_docs_of_ads_with_a_few_hostile_ones(tmp_path: Path) -> None:
    ads = pd.concat([make_ads(300), hostile_ads(3)], ignore_index=True)
    found = validate_ads(ads, UNPARSED, ValidationSettings(), tmp_path)

    assert found.refusal is None
    docs = write_data_docs(found, tmp_path / "data_docs")
    assert_harmless(docs.read_text(encoding="utf-8"))


def test_checks_and_scan_of_hostile_ads(tmp_path: Path) -> None:
    def shouted(frame: pd.DataFrame) -> np.ndarray:
        upper = frame["title"].str.isupper().to_numpy(dtype=bool, na_value=False)
        return np.where(upper, 0.9, 0.1)

    class Spoilt(GoodModel):
        def predict(self, ads: pd.DataFrame) -> np.ndarray:
            return shouted(ads)

    settings = CheckSettings(scan_rows=200)
    found = run_checks(Spoilt(), hostile_ads(), settings, train=hostile_ads())
    page, scan = write_checks(found, tmp_path)

    assert scan is not None
    # Giskard's page has a script of its own, and tells its version nowhere else.
    assert_harmless(scan.read_text(encoding="utf-8"), scripts=1)
    assert_harmless(page.read_text(encoding="utf-8"))


def test_evaluation_of_hostile_ads(tmp_path: Path) -> None:
    ads = hostile_ads()
    predicted = np.full(len(ads), 0.2)
    evaluation = evaluate(
        ads,
        predicted,
        baselines={"mean": predicted},
        champion_predicted=None,
        fresh=None,
        settings=GateSettings(),
        seed=1,
        noise_floor_rmse=None,
    )
    curve = pd.DataFrame({"epoch": [1], "train_loss": [0.5], "validation_rmse": [0.3]})
    page = write_evaluation(evaluation, curve, tmp_path)

    assert_harmless(page.read_text(encoding="utf-8"))
