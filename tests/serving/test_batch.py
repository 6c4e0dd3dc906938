from __future__ import annotations

import gzip
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demand.data.flaws import cleaned
from demand.data.reading import read_ads
from demand.errors import AdsFileError, ModelError, StateError
from demand.features.known_values import KnownValues
from demand.schema.cells import parse_verbatim
from demand.schema.columns import TARGET
from demand.serving import batch
from demand.serving.batch import answer_file, check_paths
from demand.serving.checkpoint import interrupted_answers
from tests.ads_factory import make_ads
from tests.tiny_model import tiny_predictor

pytestmark = pytest.mark.usefixtures("home")

ADS = make_ads(40, seed=5).drop(columns=TARGET)


@pytest.fixture(name="home")
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("DEMAND_HOME", str(home))
    return home


class Asked:
    """A model that answers each ad with its price, and keeps what it was asked."""

    def __init__(self, answer: float | None = None) -> None:
        self.answer = answer
        self.frames: list[pd.DataFrame] = []

    def predict(self, ads: pd.DataFrame) -> np.ndarray:
        self.frames.append(ads)
        prices = ads["price"].fillna(0.5).to_numpy()
        return prices if self.answer is None else np.full(len(ads), self.answer)


def written(folder: Path, frame: pd.DataFrame, name: str = "ads.csv") -> Path:
    path = folder / name
    frame.to_csv(path, index=False)
    return path


def few(rows: int = 4, **columns: object) -> pd.DataFrame:
    """Return ads with nothing but what is needed, and other columns as text."""
    needed = {
        "item_id": [f"id{row}" for row in range(rows)],
        "title": "Диван",
        "category_name": "Мебель",
    }
    return pd.DataFrame(needed | columns)


def answers(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"item_id": str}, keep_default_na=False, na_values={TARGET: ""})


def as_csv(folder: Path) -> Path:
    return written(folder, ADS)


def as_gz(folder: Path) -> Path:
    path = folder / "ads.csv.gz"
    path.write_bytes(gzip.compress(as_csv(folder).read_bytes()))
    return path


def as_zip(folder: Path) -> Path:
    path = folder / "ads.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(as_csv(folder), "test.csv")
    return path


def as_parquet(folder: Path) -> Path:
    path = folder / "ads.parquet"
    ADS.to_parquet(path)
    return path


def test_categories_that_the_model_does_not_know_are_told(tmp_path: Path) -> None:
    known = KnownValues(
        {"category_name": frozenset({"Мебель", "мебель"}), "region": frozenset({"Тверь"})}
    )
    names = ["Мебель", "мебель", "Мебель\u00a0", "Ковры", "Ковры", "Лампы"]
    path = written(tmp_path, few(6, category_name=names, region=["Тверь", *[None] * 5]))
    found = answer_file(Asked(), path, tmp_path / "out.csv", known=known)
    assert found.answered == 6
    (warning,) = found.warnings
    assert warning.endswith("category_name 'Ковры' (2 ads); category_name 'Лампы' (1 ad)")
    assert warning.startswith("unknown to the model")


def test_a_header_between_the_ads_is_left_out_with_a_warning(tmp_path: Path) -> None:
    path = written(tmp_path, few(2))
    path.write_text(path.read_text() + path.read_text())
    found = answer_file(Asked(), path, tmp_path / "out.csv")
    assert found.rows == 4
    assert found.warnings == ("the header is there again, and left out: line 4",)


@pytest.mark.parametrize("pack", [as_csv, as_gz, as_zip, as_parquet])
def test_each_ad_has_the_predictors_answer_in_the_order_of_the_file(
    pack: Callable[[Path], Path], tmp_path: Path
) -> None:
    found = answer_file(tiny_predictor(), pack(tmp_path), tmp_path / "out.csv")
    told = answers(tmp_path / "out.csv")
    assert told.columns.tolist() == ["item_id", "deal_probability"]
    assert told["item_id"].tolist() == ADS["item_id"].tolist()
    np.testing.assert_allclose(told[TARGET], tiny_predictor().predict(ADS), rtol=0, atol=1e-12)
    assert (found.rows, found.answered, found.warnings) == (40, 40, ())


