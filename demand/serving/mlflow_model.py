"""A Predictor as an MLflow model: a folder without pickle that any MLflow can serve."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import demand
from demand.ads import INPUT_COLUMNS, REQUEST_REQUIRED
from demand.ingestion.records import frame_from_records
from demand.serving.facts import CARD_FOLDER, MARKET_FILE
from demand.serving.loader import Predicts
from demand.serving.tracking import TrackedRun, quiet_mlflow
from demand.state import read_json, write_aside, write_json

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

LOADER = "demand.serving.loader"
SAMPLES_FILE = "samples.json"
# Ads that travel with the model, so that every deployment can prove itself on them.
SAMPLES_MAX = 32
# The fit that was judged on held-out ads, beside its refit that serves.
HELD_OUT = "held_out"

# What the server's process imports.
_SERVING_PACKAGES = ("mlflow", "numpy", "pandas", "pydantic", "pyyaml", "safetensors")

# Invented; what a caller may copy into a first request.
EXAMPLE_ADS: list[dict[str, Any]] = [
    {
        "title": "Велосипед детский, 16 дюймов",
        "description": "В хорошем состоянии, катались одно лето. Торг при осмотре.",
        "price": 3500.0,
        "category_name": "Велосипеды",
        "parent_category_name": "Хобби и отдых",
        "region": "Самарская область",
        "city": "Самара",
        "param_1": "Детские",
        "user_type": "Private",
        "item_seq_number": 12.0,
        "activation_date": "2017-03-28",
    },
    {
        "title": "Ремонт стиральных машин на дому",
        "category_name": "Предложение услуг",
    },
]


def signature() -> ModelSignature:
    """Return MLflow's signature: title and category_name required, all else optional.

    Numbers are doubles, since a missing price is null; dates are ISO texts.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    columns = [
        ColSpec(
            "double" if column.kind in ("number", "integer") else "string",
            column.name,
            required=column.name in REQUEST_REQUIRED,
        )
        for column in INPUT_COLUMNS
    ]
    output = TensorSpec(np.dtype(np.float64), (-1,), name=None)
    return ModelSignature(inputs=Schema(columns), outputs=Schema([output]))


def requirements() -> list[str]:
    """Return what serving needs, pinned to the versions of this environment.

    A local version such as ``+cpu`` is left out: no package index has it.
    """
    versions = ((name, importlib.metadata.version(name)) for name in _SERVING_PACKAGES)
    return [f"{name}=={version.partition('+')[0]}" for name, version in versions]


def save_model(
    predictor: Predicts,
    folder: Path,
    samples: pd.DataFrame,
    *,
    model_id: str | None = None,
    run_id: str | None = None,
    held_out: Predicts | None = None,
    card: Path | None = None,
    market: Mapping[str, Any] | None = None,
    loader_module: str = LOADER,
) -> None:
    """Write the Predictor as an MLflow model.

    Parameters
    ----------
    predictor
        The trained model.
    folder
        Does not exist yet.
    samples
        Raw ads, shape (n, 17), n >= 1. They and the Predictor's answers are kept in
        ``samples.json``, and every deployment has to give the same answers.
    model_id, run_id
        MLflow's ids, where it knows this model already.
    held_out
        The model of which this is a refit: later models are compared with it, on ads
        that it has not seen.
    card
        Folder with the model card, to travel with the model.
    market
        Of the ads that it learnt from, see :func:`demand.market.market`; travels, too.
    loader_module
        Module with ``_load_pyfunc(path)``.
    """
    quiet_mlflow()
    import mlflow.pyfunc
    from mlflow.models import Model

    quiet_mlflow()
    example = frame_from_records(EXAMPLE_ADS[:1])
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "predictor"
        predictor.save(data)
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=loader_module,
            data_path=str(data),
            mlflow_model=Model(model_id=model_id, model_uuid=model_id, run_id=run_id),
            signature=signature(),
            input_example=_without_dates(example),
            pip_requirements=requirements(),
            metadata={"demand_version": demand.__version__},
        )
    if held_out is not None:
        held_out.save(folder / HELD_OUT)
    if card is not None:
        shutil.copytree(card, folder / CARD_FOLDER)
    if market is not None:
        # Without indents: half the size, and people read the page that is made of it.
        text = json.dumps(market, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        with write_aside(folder / MARKET_FILE) as temporary_file:
            temporary_file.write_text(text, encoding="utf-8")
    answers = predictor.predict(samples)
    write_json(
        folder / SAMPLES_FILE, {"ads": records(samples), "predictions": [float(p) for p in answers]}
    )


def log_model(
    run: TrackedRun,
    predictor: Predicts,
    samples: pd.DataFrame,
    *,
    held_out: Predicts | None = None,
    card: Path | None = None,
    market: Mapping[str, Any] | None = None,
    loader_module: str = LOADER,
) -> str:
    """Log the Predictor as a model of ``run``, see :func:`save_model`; return MLflow's model id.

    MLflow's own ``log_model`` works on global state, the active run and URI; this does
    the same with the run's client.
    """
    from mlflow.entities import LoggedModelOutput

    client = run.client
    model = client.create_logged_model(
        run.experiment_id, name="demand", source_run_id=run.run_id, model_type="regressor"
    )
    model_id = str(model.model_id)
    client.log_outputs(run.run_id, [LoggedModelOutput(model_id, step=0)])
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            save_model(
                predictor,
                folder,
                samples,
                model_id=model_id,
                run_id=run.run_id,
                held_out=held_out,
                card=card,
                market=market,
                loader_module=loader_module,
            )
            client.log_model_artifacts(model_id, str(folder))
    except BaseException:
        client.finalize_logged_model(model_id, "FAILED")
        raise
    client.finalize_logged_model(model_id, "READY")
    return model_id


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return raw ads as JSON would carry them: ISO dates, None where missing."""
    names = [column.name for column in INPUT_COLUMNS if column.name in frame.columns]
    plain = _without_dates(frame[names])
    plain = plain.astype(object).where(plain.notna(), None)
    return [{str(k): v for k, v in row.items()} for row in plain.to_dict("records")]


def sample_ads(folder: Path) -> tuple[list[dict[str, Any]], list[float]]:
    """Return the sample ads that :func:`save_model` kept, and the Predictor's answers.

    Raises
    ------
    demand.errors.StateError
        The file is missing or damaged.
    """
    kept = read_json(folder / SAMPLES_FILE)
    return kept["ads"], kept["predictions"]


def _without_dates(frame: pd.DataFrame) -> pd.DataFrame:
    """Write dates as ISO texts."""
    dates = frame.select_dtypes("datetime").columns
    texts = {name: frame[name].dt.strftime("%Y-%m-%d").astype(object) for name in dates}
    return frame.assign(**texts)
