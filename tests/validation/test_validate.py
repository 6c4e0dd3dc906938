from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demand.config import ValidationSettings
from demand.data.reading import read_ads
from demand.data.typed import TypedAds
from demand.reports.pages import write_data_docs
from demand.schema.columns import TARGET
from demand.validation.quarantine import QUARANTINE_COLUMNS
from demand.validation.validate import Validation, validate_ads
from demand.workspace.workspace import PROJECT_ROOT
from tests.ads_factory import make_ads

REAL_ADS = PROJECT_ROOT.parent / "shared" / "avito" / "ads.csv"
SETTINGS = ValidationSettings()
ROWS = 300


def _unparsed(*cells: tuple[int, int, str, str, str], ads: pd.DataFrame | None = None):
    """Make ingestion's table of cells (row, line, column, value, reason) it could not read."""
    table = pd.DataFrame(cells, columns=["row", "line", "column", "value", "reason"])
    ids = [] if ads is None else ads["item_id"].iloc[table["row"].to_numpy(int)].tolist()
    table.insert(2, "item_id", ids if ids else pd.Series(dtype=object))
    return table.astype({"row": "int64", "line": "int64"})


def _validate(ads: pd.DataFrame, reports: Path, **settings: object) -> Validation:
    return validate_ads(ads, _unparsed(), ValidationSettings(**settings), reports)


# One flaw of each kind: row, column, what is written into it, and what is told.
FLAWS = (
    (0, "price", -1.0, "not between 0 and 1,000,000,000,000"),
    (1, "price", np.inf, "not between"),
    (2, TARGET, 1.5, "not between 0 and 1"),
    (3, TARGET, -0.01, "not between 0 and 1"),
    (4, TARGET, np.nan, "missing"),
    (5, "item_seq_number", 0.0, "not between 1 and"),
    (6, "image_top_1", -3.0, "not between 0 and"),
    (7, "activation_date", pd.Timestamp("1999-01-01"), "not between 2007-01-01 and"),
    (8, "activation_date", pd.Timestamp.now() + pd.Timedelta(days=3), "not between 2007-01-01"),
    (9, "activation_date", pd.NaT, "missing"),
    (10, "title", None, "missing"),
    (11, "region", "Мордор <script>alert(1)</script>", "not one of the 28 known values"),
    (12, "parent_category_name", "Разное", "not one of the 9 known values"),
    (13, "category_name", "Единороги {{ 7 * 7 }} $column", "not one of the 47 known values"),
    (14, "parent_category_name", "another", "the category lies in another parent category"),
    (15, "user_type", "Robot", "not one of the 3 known values"),
    (16, "description", "ы" * 2_500_000, "longer than 20,000 characters"),
    (17, "title", "ш" * 201, "longer than 200 characters"),
    (18, "city", 12, "not a text"),
    (19, "item_id", "000000000006", "the same item_id as an earlier ad"),
    (20, "user_id", None, "missing"),
)


@pytest.fixture(scope="module")
def flawed_ads() -> pd.DataFrame:
    ads = make_ads(ROWS)
    for row, column, value, _ in FLAWS:
        ads[column] = ads[column].astype(object) if isinstance(value, int) else ads[column]
        ads.at[row, column] = value
    ads.at[6, "item_id"] = "000000000006"
    own = ads.at[14, "category_name"]
    other = ads.loc[ads["category_name"] != own, "parent_category_name"]
    ads.at[14, "parent_category_name"] = next(
        p for p in other if p != make_ads(ROWS).at[14, "parent_category_name"]
    )
    ads.at[21, "price"] = np.nan
    ads.at[22, TARGET] = np.nan
    return ads


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def flawed(flawed_ads: pd.DataFrame, reports: Path) -> Validation:
    unparsed = _unparsed(
        (21, 40, "price", "дорого", "text where a number is expected"),
        (22, 41, TARGET, "0,25", "decimal comma: write 1300.50"),
        (23, 42, "title", "Шкаф\0", "NUL byte in the text"),
        ads=flawed_ads,
    )
    return validate_ads(flawed_ads, unparsed, ValidationSettings(quarantine_share_max=0.2), reports)


@pytest.fixture(scope="module")
def docs(flawed: Validation, reports: Path) -> str:
    return write_data_docs(flawed, reports / "data_docs").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def flawless_reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flawless")


@pytest.fixture(scope="module")
def flawless(flawless_reports: Path) -> Validation:
    return _validate(make_ads(ROWS), flawless_reports)


