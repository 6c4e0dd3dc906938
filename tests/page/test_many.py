from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demand.data.reading import LoadedAds
from demand.demo import write_demo
from demand.page import uploads
from demand.page.answers import ADS_AT_ONCE, WAIT_S, Progress, answer_many
from demand.page.api import Answer, Client, Kind, Snapshot, Trouble
from demand.page.application import Handlers
from demand.page.uploads import ROWS_MAX, Upload, UploadError, read_upload
from demand.page.views import problem_words, results_csv, sample_csv

HEADER = "item_id,title,category_name,price,description\n"
GOOD = "1,Велосипед,Велосипеды,9000,катались мало\n"


class Fake(Client):
    """A client that answers 0.2, and 0.3 to ads with a photo, after what it is told to raise."""

    def __init__(self, *troubles: Trouble) -> None:
        super().__init__("http://127.0.0.1:1")
        self.troubles = list(troubles)
        self.sizes: list[int] = []
        self.own: list[list[int]] = []

    def answers(
        self, ads: Sequence[Mapping[str, Any]], kind: Kind, own: Iterable[int] = (0,)
    ) -> list[Answer]:
        if self.troubles:
            raise self.troubles.pop(0)
        self.sizes.append(len(ads))
        self.own.append(list(own))
        return [Answer(0.3 if ad.get("image") else 0.2) for ad in ads]


def upload(folder: Path, text: str, encoding: str = "utf-8") -> Upload:
    path = folder / "ads.csv"
    path.write_bytes(text.encode(encoding))
    return read_upload(path)


def last(upload: Upload, client: Client) -> Progress:
    return list(answer_many(upload, client, "flask", None, sleep=lambda _: None))[-1]


def test_only_ads_of_the_file_are_a_seller_s_own(tmp_path: Path) -> None:
    client = Fake()
    last(upload(tmp_path, HEADER + GOOD * 3), client)
    ((first, second, third),) = client.own
    assert (first, third) == (0, 2 * second)
    assert client.sizes == [3 * second]
    assert second > 1


def test_bad_rows_are_marked_and_the_rest_is_kept(tmp_path: Path) -> None:
    bad = (
        "2,,Велосипеды,100,\n"
        "3,Часы,Часы и украшения,12 500,\n"
        "4,Стол,Мебель и интерьер,500,лишнее,поле\n"
        "5,Шкаф,Мебель и интерьер,-5,\n"
    )
    found = upload(tmp_path, HEADER + GOOD + bad)
    assert [ad is not None for ad in found.ads] == [True, False, True, False, True]
    assert [row.line for row in found.rows] == [2, 3, 4, 5, 6]
    reasons = {number: [(p.column, p.reason.split(":")[0]) for p in row.problems]
               for number, row in enumerate(found.rows) if row.problems}  # fmt: skip
    assert reasons == {
        1: [("title", "missing")],
        2: [("price", "thousands separator")],
        3: [(None, "fields")],
        4: [("price", "bounds")],
    }
    assert found.ads[0] == {
        "item_id": "1", "title": "Велосипед", "category_name": "Велосипеды",
        "price": 9000.0, "description": "катались мало",
    }  # fmt: skip
    assert "price" not in (found.ads[2] or {})


def test_a_spreadsheets_file_is_read_as_it_was_saved(tmp_path: Path) -> None:
    text = 'title;category_name;price\r\n"Стол; дуб";Мебель и интерьер;500\r\n'
    found = upload(tmp_path, text, "cp1251")
    assert (tmp_path / "ads.csv").read_bytes() == text.encode("cp1251")
    assert [path.name for path in tmp_path.iterdir()] == ["ads.csv"]
    assert found.ads[0] == {
        "title": "Стол; дуб", "category_name": "Мебель и интерьер", "price": 500.0,
    }  # fmt: skip
    assert not any(row.problems for row in found.rows)


def test_a_ragged_row_does_not_move_the_lines_of_others(tmp_path: Path) -> None:
    text = HEADER + '1,Стол,Мебель и интерьер,1,"две\nстроки"\n2,x\n\n' + GOOD
    found = upload(tmp_path, text)
    assert [row.line for row in found.rows] == [2, 4, 6]
    assert [ad is not None for ad in found.ads] == [True, False, True]


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_header_between_the_ads_is_no_ad(tmp_path: Path, delimiter: str) -> None:
    text = "title,category_name\nСтол,Мебель\ntitle,category_name\nШкаф,Мебель\n"
    found = upload(tmp_path, text.replace(",", delimiter))
    assert [ad and ad["title"] for ad in found.ads] == ["Стол", "Шкаф"]
    assert [row.line for row in found.rows] == [2, 4]
    assert not any(row.problems for row in found.rows)


