"""Whichever way an ad comes to the model, the answer is the same; the container's too.

``tests/e2e/test_container.py`` asks the image about the same ads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demand.evaluation.metrics import Floats
from demand.model.predictor import Predictor
from demand.registry.registry import Registry
from demand.schema.columns import TARGET
from demand.schema.records import frame_from_records
from demand.workspace.workspace import Workspace
from tests.e2e.api import Api
from tests.e2e.door import Door
from tests.e2e.installation import Installation
from tests.e2e.thousand_ads import (
    TOLERANCE,
    Ad,
    ask_flask,
    ask_flask_singly,
    ask_model_server,
    thousand_ads,
)

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Ways:
    """A champion, and all that answers with it."""

    installation: Installation
    door: Door
    api: Api
    predictor: Predictor
    folder: Path

    def predict_one(self, ads: list[Ad]) -> list[float]:
        return [self.predictor.predict_one(ad) for ad in ads]

    def model_server(self, ads: list[Ad]) -> list[float]:
        address = str(self.installation.status()["endpoint"]).removesuffix("/invocations")
        return ask_model_server(address, ads)

    def flask(self, ads: list[Ad]) -> list[float]:
        return ask_flask(self.api.url, ads)

    def flask_singly(self, ads: list[Ad]) -> list[float]:
        return ask_flask_singly(self.api.url, ads)

    def flask_invocations(self, ads: list[Ad]) -> list[float]:
        return ask_model_server(self.api.url, ads)

    def batch_inference(self, ads: list[Ad]) -> list[float]:
        data, output = self.folder / "ads.csv", self.folder / "answers.csv"
        # As a caller may write the file: with ids, and a column that no ad has.
        named = pd.DataFrame(ads).assign(item_id=[f"ad-{n}" for n in range(len(ads))], colour="red")
        named.to_csv(data, index=False)
        asked = ["--data", str(data), "--output", str(output)]
        command = [sys.executable, "run.py", "--pipeline", "batch-inference", *asked]
        run = self.door.start_pipeline(self.installation, command)
        assert run.wait() == 0, run.printed
        assert "warning: ignored columns: 'colour'" in run.printed
        assert f"version 1 answered {len(ads):,} of {len(ads):,} ads" in run.printed
        told = pd.read_csv(output, dtype={"item_id": str})
        assert told["item_id"].tolist() == named["item_id"].tolist()
        return list(told[TARGET])


@pytest.fixture(scope="module")
def ways(
    serving: Installation, door: Door, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ways]:
    home, folder = Workspace(serving.home), tmp_path_factory.mktemp("ways")
    predictor = Predictor.load(Registry(home).version("1").source / "data" / "predictor")
    api = Api(home, folder / "api.log")
    try:
        api.wait("/ready", 200)
        yield Ways(serving, door, api, predictor, folder)
    finally:
        api.end()


@pytest.fixture(scope="module")
def ads() -> list[Ad]:
    return thousand_ads()


@pytest.fixture(scope="module")
def expected(ways: Ways, ads: list[Ad]) -> Floats:
    return ways.predictor.predict(frame_from_records(ads))


@pytest.mark.parametrize(
    "way",
    [
        *(Ways.predict_one, Ways.model_server, Ways.flask, Ways.flask_singly),
        *(Ways.flask_invocations, Ways.batch_inference),
    ],
    ids=lambda way: way.__name__,
)
def test_every_way_to_the_model_gives_the_predictors_answers(
    ways: Ways, ads: list[Ad], expected: Floats, way: Callable[[Ways, list[Ad]], list[float]]
) -> None:
    np.testing.assert_allclose(way(ways, ads), expected, rtol=0, atol=TOLERANCE)


def test_the_answers_differ_so_that_ads_which_change_places_would_be_seen(
    expected: Floats,
) -> None:
    assert len(np.unique(expected.round(5))) > len(expected) / 2
