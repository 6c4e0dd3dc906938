"""A Predictor as an MLflow model: a folder without pickle that any MLflow can serve.

It holds the arrays, the modules that answer with them, and the requirements of those: a
machine with MLflow needs nothing of this project.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Mapping
from modulefinder import ModuleFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import demand
from demand.registry.model_files import CARD_FOLDER, HELD_OUT, MARKET_FILE, REFERENCE_FILE
from demand.registry.tracking import TrackedRun, quiet_mlflow
from demand.schema.columns import INPUT_COLUMNS, REQUEST_REQUIRED
from demand.schema.records import frame_from_records
from demand.workspace.workspace import PROJECT_ROOT, write_aside, write_json

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

    from demand.model.predictor import Predictor

LOADER = "demand.registry.loader"
SAMPLES_FILE = "samples.json"
# Ads that travel with the model, so that every deployment can prove itself on them.
SAMPLES_MAX = 32

# What :data:`LOADER` imports, with MLflow's scoring server.
_PACKAGES = ("mlflow-skinny", "numba", "numpy", "pandas", "pydantic", "pyyaml", "safetensors")

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
    {"title": "Ремонт стиральных машин на дому", "category_name": "Предложение услуг"},
]


def signature() -> ModelSignature:
    """Return MLflow's signature: title and category_name required, all else optional.

    The columns have no types. By types MLflow would refuse whole numbers in a column of
    doubles, categories, and a column of texts that is all missing, which the loader reads;
    that it does by the schema, and names the field and the ad that are wrong.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType

    columns = [
        ColSpec(AnyType(), column.name, required=column.name in REQUEST_REQUIRED)
        for column in INPUT_COLUMNS
    ]
    output = TensorSpec(np.dtype(np.float64), (-1,), name=None)
    return ModelSignature(inputs=Schema(columns), outputs=Schema([output]))


def requirements() -> list[str]:
    """Return what the model needs to answer, pinned to the versions of this environment.

    A local version such as ``+cpu`` is left out: no package index has it.
    """
    versions = ((name, importlib.metadata.version(name)) for name in _PACKAGES)
    return [f"{name}=={version.partition('+')[0]}" for name, version in versions]


def copy_code(folder: Path) -> Path:
    """Copy the modules that :data:`LOADER` imports to ``folder``; return the package's folder.

    What they import is read from their source, and not followed beyond this project. A JSON
    file of a module's name goes with it.
    """
    finder = ModuleFinder(path=[str(PROJECT_ROOT)])
    finder.import_hook(LOADER)
    for name in finder.modules:
        module = PROJECT_ROOT.joinpath(*name.split("."))
        for file in (f"{module}.py", f"{module}.json", module / "__init__.py"):
            if (source := Path(file)).is_file():
                copy = folder / source.relative_to(PROJECT_ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
    return folder / demand.__name__


def save_model(
    predictor: Predictor,
    folder: Path,
    samples: pd.DataFrame,
    *,
    model_id: str | None = None,
    run_id: str | None = None,
    held_out: Predictor | None = None,
    card: Path | None = None,
    market: Mapping[str, Any] | None = None,
    reference: pd.DataFrame | None = None,
    loader_module: str = LOADER,
) -> None:
    """Write the Predictor as an MLflow model to a folder that does not exist yet.

    ``samples`` are raw ads, shape (n, 17), n >= 1. They and the Predictor's answers are kept in
    ``samples.json``, and every deployment has to give the same answers. The ids are MLflow's,
    where it knows this model already; ``held_out`` is the model of which this is a refit: later
    models are compared with it, on ads that it has not seen. With the model travel the folder
    of its ``card``, the ``market``, see :mod:`demand.features.category_statistics`, and the
    ``reference``, see :mod:`demand.monitoring.reference`; ``loader_module`` has
    ``_load_pyfunc(path)``.
    """
    quiet_mlflow()
    import mlflow.pyfunc
    from mlflow.models import Model

    quiet_mlflow()
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "predictor"
        predictor.save(data)
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=loader_module,
            data_path=str(data),
            code_paths=[str(copy_code(Path(temporary) / "code"))],
            mlflow_model=Model(model_id=model_id, model_uuid=model_id, run_id=run_id),
            signature=signature(),
            input_example=_without_dates(frame_from_records(EXAMPLE_ADS[:1])),
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
    if reference is not None:
        with write_aside(folder / REFERENCE_FILE) as temporary_file:
            reference.to_parquet(temporary_file, index=False)
    predictions = [float(answer) for answer in predictor.predict(samples)]
    write_json(folder / SAMPLES_FILE, {"ads": records(samples), "predictions": predictions})


def log_model(run: TrackedRun, predictor: Predictor, samples: pd.DataFrame, **packaged: Any) -> str:
    """Log the Predictor as a model of ``run``; return MLflow's model id.

    ``packaged`` is what else :func:`save_model` takes. MLflow's own ``log_model`` works on global
    state, the active run and URI; this does the same with the run's client.
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
            save_model(predictor, folder, samples, model_id=model_id, run_id=run.run_id, **packaged)
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


def _without_dates(frame: pd.DataFrame) -> pd.DataFrame:
    """Write dates as ISO texts."""
    dates = frame.select_dtypes("datetime").columns
    texts = {name: frame[name].dt.strftime("%Y-%m-%d").astype(object) for name in dates}
    return frame.assign(**texts)
