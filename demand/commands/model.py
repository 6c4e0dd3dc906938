"""Commands that ask the champion."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from demand.commands.parsers import add_command
from demand.errors import AdsFileError

if TYPE_CHECKING:
    from demand.commands.parsers import Commands
    from demand.predictor import Predictor

# Enough for all coalitions of all fields, so that the contributions are exact.
EXPLAINED_PERMUTATIONS = 374


def add_predict(commands: Commands) -> None:
    """Add predict."""
    predict = add_command(
        commands,
        "predict",
        "ask the champion about one ad or a list of ads, as JSON",
        'echo \'{"title": "Велосипед", "category_name": "Велосипеды"}\' | demand predict',
        _predict,
    )
    predict.add_argument(
        "--ad", type=Path, metavar="FILE", help="JSON file (default: standard input)"
    )


def add_explain(commands: Commands) -> None:
    """Add explain."""
    explain = add_command(
        commands,
        "explain",
        "what each field of an ad contributes to the champion's answer",
        "demand explain --ad ad.json",
        _explain,
    )
    explain.add_argument(
        "--ad", type=Path, metavar="FILE", help="JSON file of one ad (default: standard input)"
    )


def _predict(arguments: argparse.Namespace) -> int:
    from demand.ingestion.records import frame_from_records

    asked = _read_json(arguments.ad)
    predictor = _champion()
    ads = frame_from_records(asked if isinstance(asked, list) else [asked])
    for answer in predictor.predict(ads):
        print(f"{answer:.6f}")
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from demand.explanation import explained
    from demand.ingestion.records import frame_from_records

    ad = _read_json(arguments.ad)
    # It refuses what is no ad, naming the field.
    frame_from_records([ad])
    explanation = _champion().explain(ad, permutations=EXPLAINED_PERMUTATIONS)
    Console(soft_wrap=True).print(explained(explanation))
    return 0


def _read_json(path: Path | None) -> Any:
    name = str(path or "standard input")
    try:
        return json.loads(path.read_bytes() if path else sys.stdin.buffer.read())
    except OSError as error:
        raise AdsFileError(f"cannot read {name}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise AdsFileError(f"{name} is not valid JSON: {error}") from error


def _champion() -> Predictor:
    from demand.errors import ModelError
    from demand.serving.promotion import champion_predictor
    from demand.serving.registry import Registry

    champion = Registry().champion()
    if champion is None:
        raise ModelError("there is no champion yet: run `python run.py --pipeline training`")
    return champion_predictor(champion.version)