def test_a_quote_that_is_not_closed_is_named_where_it_begins(tmp_path: Path) -> None:
    found = upload(tmp_path, HEADER + GOOD + '2,"Стол,Мебель,1,\n' + GOOD)
    assert [ad is not None for ad in found.ads] == [True, False]
    assert [row.line for row in found.rows] == [2, 3]
    assert [problem.reason for problem in found.rows[1].problems] == ["quote"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a,b\n1,2\n", "file.lacks"),
        ("title,price\nx,1\n", "file.lacks"),
        ("title,category_name\n", "file.empty"),
        ("", "file.empty"),
        ("\x00\x01\x02", "file.unreadable"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(UploadError) as caught:
        upload(tmp_path, text)
    assert caught.value.key == key
    assert str(tmp_path) not in caught.value.detail


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (HEADER + "1,Стол,Мебель,1,\n" * (ROWS_MAX + 1), "utf-8"),
        ("title;category_name\n" + "ж;\n" * (ROWS_MAX + 1), "utf-8"),
        ("title;category_name\n" + "ж;\n" * (ROWS_MAX + 1), "cp1251"),
        ("\n" + HEADER + "1,Стол,Мебель,1,\n" * (ROWS_MAX + 1), "utf-8"),
        # A quote in the middle of a text is none, whatever delimiter one takes.
        ("title,category_name,;;;;\n" + 'a;"b,c,\n' * (ROWS_MAX + 1), "utf-8"),
    ],
)
def test_a_file_of_too_many_rows_is_never_held(
    tmp_path: Path, text: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "read_ads", _read_nothing)
    with pytest.raises(UploadError) as caught:
        upload(tmp_path, text, encoding)
    assert caught.value.key == "file.too_many"


def _read_nothing(path: Path, **_: Any) -> LoadedAds:
    raise AssertionError("the reader was asked for a file that has too many rows")


@pytest.mark.parametrize("cells", [";" * 200_000, "a;" * 200_000])
def test_a_row_of_countless_cells_is_refused(tmp_path: Path, cells: str) -> None:
    for text in (f"title;category_name\n{cells}\n", f"title;category_name;{cells}\n"):
        for delimiter in ";", ",":
            with pytest.raises(UploadError) as caught:
                upload(tmp_path, text.replace(";", delimiter))
            assert caught.value.key == "file.unreadable"


def test_a_text_that_hides_what_is_below_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UploadError, match="below line 2: field larger"):
        upload(tmp_path, HEADER + GOOD + f'2,"{"x" * 140_000}",b,1,\n' + GOOD * 10)