def test_good_ads_are_accepted_as_they_are(flawless: Validation) -> None:
    assert flawless.accepted.tolist() == list(range(ROWS))


def test_good_ads_give_no_refusal_and_no_warning(flawless: Validation) -> None:
    assert (flawless.refusal, flawless.warnings) == (None, ())


@pytest.mark.usefixtures("flawless")
def test_quarantine_file_has_its_header_without_bad_rows(flawless_reports: Path) -> None:
    text = (flawless_reports / "quarantine.csv").read_text(encoding="utf-8")
    assert text == ",".join(QUARANTINE_COLUMNS) + "\n"


@pytest.mark.parametrize(("row", "column", "value", "reason"), FLAWS)
def test_each_kind_of_bad_row_is_named_with_its_reason(
    flawed: Validation, row: int, column: str, value: object, reason: str
) -> None:
    findings = flawed.quarantine[flawed.quarantine["row"] == row]
    told = findings.loc[
        findings["column"].isin([column, "category_name" if row == 14 else column]), "reason"
    ]
    assert len(findings) == 1
    assert told.iloc[0].startswith(reason)


def test_exactly_the_bad_rows_are_taken_out(flawed: Validation) -> None:
    assert flawed.accepted.tolist() == list(range(24, ROWS))


def test_stored_ads_are_judged_as_those_in_memory(tmp_path: Path) -> None:
    ads = make_ads(ROWS)
    ads.loc[[5, 9], "item_id"] = ads.at[2, "item_id"]
    ads.loc[[11, 12], "title"] = ["ш" * 201, None]
    ads.loc[13, "category_name"] = "Единороги"
    stored = TypedAds.write(tmp_path / "ads.parquet", [ads])
    here = validate_ads(ads, _unparsed(), SETTINGS, tmp_path)
    there = validate_ads(stored, _unparsed(), SETTINGS, tmp_path)
    assert there.quarantine["row"].tolist() == [5, 9, 11, 12, 13]
    pd.testing.assert_frame_equal(there.quarantine, here.quarantine)
    assert (there.summary, there.warnings) == (here.summary, here.warnings)
    assert there.accepted.tolist() == here.accepted.tolist()


def test_first_ad_of_an_id_is_no_duplicate(tmp_path: Path) -> None:
    ads = make_ads(ROWS)
    ads.loc[[5, 9], "item_id"] = ads.at[2, "item_id"]
    assert _validate(ads, tmp_path).quarantine["row"].tolist() == [5, 9]


@pytest.mark.parametrize(
    ("row", "line", "value", "reason"),
    [
        (21, 40, "дорого", "text where a number is expected"),
        (22, 41, "0,25", "decimal comma: write 1300.50"),
        (23, 42, "Шкаф\0", "NUL byte in the text"),
    ],
)
def test_an_unreadable_cell_is_one_finding_with_what_was_written(
    flawed: Validation, row: int, line: int, value: str, reason: str
) -> None:
    findings = flawed.quarantine[flawed.quarantine["row"] == row]
    assert findings[["line", "value", "reason"]].values.tolist() == [[line, value, reason]]


def test_long_values_are_shortened_in_quarantine_and_docs(docs: str, reports: Path) -> None:
    assert (reports / "quarantine.csv").stat().st_size < 20_000
    assert len(docs) < 500_000


def test_quarantine_file_holds_what_the_quarantine_holds(flawed: Validation, reports: Path) -> None:
    written = pd.read_csv(reports / "quarantine.csv", dtype=str, keep_default_na=False)
    expected = flawed.quarantine.astype(str).replace("<NA>", "")
    assert written.drop(columns="value").equals(expected.drop(columns="value"))


def test_warning_counts_the_bad_rows_and_says_where_they_are(
    flawed: Validation, reports: Path
) -> None:
    assert flawed.warnings[0].startswith(f"24 of {ROWS} ads are bad rows")
    assert str(reports / "quarantine.csv") in flawed.warnings[0]


def test_summary_is_strict_json_with_the_counts(flawed: Validation) -> None:
    summary = json.loads(json.dumps(flawed.summary, allow_nan=False))
    assert (summary["rows"], summary["rows_accepted"], summary["rows_quarantined"]) == (
        ROWS,
        ROWS - 24,
        24,
    )


