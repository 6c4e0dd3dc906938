"""Print what an image installs: the part of the lock file that it needs.

``python deployment/container/requirements.py [page]`` starts from the packages that
:mod:`demand.serving` imports, or :mod:`demand.serving.page`, follows what each of them
requires, and writes every name at the version of ``requirements.lock``. So the images have
no versions of their own.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
# What `demand.serving.model_server`, `demand.predictor` and `demand api` import themselves.
# mlflow-skinny is MLflow without its tracking server's database, plots and scikit-learn.
SERVING = (
    "fastapi",
    "flask",
    "gunicorn",
    "httptools",
    "jinja2",
    "mlflow-skinny",
    "numba",
    "numpy",
    "pandas",
    "prometheus-client",
    "psutil",
    "pydantic",
    "pyyaml",
    "requests",
    "rich",
    "rich-argparse",
    "safetensors",
    "uvicorn",
    "uvicorn-worker",
    "uvloop",
)

# What `demand ui` imports; of the model it knows no more than the API tells.
PAGE = (
    "fastapi",
    "gradio",
    "numpy",
    "pandas",
    "pydantic",
    "pyyaml",
    "requests",
    "rich",
    "rich-argparse",
    "uvicorn",
)


def locked(lock: Path) -> dict[str, str]:
    """Return the version of each package in a lock file, by its canonical name."""
    pins = (line.partition("==") for line in lock.read_text("utf-8").splitlines() if "==" in line)
    return {canonicalize_name(name): version for name, _, version in pins}


def needed(names: tuple[str, ...]) -> set[str]:
    """Return the canonical names of packages and of all that they require, here and now.

    Raises
    ------
    PackageNotFoundError
        One of them is not installed in this environment.
    """
    found: set[str] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name in found:
            continue
        found.add(name)
        parts = map(Requirement, requires(name) or ())
        waiting += [p for p in parts if p.marker is None or p.marker.evaluate({"extra": ""})]
    return found


def main(arguments: list[str]) -> int:
    """Print the pinned list, or say what the lock lacks."""
    pins = locked(LOCK)
    try:
        names = sorted(needed(PAGE if arguments == ["page"] else SERVING))
    except PackageNotFoundError as error:
        sys.stderr.write(f"error: {error.name} is not installed here: run `make env`\n")
        return 1
    absent = [name for name in names if name not in pins]
    if absent:
        sys.stderr.write(f"error: {LOCK} lacks {', '.join(absent)}: run `make lock`\n")
        return 1
    for name in names:
        sys.stdout.write(f"{name}=={pins[name]}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
