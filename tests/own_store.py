"""A program in a folder, with state, reports and a ZenML store that nobody else uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from demand.workspace.workspace import PROJECT_ROOT


def run_program(folder: Path, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a file, in which ZenML finds its steps, to its end."""
    (folder / "program.py").write_text(program, encoding="utf-8")
    own = {
        "DEMAND_HOME": str(folder / "home"),
        "DEMAND_REPORTS": str(folder / "reports"),
        "ZENML_CONFIG_PATH": str(folder / "zenml"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_LOGGING_VERBOSITY": "CRITICAL",
        "PYTHONPATH": str(PROJECT_ROOT),
    }
    return subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder,
        env=os.environ | own | environment,
        capture_output=True,
        text=True,
        check=False,
    )
