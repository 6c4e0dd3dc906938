"""The page's image has none of what a model needs."""

from __future__ import annotations

import subprocess
import sys

from demand.workspace.workspace import PROJECT_ROOT

PAGE = "import demand.page.application, demand.page.server, cli.main"
ABSENT = ("numba", "scipy", "torch", "mlflow", "flask", "zenml", "safetensors")


def test_the_page_runs_where_no_model_can() -> None:
    blocked = "import sys; sys.modules.update(dict.fromkeys(sys.argv[1:]))"
    run = subprocess.run(
        [sys.executable, "-c", f"{blocked}; {PAGE}", *ABSENT],
        capture_output=True,
        text=True,
        cwd=PROJECT_ROOT,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
