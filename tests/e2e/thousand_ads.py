"""The ads that every way to the model must answer alike, and how servers are asked about them.

``python -m tests.e2e.thousand_ads URL FILE`` asks a model server and writes its answers as
JSON: so the container is asked about the same ads as everything else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import requests

from demand.data.reading import read_ads
from demand.demo import generate
from demand.registry.packaging import records
from demand.schema.columns import COLUMN, INPUT_COLUMNS, REQUEST_REQUIRED
from demand.workspace.workspace import PROJECT_ROOT

REAL = PROJECT_ROOT.parent / "shared" / "avito" / "ads.csv"
COUNT = 1000
TOLERANCE = 1e-6

Ad = dict[str, Any]
# Every character that a text may have and a terminal would rather not see. A carriage return
# alone is none of them in a CSV file, which is refused with it.
_CODES = (*range(1, 13), *range(14, 32), *range(127, 160), 0x2028, 0x2029, 0x200E, 0xFEFF)
_CONTROLS = "".join(map(chr, _CODES))
_EMOJI = "🚲 👩‍👩‍👧‍👦 🇷🇺 👍🏽 é ① ﬁ"


def thousand_ads() -> list[Ad]:
    """Return 1,000 real ads, or demo ads where there are none, and odd ones besides.

    All are such as the APIs accept: without target and ``item_id``.
    """
    frame = read_ads(REAL).frame if REAL.is_file() else generate(COUNT, seed=17)
    ads = records(frame.drop(columns="item_id").head(COUNT))
    assert len(ads) == COUNT
    return [*ads, *_odd(ads[0])]


def _odd(ad: Ad) -> list[Ad]:
    """Return variants of an ad, as seldom met as allowed."""
    plain = {name: ad[name] for name in REQUEST_REQUIRED}
    optional = [column for column in INPUT_COLUMNS if column.name in ad.keys() - plain.keys()]
    texts = [column.name for column in optional if column.kind == "text"]
    title, description = (int(COLUMN[n].max_length or 0) for n in ("title", "description"))
    lacking = [{n: v for n, v in ad.items() if n != column.name} for column in optional]
    changes: list[Ad] = [
        *({column.name: None} for column in optional),
        *({name: " \t\n"} for name in texts),
        *({name: _EMOJI} for name in ("title", "description", "city", "param_1", "user_type")),
        *({name: f"а{_CONTROLS}б"} for name in ("title", "description", "category_name", "city")),
        *({"description": f"{control}диван{control}{control}бу"} for control in _CONTROLS),
        {"title": "ж" * title, "description": "щ" * description},
        {"title": "🙂" * title, "description": "🙂" * description},
        {"description": "старый диван, " * (description // 14)},
        {"description": "".join(chr(0x400 + n % 256) for n in range(description))},
        {"description": '"кавычки", ""запятые"",\r\n;\r\'и концы строк\r\n'},
        *({"price": price} for price in (0, 0.01, 1, 1e12)),
        *({"item_seq_number": number} for number in (1, 10**9)),
        *({"image_top_1": number} for number in (0, 100_000)),
        *({"activation_date": day} for day in ("1999-01-01", "2016-02-29", "2099-12-31")),
        {"category_name": "Такой категории нет", "parent_category_name": "И такой"},
    ]
    return [plain, *lacking, *(ad | change for change in changes)]


def ask_model_server(url: str, ads: list[Ad]) -> list[float]:
    """Return the answers of ``/invocations``, at most 500 ads a request."""
    found: list[float] = []
    for first in range(0, len(ads), 500):
        body = {"dataframe_records": ads[first : first + 500]}
        found += _post(f"{url}/invocations", body)["predictions"]
    return found


def ask_flask(url: str, ads: list[Ad]) -> list[float]:
    """Return the answers of ``/predict`` to a list of ads."""
    return [answer["deal_probability"] for answer in _post(f"{url}/predict", ads)]


def ask_flask_singly(url: str, ads: list[Ad]) -> list[float]:
    """Return the answers of ``/predict`` to one ad a request, over one connection."""
    with requests.Session() as session:
        session.trust_env = False
        return [_post(f"{url}/predict", ad, session)["deal_probability"] for ad in ads]


def _post(url: str, body: Any, session: requests.Session | None = None) -> Any:
    own = session or requests.Session()
    own.trust_env = False  # no proxy for loopback
    reply = own.post(url, json=body, timeout=60)
    assert reply.status_code == 200, reply.text[:1000]
    return reply.json()


def main(url: str, output: str) -> None:
    """Ask, and write."""
    answers = ask_model_server(url, thousand_ads())
    Path(output).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