def test_blocks_leave_no_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(tmp_path, few(7, price=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]))
    model = Asked()
    monkeypatch.setattr("demand.data.tables.CHUNK_ROWS", 3)
    answer_file(model, data, tmp_path / "out.csv")
    assert [len(frame) for frame in model.frames] == [3, 3, 1]
    assert answers(tmp_path / "out.csv")[TARGET].tolist() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert (tmp_path / "out.csv").read_text().count("item_id") == 1


@pytest.mark.parametrize(
    ("cells", "named"),
    [
        ({"price": ["1", "two", "-3", "4"]}, "line 3, price 'two': text where a number is"),
        ({"price": ["1", "2", "-3", "4"]}, "line 4, price '-3': not between 0 and 1e+12"),
        ({"activation_date": ["2017-03-28", "28.3.", "", ""]}, "line 3, activation_date '28.3.'"),
        ({"param_1": ["a", "b" * 201, "c", "d"]}, "line 3, param_1 'bbb"),
        ({"item_seq_number": ["1.5", "2", "3", "4"]}, "not a whole number"),
    ],
)
def test_a_bad_optional_cell_counts_as_missing_and_is_told(
    cells: dict[str, list[str]], named: str, tmp_path: Path
) -> None:
    model = Asked(0.25)
    found = answer_file(model, written(tmp_path, few(**cells)), tmp_path / "out.csv")
    assert answers(tmp_path / "out.csv")[TARGET].tolist() == [0.25] * 4
    (warning,) = found.warnings
    assert "count as missing" in warning
    assert named in warning
    (column,) = cells
    good = [cell for cell in cells[column] if cell]
    assert model.frames[0][column].notna().sum() == len(good) - int(warning.partition(" ")[0])


def test_only_the_first_flaws_are_named_in_the_order_of_the_file(tmp_path: Path) -> None:
    data = written(tmp_path, few(12, price="x", image_top_1="-1"))
    (warning,) = answer_file(Asked(0.5), data, tmp_path / "out.csv").warnings
    assert warning.startswith("24 cells of 12 ads ")
    assert [part.split(",")[0] for part in warning.split(": ", 1)[1].split("; ")] == [
        *("line 2", "line 2", "line 3", "line 3", "line 4"),
        "and 19 more",
    ]


def test_of_a_text_with_nul_bytes_only_these_are_lost(tmp_path: Path) -> None:
    model = Asked(0.5)
    data = written(tmp_path, few(1, description="a\0b"))
    (warning,) = answer_file(model, data, tmp_path / "out.csv").warnings
    assert model.frames[0]["description"].tolist() == ["ab"]
    assert "NUL byte" in warning


