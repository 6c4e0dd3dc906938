from __future__ import annotations

from pathlib import Path

import pytest

from cli.main import main
from demand.errors import EXIT_ERROR, EXIT_USAGE
from demand.production_log.store import current_log
from demand.workspace.workspace import Workspace
from tests.ads_factory import make_ads
from tests.production_log.answered import AD, FAR_AHEAD, LONG_AGO, add


@pytest.fixture
def labelled(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("DEMAND_LOG_URL")
    make_ads(20).to_csv(tmp_path / "labelled.csv", index=False)
    return tmp_path / "labelled.csv"


def test_labelled_ads_become_outcomes_of_what_was_answered(
    labelled: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    known = make_ads(20).iloc[3]
    log = current_log()
    assert log is not None
    writer = log.writer()
    add(writer, AD | {"item_id": known["item_id"]}, AD)
    writer.close()
    assert main(["outcomes", "import", str(labelled)]) == 0
    assert capfd.readouterr().out == "outcomes of 20 ads are kept\n"
    mature = log.mature_entries(LONG_AGO, FAR_AHEAD, now=FAR_AHEAD)
    assert mature["outcome"].fillna(-1).tolist() == [known["deal_probability"], -1]


def test_what_is_no_file_of_labelled_ads_is_refused(
    labelled: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_ads(20).drop(columns="deal_probability").to_csv(labelled, index=False)
    assert main(["outcomes", "import", str(labelled)]) == EXIT_ERROR
    assert "deal_probability" in capfd.readouterr().err
    with pytest.raises(SystemExit) as usage:
        main(["outcomes", "export", str(labelled)])
    assert usage.value.code == EXIT_USAGE


def test_without_a_log_there_is_nothing_to_import_into(
    labelled: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEMAND_LOG_URL", "off")
    assert main(["outcomes", "import", str(labelled)]) == EXIT_ERROR
    assert "DEMAND_LOG_URL" in capfd.readouterr().err
