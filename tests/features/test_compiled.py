from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import demand
from demand.features.compiled import compiled, plain, sources_digest
from demand.features.words import Occurrences

PACKAGE = Path(demand.__file__).parent
# A function of one file that calls one of another, and how often its code was found.
ASKED = """
import numpy as np
from demand.features.statistics import STATISTICS, look_up_statistics as f
groups = np.zeros((len(STATISTICS), 1), np.uint64)
found = f(np.zeros(0, np.uint32), np.zeros(0, np.float32), 2.0, groups)
print(found[0, 0], sum(f.stats.cache_hits.values()))
"""
COMPILING = {"compiled", "compilable"}
FREE = ("demand.features.", "numpy", "math", "typing", "enum")


def test_where_nothing_can_be_kept_it_is_compiled_all_the_same() -> None:
    """A function of no file has no folder beside it that numba could write to."""
    double = compiled(eval("lambda x: x + x"))  # noqa: S307
    assert double(4) == 8


def test_named_tuples_become_plain_at_any_depth() -> None:
    row, hashed = np.zeros(1, np.int64), np.zeros(1, np.uint64)
    made = plain((Occurrences(row, hashed), 3))
    assert made == ((row, hashed), 3)
    assert type(made[0]) is tuple


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "one.py").write_text("x = 2"),
        lambda folder: (folder / "three.py").touch(),
        lambda folder: (folder / "two.py").rename(folder / "other.py"),
        lambda folder: (folder / "two.py").unlink(),
    ],
    ids=["content", "new", "name", "removed"],
)
def test_a_change_of_any_source_changes_the_digest(change, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("x = 1")
    (tmp_path / "two.py").write_text("y = 1")
    before = sources_digest.__wrapped__(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert sources_digest.__wrapped__(tmp_path) == before
    change(tmp_path)
    assert sources_digest.__wrapped__(tmp_path) != before


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
    called = tmp_path / "demand" / "features" / "group_means.py"
    assert asked(tmp_path) == ["2.0", "0"]
    assert asked(tmp_path) == ["2.0", "1"]
    source = called.read_text(encoding="utf-8")
    changed = source.replace("found[kind, row] = overall", "found[kind, row] = -overall")
    assert changed != source
    called.write_text(changed, encoding="utf-8")
    assert asked(tmp_path) == ["-2.0", "0"]
    assert asked(tmp_path) == ["-2.0", "1"]


def own_names(defined: ast.FunctionDef | ast.ClassDef) -> set[str]:
    """Name the parameters of a function or the fields of a class, and what it assigns."""
    own = {each.arg for each in ast.walk(defined) if isinstance(each, ast.arg)}
    names = [each for each in ast.walk(defined) if isinstance(each, ast.Name)]
    return own | {each.id for each in names if isinstance(each.ctx, ast.Store)}


def outside(source: str) -> set[str]:
    """Name what compiled functions take from elsewhere, themselves or by way of constants."""
    tree = ast.parse(source)
    imported: dict[str, str] = {}
    needs: dict[str, set[str]] = {}
    asked: set[str] = set()
    for node in tree.body:
        used = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
        match node:
            case ast.ImportFrom(module=str(module)):
                imported |= {each.asname or each.name: module for each in node.names}
            case ast.Import():
                imported |= {each.asname or each.name: each.name for each in node.names}
            case ast.FunctionDef() | ast.ClassDef():
                needs[node.name] = used - COMPILING - own_names(node)
                if COMPILING & {ast.unparse(each) for each in node.decorator_list}:
                    asked |= needs[node.name]
            case ast.Assign(targets=targets):
                for target in targets:
                    for name in ast.walk(target):
                        if isinstance(name, ast.Name):
                            needs[name.id] = used
    reached: set[str] = set()
    while asked:
        name = asked.pop()
        if name not in reached:
            reached.add(name)
            asked |= needs.get(name, set())
    return {
        f"{imported[name]}.{name}"
        for name in reached & imported.keys()
        if not imported[name].startswith(FREE)
    }


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(PACKAGE.rglob("*.py")) if "@compil" in path.read_text("utf-8")],
    ids=lambda path: path.stem,
)
def test_compiled_functions_take_nothing_from_outside_of_the_folder(path: Path) -> None:
    """Of what stands there a change would go unseen."""
    assert outside(path.read_text(encoding="utf-8")) == set()


def test_what_is_taken_from_outside_is_found() -> None:
    source = """
from demand.ads import COLUMNS
from math import sqrt
WIDTH = len(COLUMNS)

@compiled
def f(x):
    return sqrt(x) * WIDTH
"""
    assert outside(source) == {"demand.ads.COLUMNS"}
