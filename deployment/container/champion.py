"""Copy the champion's MLflow model to a folder that does not exist, and print its version.

``python deployment/container/champion.py FOLDER`` asks the registry of the installation
that ``DEMAND_HOME`` names. The version is also written to ``model_version`` in the folder,
so that a server says with each answer which model gave it, wherever the folder travels.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cli.terminal import guarded
from demand.errors import ModelError
from demand.registry.model_files import copy_model
from demand.registry.registry import Registry
from demand.workspace.workspace import current_workspace

VERSION_FILE = "model_version"


def export_champion(folder: Path) -> str:
    """Copy the champion to ``folder`` and return its version.

    Raises
    ------
    ModelError
        There is no champion yet, its files are damaged, or the folder is there already.
    """
    if folder.exists():
        raise ModelError(f"{folder} is there already: name a folder that is not")
    workspace = current_workspace()
    # Asking a registry that is not there would make one.
    champion = Registry(workspace).champion() if workspace.mlflow_database.exists() else None
    if champion is None:
        raise ModelError(
            "there is no champion yet: run `python run.py --pipeline training` to make one"
        )
    copy_model(champion, folder)
    (folder / VERSION_FILE).write_text(champion.version + "\n", encoding="utf-8")
    return champion.version


def main() -> int:
    """Parse, export, print."""
    parser = argparse.ArgumentParser(description="Copy the champion's MLflow model to a folder.")
    parser.add_argument("folder", type=Path)
    sys.stdout.write(export_champion(parser.parse_args().folder) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(guarded(main))