@pytest.mark.parametrize("column", ["title", "category_name"])
def test_an_ad_without_what_it_needs_keeps_its_row_without_an_answer(
    column: str, tmp_path: Path
) -> None:
    ads = few()
    ads.loc[2, column] = " "
    found = answer_file(Asked(0.5), written(tmp_path, ads), tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines == ["item_id,deal_probability", "id0,0.5", "id1,0.5", "id2,", "id3,0.5"]
    assert (found.rows, found.answered) == (4, 3)
    (warning,) = found.warnings
    assert warning.startswith("1 ad without title or category_name has an empty deal_probability")
    assert warning.endswith("line 4")


def test_a_title_of_impossible_length_is_none(tmp_path: Path) -> None:
    ads = few()
    ads.loc[1, "title"] = "т" * 201
    found = answer_file(Asked(0.5), written(tmp_path, ads), tmp_path / "out.csv")
    assert found.answered == 3
    assert any("line 3, title" in warning for warning in found.warnings)


def test_a_file_without_any_complete_ad_has_only_empty_answers(tmp_path: Path) -> None:
    model = Asked()
    found = answer_file(model, written(tmp_path, few(title="")), tmp_path / "out.csv")
    assert (found.answered, model.frames) == (0, [])
    assert answers(tmp_path / "out.csv")[TARGET].isna().all()


def test_ids_are_written_as_they_were(tmp_path: Path) -> None:
    ids = ["007", 'a,"b"', "NA", "x" * 100]
    found = answer_file(Asked(0.5), written(tmp_path, few(item_id=ids)), tmp_path / "out.csv")
    assert answers(tmp_path / "out.csv")["item_id"].tolist() == ids
    assert found.warnings == ()


def test_ads_without_an_id_keep_their_place_and_are_told(tmp_path: Path) -> None:
    data = written(tmp_path, few(item_id=["a", "", "c", ""]))
    found = answer_file(Asked(0.5), data, tmp_path / "out.csv")
    assert answers(tmp_path / "out.csv")["item_id"].tolist() == ["a", "", "c", ""]
    assert found.warnings == ("2 ads without item_id: line 3; line 5",)


def test_unknown_columns_are_ignored_with_a_warning_and_a_target_without(tmp_path: Path) -> None:
    model = Asked(0.5)
    data = written(tmp_path, few(colour="red", deal_probability=0.9))
    found = answer_file(model, data, tmp_path / "out.csv")
    assert found.warnings == ("ignored columns: 'colour'",)
    assert TARGET not in model.frames[0]


@pytest.mark.parametrize("column", ["item_id", "title", "category_name"])
def test_a_column_that_is_needed_is_named(column: str, tmp_path: Path) -> None:
    data = written(tmp_path, few().drop(columns=column))
    with pytest.raises(AdsFileError, match=rf"{column}\b.*the header has: "):
        answer_file(Asked(), data, tmp_path / "out.csv")
    assert os.listdir(tmp_path) == ["ads.csv"]


def test_a_row_that_is_no_row_refuses_the_file_and_names_its_line(tmp_path: Path) -> None:
    data = written(tmp_path, few())
    data.write_text(data.read_text() + "id9,Диван\n")
    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(AdsFileError, match="line 6: a row of 2 fields"):
        answer_file(Asked(0.5), data, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["ads.csv", "out.csv"]


def test_a_model_that_fails_half_way_leaves_the_file_from_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demand.data.tables.CHUNK_ROWS", 2)
    prices = ["1", "2", "3", "4"]
    data, output = written(tmp_path, few(price=prices)), tmp_path / "out.csv"
    output.write_text("old")

    class Failing(Asked):
        def predict(self, ads: pd.DataFrame) -> np.ndarray:
            self.frames.append(ads)
            return np.full(len(ads), 0.5 if len(self.frames) == 1 else np.nan)

    with pytest.raises(ModelError, match="no number"):
        answer_file(Failing(), data, output)
    assert output.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["ads.csv", "out.csv"]


# ------------------------------------------------------------------------- Parquet


def test_an_output_named_parquet_is_parquet(tmp_path: Path) -> None:
    ids = ["007", 'a,"b"', "NA", "x\r\ny", "=1+1", ""]
    titles = ["Диван", "", *["Диван"] * 4]
    data = written(tmp_path, few(6, item_id=ids, title=titles, price=[0.1, 1, 0.2, 1 / 3, 1, 1e-9]))
    found = answer_file(Asked(), data, tmp_path / "out.parquet")
    told = pq.read_table(tmp_path / "out.parquet")
    assert told.schema.equals(pa.schema({"item_id": pa.string(), TARGET: pa.float64()}))
    assert told["item_id"].to_pylist() == [*ids[:5], None]
    assert told[TARGET].to_pylist() == [0.1, None, 0.2, 1 / 3, 1.0, 1e-9]
    assert (found.rows, found.answered) == (6, 5)


@given(st.lists(st.tuples(st.text(), st.floats(0, 1)), min_size=1, max_size=4))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_ids_and_answers_are_in_parquet_as_they_are(
    tmp_path: Path, rows: list[tuple[str, float]]
) -> None:
    ids, prices = zip(*rows, strict=True)
    data, output = tmp_path / "ads.parquet", tmp_path / "out.parquet"
    few(len(rows), item_id=list(ids), price=list(prices)).to_parquet(data)
    answer_file(Asked(), data, output)
    told = pq.read_table(output)
    assert told["item_id"].to_pylist() == [parse_verbatim(each)[0] for each in ids]
    assert told[TARGET].to_pylist() == list(prices)


# ------------------------------------------------------------- interrupted, and gone on


class Interrupted(Asked):
    """A model during whose nth part the run is stopped."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    def predict(self, ads: pd.DataFrame) -> np.ndarray:
        if len(self.frames) == self.parts:
            raise KeyboardInterrupt
        return super().predict(ads)


@pytest.fixture
def flawed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of 20 ads in parts of two, with flaws and a header in the middle."""
    monkeypatch.setattr("demand.data.tables.CHUNK_ROWS", 2)
    monkeypatch.setattr(batch, "_CHECKPOINT_S", 0.0)
    monkeypatch.setattr(batch, "_PARTS_ALONE", 99)
    ads = few(20, price=[*(row / 20 for row in range(18)), "x", "-1"], colour="red")
    ads.loc[[1, 15], ["title", "item_id"]] = ""
    ads.loc[3:8, "category_name"] = ["Лампы", "Ковры", "Ковры", "Сани", "Лампы", "Сани"]
    path = written(tmp_path, ads)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:10], lines[0], *lines[10:]]))
    return path