def test_parquet_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "ads.csv").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(UploadError, match="Parquet"):
        read_upload(tmp_path / "ads.csv")


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_packed_file_is_read(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "ads.csv.gz"
    text = (HEADER + GOOD).replace(",", delimiter)
    path.write_bytes(gzip.compress(text.encode()))
    assert [ad and ad["title"] for ad in read_upload(path).ads] == ["Велосипед"]


def test_two_visitors_with_one_file_both_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "ads.csv"
    path.write_text(HEADER + GOOD, encoding="utf-8")
    names = (
        "progress", "results", "histogram_words", "histogram", "table", "file", "download",
        "upload", "stop",
    )  # fmt: skip
    page: Any = SimpleNamespace(**{name: name for name in names}, plotted=lambda *_, **__: {})
    source: Any = SimpleNamespace(client=Fake(), answering=lambda: (Snapshot(), "flask"))
    for _ in range(2):
        *_, end = Handlers(source, page, (), tmp_path / "answers").uploaded("en", str(path))
        assert "1 of 1 ads answered" in end["progress"]
    assert path.exists()


def test_the_sample_file_is_a_good_file(tmp_path: Path) -> None:
    found = upload(tmp_path, "\ufeff" + sample_csv())
    assert len(found.ads) == 4
    assert all(found.ads)
    assert not any(row.problems for row in found.rows)


def test_ads_are_asked_about_in_large_requests_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "ads.csv"
    write_demo(path, 700, 3)
    client = Fake()
    seen = [p.reached for p in answer_many(read_upload(path), client, "flask", None)]
    assert seen == sorted(seen)
    assert seen[-1] == 700
    assert max(client.sizes) <= ADS_AT_ONCE
    assert min(client.sizes[:-1]) > ADS_AT_ONCE * 0.9


def test_every_ad_gets_its_own_answer_and_suggestions(tmp_path: Path) -> None:
    text = "title,category_name,image\nСтол,Мебель,1.jpg\nСтул,Мебель,\n"
    rows = last(upload(tmp_path, text), Fake()).rows
    assert [row.answer.probability for row in rows if row.answer] == [0.3, 0.2]
    assert rows[0].suggestions == ()
    assert [s.kind for s in rows[1].suggestions] == ["photo"]


def test_an_api_that_is_away_is_waited_for(tmp_path: Path) -> None:
    client = Fake(Trouble("down", ""), Trouble("slow", ""), Trouble("busy", ""))
    steps = [
        (p.waiting.kind if p.waiting else None, p.finished)
        for p in answer_many(
            upload(tmp_path, HEADER + GOOD), client, "flask", None, sleep=lambda _: None
        )
    ]
    kinds = [(None, False), ("down", False), ("slow", False), ("busy", False)]
    assert steps == [*kinds, (None, False), (None, True)]


def test_after_two_minutes_in_all_the_rest_stays_without_an_answer(tmp_path: Path) -> None:
    now = 0.0

    class Silent(Fake):
        def answers(
            self, ads: Sequence[Mapping[str, Any]], kind: Kind, own: Iterable[int] = (0,)
        ) -> list[Answer]:
            nonlocal now
            now += 10.0
            raise Trouble("slow", "")

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    found = upload(tmp_path, HEADER + GOOD)
    *_, end = answer_many(found, Silent(), "flask", None, sleep=sleep, clock=lambda: now)
    assert end.finished
    assert end.waiting is not None
    assert WAIT_S <= now <= WAIT_S + 12
    assert end.seconds == now
    assert "did not answer" in problem_words("en", end.rows[0])


def test_what_was_not_reached_is_said_when_somebody_stops(tmp_path: Path) -> None:
    answering = answer_many(upload(tmp_path, HEADER + GOOD), Fake(), "flask", None)
    progress = next(answering)
    progress.close()
    progress.close()
    assert problem_words("en", progress.rows[0]).count("did not answer") == 1
    assert [p.finished for p in answering] == []
    assert progress.rows[0].answer is None


def test_a_variant_that_the_api_refuses_costs_the_ad_nothing(tmp_path: Path) -> None:
    text = "title,category_name,image\nСтол,Мебель,1\nСтул,Мебель,1\n"
    client = Fake(Trouble("refused", "too long", field="description", row=1))
    rows = last(upload(tmp_path, text), client).rows
    assert all(row.answer for row in rows)
    assert not any(row.problems for row in rows)
    assert client.sizes == [3]  # the first ad alone, the second with a longer description


def test_a_refusal_of_no_ad_costs_only_its_batch(tmp_path: Path) -> None:
    path = tmp_path / "ads.csv"
    write_demo(path, 700, 3)
    rows = last(read_upload(path), Fake(Trouble("refused", ""))).rows
    lost = [row.answer is None for row in rows]
    assert 0 < sum(lost) < len(lost) / 2
    assert lost == sorted(lost, reverse=True)
    assert "did not take the request" in problem_words("en", rows[0])


def test_an_ad_that_the_api_refuses_costs_only_itself(tmp_path: Path) -> None:
    text = "title,category_name,image\nСтол,Мебель,1\nСтул,Мебель,1\nШкаф,Мебель,1\n"
    asked_of_first = 2  # the ad, and a longer description
    client = Fake(Trouble("refused", "no good", field="title", row=asked_of_first))
    rows = last(upload(tmp_path, text), client).rows
    assert [row.answer is not None for row in rows] == [True, False, True]
    assert problem_words("en", rows[1]) == "Title: no good — no answer"


def test_the_results_have_a_row_an_ad_with_suggestions_and_problems(tmp_path: Path) -> None:
    text = HEADER + GOOD + "2,,Велосипеды,1,\n"
    written = results_csv("ru", last(upload(tmp_path, text), Fake()).rows)
    first, second = csv.DictReader(io.StringIO(written))
    assert first["item_id"] == "1"
    assert float(first["deal_probability"]) == 0.2
    assert "фотографию (по оценке модели +10,0" in first["suggestion_1"]
    assert first["problem"] == ""
    assert second["deal_probability"] == ""
    assert second["problem"] == "Заголовок: не указано — без ответа"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(
    "cell", ["=cmd()", "+1", "-1", "@x", "\t=1", "\r=1", "x;=1+1;A0", "x;+1", "x\t=1", "＝1"]
)
def test_no_cell_is_a_formula_to_any_spreadsheet(cell: str, separator: str, tmp_path: Path) -> None:
    text = f'{HEADER}"{cell}",Стол,Мебель,1,\n'
    client = Fake(Trouble("refused", cell, field="title", row=0))
    for asked in (Fake(), client):
        written = results_csv("en", last(upload(tmp_path, text), asked).rows)
        assert cell in written.replace("'", "")
        for row in csv.reader(io.StringIO(written, newline=""), delimiter=separator):
            assert not [c for c in row if c.lstrip('" ').startswith(tuple("=+@\t\r-＝"))]
