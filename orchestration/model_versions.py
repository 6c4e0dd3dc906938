"""The model in ZenML's control plane: its versions, whose stages follow the registry's aliases."""

from __future__ import annotations

from zenml import Model
from zenml.client import Client
from zenml.enums import ModelStages
from zenml.models import ModelVersionResponse

from demand.progress import only_warned
from demand.registry.registry import MODEL, Registry
from demand.registry.versions import RegisteredVersion
from demand.workspace.workspace import current_workspace

_STAGED = (ModelStages.PRODUCTION, ModelStages.STAGING)


def zenml_model(fingerprint: str) -> Model:
    """Return the model version of a fingerprint, see :func:`demand.data.lineage.model_fingerprint`.

    The same data, code and config make the same version, as in MLflow's registry; it is
    named by its fingerprint, since it has no number before it is registered.
    """
    return Model(
        name=MODEL,
        version=_name(fingerprint),
        license="MIT",
        description="How likely a classified ad is to end in a deal: a sparse logistic "
        "regression on words and categories with a small network on top.",
        audience="Sellers who write an ad, and those who look after the service.",
        use_cases="Deal probability, its interval, and recommendations for an ad.",
        limitations="Learnt from Russian classified ads; it knows no pictures, and nothing of "
        "what becomes of an ad after it is published. See the model card of the version.",
        tags=["classified-ads", "regression", "tabular"],
        save_models_to_registry=False,
        suppress_class_validation_warnings=True,
    )


def _name(fingerprint: str) -> str:
    return f"fingerprint-{fingerprint[:12]}"


def model_version(version: RegisteredVersion) -> ModelVersionResponse | None:
    """Return what ZenML knows of a registered version, or None."""
    try:
        return Client().get_model_version(MODEL, _name(version.fingerprint))
    except KeyError:  # registered beside another store of ZenML
        return None


def follow_aliases(*, deployed: bool = False) -> None:
    """Bring ZenML's stages and served model into line with the registry; warn if it cannot.

    The champion is in production, the challenger in staging, and what was one of them
    before is archived. The served model is that of the deployment; one that ZenML does not
    know yet is registered where ``deployed``. What serves hangs on none of this.
    """
    with only_warned("ZenML cannot be told what serves"):
        _set_stages()
        from orchestration.served_model import register_served_model

        register_served_model(current_workspace(), anew=deployed)


def _set_stages() -> None:
    client, registry = Client(), Registry()
    aliased = {
        ModelStages.PRODUCTION: registry.champion(),
        ModelStages.STAGING: registry.challenger(),
        ModelStages.ARCHIVED: registry.previous(),
    }
    known = {stage: model_version(each) for stage, each in aliased.items() if each is not None}
    # The same model may have been registered twice: what serves counts most.
    wanted = {each.id: (stage, each) for stage, each in reversed(known.items()) if each is not None}
    try:
        staged = [
            each
            for stage in _STAGED
            for each in client.list_model_versions(model_name_or_id=MODEL, stage=stage).items
            if each.id not in wanted
        ]
    except KeyError:  # there is no model yet
        return
    changes = [(ModelStages.ARCHIVED, each) for each in staged] + list(wanted.values())
    for stage, each in changes:
        if each.stage != stage:
            client.update_model_version(each.model.id, each.id, stage=stage, force=True)
    for stage, registered in aliased.items():
        version = known.get(stage)
        tag = f"mlflow-version-{registered.version}" if registered else ""
        if version is not None and tag not in {each.name for each in version.tags}:
            client.update_model_version(version.model.id, version.id, add_tags=[tag])