PARTS = 11
KNOWN = KnownValues({"category_name": frozenset({"Мебель"})})


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
@pytest.mark.parametrize(("parts", "rows"), [(0, 0), (1, 2), (4, 8), (9, 17)])
def test_a_run_goes_on_where_it_was_interrupted(
    name: str,
    parts: int,
    rows: int,
    flawed: Path,
    tmp_path: Path,
    home: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    whole = answer_file(Asked(), flawed, tmp_path / f"whole-{name}", known=KNOWN)
    assert len(whole.warnings) == 6
    assert capfd.readouterr().err == ""
    output, rest = tmp_path / name, Asked()
    with pytest.raises(KeyboardInterrupt):
        answer_file(Interrupted(parts), flawed, output, known=KNOWN)
    assert not output.exists()
    assert list(interrupted_answers()) == list((home / "batch").iterdir())
    assert answer_file(rest, flawed, output, known=KNOWN) == whole
    assert output.read_bytes() == (tmp_path / f"whole-{name}").read_bytes()
    assert len(rest.frames) == PARTS - parts
    told = capfd.readouterr().err
    assert told == (parts > 0) * f"  goes on after {rows} ads that are answered already\n"
    assert os.listdir(home / "batch") == []


@pytest.mark.parametrize("other", ["model", "data", "checkpoint", "answers"])
def test_what_was_interrupted_with_other_ads_or_another_model_begins_anew(
    other: str, flawed: Path, tmp_path: Path, home: Path
) -> None:
    output, model = tmp_path / "out.csv", Asked(0.5)
    with pytest.raises(KeyboardInterrupt):
        answer_file(Interrupted(5), flawed, output, model="2")
    if other == "data":
        flawed.write_text(flawed.read_text().replace("Диван", "Стул"))
    elif other != "model":
        (kept,) = (home / "batch").glob(f"*/{other}.*")
        kept.write_bytes(kept.read_bytes()[:20])
    answer_file(model, flawed, output, model="3" if other == "model" else "2")
    assert len(model.frames) == PARTS
    assert answers(output)[TARGET].dropna().tolist() == [0.5] * 18


def test_a_second_run_to_the_same_file_is_refused(tmp_path: Path) -> None:
    data, output = written(tmp_path, few()), tmp_path / "out.csv"

    class Second(Asked):
        def predict(self, ads: pd.DataFrame) -> np.ndarray:
            assert interrupted_answers() == {}
            answer_file(Asked(), data, tmp_path / "other.csv")
            with pytest.raises(StateError, match=r"process \d+ \(answers to .*out\.csv\) is using"):
                answer_file(Asked(), data, output)
            return super().predict(ads)

    answer_file(Second(), data, output)
    assert len(answers(output)) == 4


def test_workers_answer_and_warn_as_one_process_does(
    flawed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, workers = tmp_path / "alone.csv", tmp_path / "workers.csv"
    model = tiny_predictor()
    expected = answer_file(model, flawed, alone, known=KNOWN)
    monkeypatch.setattr(batch, "_PARTS_ALONE", 1)
    assert answer_file(model, flawed, workers, known=KNOWN) == expected
    assert workers.read_bytes() == alone.read_bytes()


def test_an_output_that_is_the_input_is_refused_by_any_name(tmp_path: Path) -> None:
    data = written(tmp_path, few())
    before = data.read_bytes()
    (tmp_path / "link.csv").symlink_to(data)
    os.link(data, tmp_path / "hard.csv")
    for name in ("ads.csv", "link.csv", "hard.csv"):
        with pytest.raises(StateError, match="the file of ads itself"):
            answer_file(Asked(0.5), data, tmp_path / name)
    assert data.read_bytes() == before


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_text("old")
    link.symlink_to(real)
    answer_file(Asked(0.5), written(tmp_path, few()), link)
    assert not link.is_symlink()
    assert (len(answers(link)), real.read_text()) == (4, "old")


def test_an_id_that_a_spreadsheet_takes_for_a_formula_is_shown_as_text(tmp_path: Path) -> None:
    ids = ["b912c3c6a6ad", "=1+1", "x;=1+1;A0", "-5"]
    output = tmp_path / "out.csv"
    answer_file(Asked(0.5), written(tmp_path, few().assign(item_id=ids)), output)
    assert list(answers(output)["item_id"]) == ["b912c3c6a6ad", "'=1+1", "x;'=1+1;A0", "'-5"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (".", "it is a folder"),
        ("ads.csv/out.csv", "cannot write"),
        ("/dev/null", "no regular file"),
        ("out.csv.gz", r"ends in \.gz"),
        ("out.xlsx", r"ends in \.xlsx"),
    ],
)
def test_a_place_that_cannot_be_written_is_told(output: str, message: str, tmp_path: Path) -> None:
    data = written(tmp_path, few())
    with pytest.raises(StateError, match=message):
        answer_file(Asked(0.5), data, tmp_path / output)


def test_the_folder_of_the_output_is_made(tmp_path: Path) -> None:
    answer_file(Asked(0.5), written(tmp_path, few()), tmp_path / "new" / "out.csv")
    assert (tmp_path / "new" / "out.csv").is_file()


def test_a_file_that_is_not_there_is_told_before_all(tmp_path: Path) -> None:
    with pytest.raises(AdsFileError, match="there is no file"):
        check_paths(tmp_path / "nowhere.csv", tmp_path / "out.csv")


def test_cleaning_changes_nothing_that_was_read(tmp_path: Path) -> None:
    loaded = read_ads(written(tmp_path, few(price="-1")), labelled=False)
    ads, _ = cleaned(loaded)
    assert ads["price"].isna().all()
    assert loaded.frame["price"].tolist() == [-1.0] * 4


def test_rows_of_parquet_are_named_by_their_number(tmp_path: Path) -> None:
    few(price="x").to_parquet(tmp_path / "ads.parquet")
    (warning,) = answer_file(Asked(0.5), tmp_path / "ads.parquet", tmp_path / "o.csv").warnings
    assert "row 1, price 'x'" in warning
