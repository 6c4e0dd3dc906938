"""The steps of data in a real ZenML, in a store of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.own_store import run_program

PROGRAM = """
import datetime
import json
import numpy as np
import pandas as pd
from zenml import pipeline, step
from zenml.client import Client
from pathlib import Path
from demand.config import ValidationSettings
from demand.data.typed import TypedAds
from demand.data.versioning import file_md5
from steps.data import ingest, validate
from tests.ads_factory import make_ads

UNPARSED = ["row", "line", "item_id", "column", "value", "reason"]

@step(enable_cache=False)
def load(ahead: bool) -> tuple[TypedAds, pd.DataFrame, np.ndarray]:
    ads = make_ads(300)
    if ahead:
        ads.loc[0, "activation_date"] = pd.Timestamp.now().normalize() + pd.Timedelta(days=9)
    stored = TypedAds.write(Path(f"{ahead}.parquet"), [ads])
    return stored, pd.DataFrame(columns=UNPARSED), np.arange(0)

@step
def ingested(ads: TypedAds) -> tuple[int, list[str]]:
    return ads.rows, [str(path) for path in Path("temporary").rglob("*.parquet")]

@pipeline(name="training")
def training(md5: str) -> None:
    ads, _, _ = ingest(str(Path("ads.csv").absolute()), md5, 8.0)
    ingested(ads)
    for ahead in (False, True):
        validate(*load(ahead), ValidationSettings())

make_ads(300).to_csv("ads.csv", index=False)
found, run = [], training(file_md5(Path("ads.csv")))
for step in (run.steps["validate"], run.steps["validate_2"]):
    expires = Client().get_run_step(step.id).cache_expires_at
    found.append((expires and expires.isoformat(), step.outputs["warnings"][0].load()))
outputs = run.steps["ingested"].outputs
found.append([outputs[name][0].load() for name in ("output_0", "output_1")])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("installation")
    (folder / "temporary").mkdir()
    done = run_program(folder, PROGRAM, TMPDIR=str(folder / "temporary"), TZ="UTC")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_temporary_file_goes_with_its_step(found: list[Any]) -> None:
    assert found[2] == [300, []]


def test_a_verdict_that_hangs_on_the_day_is_not_kept_beyond_it(found: list[Any]) -> None:
    (always, no_warning), (expires, warnings) = found[:2]
    assert (always, no_warning) == (None, [])
    assert expires.endswith("T00:00:00")
    # It travels with the model: a folder of this machine tells others nothing.
    assert warnings == ["1 of 300 ads are bad rows and lie in quarantine.csv"]