def test_lines_of_the_file_are_told_where_they_are_known(tmp_path: Path) -> None:
    ads = make_ads(ROWS)
    ads.at[4, "price"] = -1.0
    lines = np.arange(ROWS) * 3 + 2
    validation = validate_ads(ads, _unparsed(), SETTINGS, tmp_path, lines=lines)
    assert validation.quarantine["line"].tolist() == [14]


def _with_bad_prices(rows: int) -> pd.DataFrame:
    ads = make_ads(ROWS)
    ads.loc[: rows - 1, "price"] = -7.0
    return ads


def test_the_allowed_share_of_bad_rows_is_no_refusal(tmp_path: Path) -> None:
    validation = _validate(_with_bad_prices(15), tmp_path, quarantine_share_max=0.05)
    assert validation.refusal is None


def test_one_bad_row_more_is_a_refusal_with_reason_examples_and_file(tmp_path: Path) -> None:
    validation = _validate(_with_bad_prices(16), tmp_path, quarantine_share_max=0.05)
    assert validation.refusal is not None
    for part in (
        "expect_table_row_count_to_be_between",
        "16 of 300 ads (5.3%) are bad rows, at most 5.0% may be",
        "price: not between 0 and 1,000,000,000,000 (16)",
        "ad '000000000000' (row 0): price = '-7'",
        str(tmp_path / "quarantine.csv"),
    ):
        assert part in validation.refusal


@pytest.mark.parametrize("column", ["region", "activation_date", "price", "description"])
def test_a_wholly_missing_column_is_refused_by_name(tmp_path: Path, column: str) -> None:
    ads = make_ads(ROWS)
    ads[column] = pd.Series([None] * ROWS, dtype=ads[column].dtype)
    refusal = _validate(ads, tmp_path).refusal
    assert refusal is not None
    assert refusal.startswith(
        "expect_column_proportion_of_non_null_values_to_be_between: the column "
        f"{column!r} is 100 % missing: none of the 300 ads has a readable value; "
        "for example ad '000000000000'"
    )


def test_a_column_of_unreadable_cells_is_refused_with_what_was_written(tmp_path: Path) -> None:
    ads = make_ads(ROWS)
    ads["price"] = np.nan
    cells = [(row, row + 2, "price", "12 руб", "text where a number") for row in range(ROWS)]
    refusal = validate_ads(ads, _unparsed(*cells, ads=ads), SETTINGS, tmp_path).refusal
    assert refusal is not None
    assert "ad '000000000000' (line 2): price = '12 руб' (text where a number)" in refusal


def test_a_column_that_most_ads_lack_may_be_wholly_missing_with_a_warning(tmp_path: Path) -> None:
    validation = _validate(make_ads(ROWS).assign(param_3=None), tmp_path)
    assert validation.refusal is None
    assert validation.warnings[0].startswith("drift: param_3 is missing in 100.0% of the 300 ads")


def test_an_absent_column_is_refused_by_name(tmp_path: Path) -> None:
    refusal = _validate(make_ads(ROWS).drop(columns="city"), tmp_path).refusal
    assert refusal is not None
    assert refusal.startswith("expect_column_to_exist: the column 'city' is missing")


def test_a_column_of_another_type_is_refused_with_its_values(tmp_path: Path) -> None:
    ads = make_ads(ROWS)
    ads["price"] = [f"{row} руб" for row in range(ROWS)]
    refusal = _validate(ads, tmp_path).refusal
    assert refusal == (
        "expect_column_type_to_be: the column 'price' holds object, expected is float64; "
        "first values: '0 руб', '1 руб', '2 руб'"
    )


def test_a_table_whose_ids_mostly_repeat_is_refused(tmp_path: Path) -> None:
    ads = make_ads(ROWS)
    ads["item_id"] = [f"{row % 100:012x}" for row in range(ROWS)]
    refusal = _validate(ads, tmp_path).refusal
    assert refusal is not None
    for part in (
        "expect_column_proportion_of_unique_values_to_be_between",
        "33.3% of the values of 'item_id' are distinct, at least 50% are expected",
        "ad '000000000000' (row 100): item_id = '000000000000'",
    ):
        assert part in refusal


def test_one_ad_is_too_few(tmp_path: Path) -> None:
    refusal = _validate(make_ads(1), tmp_path).refusal
    assert refusal is not None
    assert refusal.startswith(
        "expect_table_row_count_to_be_between: 1 of 1 ads is good, at least 200 are needed "
        "(validation.min_rows); for example ad '000000000000'"
    )


