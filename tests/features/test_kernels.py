from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import demand
from demand.features import kernels
from demand.features.kernels import compiled

PACKAGE = Path(demand.__file__).parent
# A kernel that calls another, and how often its code was found.
ASKED = """
import numpy as np
from demand.features.kernels import interval_bounds as f
keys, quantiles = np.zeros(0, np.uint32), np.zeros(0, np.float32)
_, high, _ = f(np.array([0.5]), np.zeros(1, np.uint64), keys, quantiles, 1.0)
print(high[0], sum(f.stats.cache_hits.values()))
"""
# The types of arrays are for those who read and check, and change no code.
FREE = {"__future__", "collections.abc", "enum", "math", "typing"}
FREE |= {"numpy", "numpy.typing", "numba", "numba.extending", "demand.schema.arrays"}


def test_where_nothing_can_be_kept_it_is_compiled_all_the_same() -> None:
    """A function of no file has no folder beside it that numba could write to."""
    double = compiled(eval("lambda x: x + x"))  # noqa: S307
    assert double(4) == 8


def asked(folder: Path) -> list[str]:
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "NUMBA_CACHE_DIR": str(folder / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", ASKED],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


def test_what_was_compiled_is_made_anew_when_a_function_it_calls_changes(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "demand", ignore=shutil.ignore_patterns("__pycache__"))
    source_file = tmp_path / "demand" / "features" / "kernels.py"
    assert asked(tmp_path) == ["0.75", "0"]
    assert asked(tmp_path) == ["0.75", "1"]
    source = source_file.read_text(encoding="utf-8")
    changed = source.replace(
        "np.square(np.maximum(predicted, _EDGE))", "np.maximum(predicted, _EDGE)"
    )
    assert changed != source
    source_file.write_text(changed, encoding="utf-8")
    assert asked(tmp_path) == ["1.0", "0"]
    assert asked(tmp_path) == ["1.0", "1"]


def test_kernels_take_nothing_from_another_file() -> None:
    """Of what stands there a change would go unseen."""
    taken = set()
    for node in ast.walk(ast.parse(Path(kernels.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            taken.add(node.module)
        elif isinstance(node, ast.Import):
            taken |= {each.name for each in node.names}
    assert taken <= FREE


def test_no_other_file_has_kernels() -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    assert [path.name for path, text in sources.items() if "import njit" in text] == ["kernels.py"]
    assert [path.name for path, text in sources.items() if "@compil" in text] == ["kernels.py"]