def test_no_ads_are_too_few(tmp_path: Path) -> None:
    refusal = _validate(make_ads(0), tmp_path).refusal
    assert refusal is not None
    assert "0 of 0 ads are good" in refusal


def _of_one_category() -> pd.DataFrame:
    ads = make_ads(ROWS)
    return ads.assign(category_name="Телефоны", parent_category_name="Бытовая электроника")


def test_ads_of_one_category_warn_with_the_category(tmp_path: Path) -> None:
    validation = _validate(_of_one_category(), tmp_path)
    assert validation.refusal is None
    assert validation.warnings[0].startswith("drift: all 300 ads are of one category, 'Телефоны'")


def test_drift_stops_where_the_config_says_so(tmp_path: Path) -> None:
    validation = _validate(_of_one_category(), tmp_path, on_drift="stop")
    assert validation.refusal is not None
    assert "expect_column_unique_value_count_to_be_between" in validation.refusal
    assert "the mix of category_name is 0.9" in validation.refusal


@pytest.mark.parametrize(
    ("column", "value"), [("region", "Тульская область"), ("user_type", "Shop")]
)
def test_another_mix_warns_with_the_furthest_value(tmp_path: Path, column: str, value: str) -> None:
    (warning,) = _validate(make_ads(ROWS).assign(**{column: value}), tmp_path).warnings
    assert re.match(
        rf"drift: the mix of {column} is 0\.9\d+ away from the reference .*: "
        rf"{value} 100\.0% instead of \d\.\d%",
        warning,
    )


def test_tolerances_of_the_config_decide_about_drift(tmp_path: Path) -> None:
    ads = make_ads(ROWS).assign(user_type="Shop", param_3=None)
    validation = _validate(
        ads, tmp_path, category_mix_tolerance=1.0, missing_share_tolerance=1.0, on_drift="stop"
    )
    assert (validation.refusal, validation.warnings) == (None, ())


class _Loads(HTMLParser):
    """Collects what a browser would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "iframe", "object", "embed", "base"}:
            self.found.append(tag)
        for name, value in attrs:
            links = name in {"src", "href", "srcset", "action", "data", "poster"}
            if (links and not (value or "").startswith("#")) or name.startswith("on"):
                self.found.append(f"{tag} {name}={value}")


def test_docs_load_nothing_and_run_nothing(docs: str) -> None:
    parser = _Loads()
    parser.feed(docs)
    styles = "".join(re.findall(r"<style>(.*?)</style>", docs, re.DOTALL))
    assert parser.found == []
    assert "url(" not in styles
    assert "@import" not in styles


def test_docs_quote_values_of_ads_as_text(docs: str) -> None:
    assert "Мордор &lt;script&gt;alert(1)&lt;/script&gt;" in docs
    assert "Единороги {{ 7 * 7 }} $column" in docs


def test_docs_forbid_scripts_and_other_hosts(docs: str) -> None:
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'\"" in docs


def test_docs_say_why_a_table_is_refused(tmp_path: Path) -> None:
    page = write_data_docs(_validate(make_ads(3), tmp_path), tmp_path / "data_docs")
    assert "3 of 3 ads are good" in page.read_text(encoding="utf-8")


def test_two_validations_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    def bad_rows(bad: int) -> list[int]:
        validation = _validate(_with_bad_prices(bad), tmp_path / str(bad))
        return validation.quarantine["row"].tolist()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(bad_rows, [3, 7])) == [list(range(3)), list(range(7))]


def test_validation_is_quiet_and_leaves_nothing_outside_its_reports(tmp_path: Path) -> None:
    program = (
        "import logging; logging.basicConfig(level=logging.INFO)\n"
        "from pathlib import Path\n"
        "from tests.validation.test_validate import _validate, make_ads, write_data_docs\n"
        "write_data_docs(_validate(make_ads(250), Path('reports')), Path('reports/data_docs'))\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(PROJECT_ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert (done.stdout, done.stderr) == ("", "")
    assert files == ["reports/data_docs/index.html", "reports/quarantine.csv"]


@pytest.mark.skipif(not REAL_ADS.exists(), reason="the real ads are not on this machine")
def test_real_ads_are_accepted_with_few_bad_rows(tmp_path: Path) -> None:
    loaded = read_ads(REAL_ADS)
    validation = validate_ads(loaded.frame, loaded.unparsed, SETTINGS, tmp_path)
    assert validation.refusal is None
    assert len(validation.quarantine) < 10
