"""Which version is champion, which was before, and why.

The alias ``champion`` is the single truth. All that goes with a change (who, when, from, to,
why) is one tag of the registered model, written *before* the alias moves as begun and *after*
it as done; the alias ``previous``, the end of ``challenger`` and the file for the API follow
after it, too. A process killed in between leaves either the old champion or the new one, and
whoever reads or changes the registry next completes what follows.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from demand.errors import ModelError, StateError
from demand.registry.model_files import damage, damage_of, description, folder_digest
from demand.registry.tracking import mlflow_client, store_errors
from demand.registry.versions import (
    BEGUN_TAG,
    SERVED,
    Action,
    RegisteredVersion,
    Transition,
    champion_file,
    change_key,
    changes_in,
    local_folder,
    parsed,
    registered_version,
    told_champion,
    write_champion,
)
from demand.workspace.workspace import Workspace, current_workspace, exclusive, write_json

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

MODEL = "demand"
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"


class Registry:
    """The registered model ``demand`` of one installation, by default that of ``DEMAND_HOME``.

    ``client`` is of MLflow, by default bound to ``workspace``.
    """

    def __init__(
        self, workspace: Workspace | None = None, client: MlflowClient | None = None
    ) -> None:
        self._workspace = workspace or current_workspace()
        self._client = client or mlflow_client(self._workspace)
        # Lines of JSON, in which the changes were kept before they were tags.
        self._old_history = self._workspace.root / "history.jsonl"

    def champion(self) -> RegisteredVersion | None:
        """Return the version that is to serve, or None before the first promotion.

        A change that a killed process began, or that was made by MLflow's own page, is
        completed: see :mod:`demand.registry.versions`.
        """
        champion = self._by_alias(CHAMPION)
        with contextlib.suppress(StateError):
            if told_champion(self._workspace) == champion:
                return champion
        with contextlib.suppress(StateError):
            self.tell_champion()
        return champion

    def challenger(self) -> RegisteredVersion | None:
        """Return the candidate that was registered last and not promoted, or None."""
        return self._by_alias(CHALLENGER)

    def previous(self) -> RegisteredVersion | None:
        """Return the version that a rollback goes to, or None."""
        change = self._change_to(self._alias(CHAMPION))
        return self.version(change.previous) if change and change.previous else None

    def version(self, version: str) -> RegisteredVersion:
        """Return one version; :class:`ModelError` where there is none, with those there are."""
        known = {each.version: each for each in self.versions()}
        if version not in known:
            there = ", ".join(known) or "none"
            raise ModelError(f"there is no version {version} of the model; there is: {there}")
        return known[version]

    def asked(self, version: str | None = None) -> RegisteredVersion:
        """Return the version named, or the champion; :class:`ModelError` where it is absent."""
        found = self.champion() if version is None else self.version(version)
        if found is None:
            raise ModelError("there is no champion yet: run `python run.py --pipeline training`")
        return found

    def versions(self) -> list[RegisteredVersion]:
        """Return all versions, the oldest first."""
        with store_errors(self._workspace):
            found = self._client.search_model_versions(f"name='{MODEL}'", max_results=10_000)
        return sorted(map(registered_version, found), key=lambda each: int(each.version))

    def damage(self, version: RegisteredVersion) -> str | None:
        """Say what is wrong with the files of a version, and what to do; None if nothing is."""
        told, copy = damage_of(version), self._workspace.serving / version.version
        if told is None:
            return None
        if damage(copy, version.files_sha256) is None:
            told += f" from {copy}, which is whole"
        way_out = "where neither can be, `demand withdraw` leaves no champion"
        return f"{told}, or go back with `demand rollback`; {way_out}"

    def register_challenger(
        self,
        model_id: str,
        *,
        data_md5: str,
        fingerprint: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str | None] | None = None,
    ) -> RegisteredVersion:
        """Register a logged model, with its lineage as tags, and make it the challenger.

        A twin is not registered again: the latest version with the same fingerprint, if its
        files are whole, is returned instead; it becomes the challenger unless it is
        the champion. Figures that are not finite are left out: JSON has no word for them.
        """
        figures = json.dumps({name: m for name, m in metrics.items() if math.isfinite(m)})
        lineage = {name: value for name, value in (tags or {}).items() if value is not None}
        lineage |= {"data_md5": data_md5, "fingerprint": fingerprint, "metrics": figures}
        with self._changing("registering a challenger"):
            twins = [each for each in self.versions() if each.fingerprint == fingerprint]
            version = twins[-1] if twins else None
            if version is None or damage_of(version) is not None:
                version = self._create(model_id, lineage)
            if self._alias(CHAMPION) != version.version:
                self._client.set_registered_model_alias(MODEL, CHALLENGER, version.version)
            return version

    def promote(self, version: str, reason: str) -> RegisteredVersion:
        """Make ``version`` the champion and the one before it ``previous``.

        Promoting the champion again changes nothing and records nothing. A version that does
        not exist, or whose files are damaged, is a :class:`ModelError`.
        """
        with self._changing("promoting a model"):
            return self._switch("promote", self.version(version), reason)

    def rollback(
        self, to: str | None = None, reason: str = "asked for", change_id: str | None = None
    ) -> RegisteredVersion:
        """Make ``previous``, or the version named, the champion again.

        ``change_id`` is a new one, by which :meth:`undo` knows the change again. A version
        that does not exist, or whose files are damaged, is a :class:`ModelError`.
        """
        with self._changing("rolling back"):
            target = self.previous() if to is None else self.version(to)
            if target is None:
                raise ModelError("there is no champion before this one to roll back to")
            return self._switch("rollback", target, reason, change_id)

    def mark_served(self, version: str) -> None:
        """Record that the version has answered sample ads as a deployed server."""
        with self._changing("recording a deployment"):
            self._client.set_model_version_tag(MODEL, version, SERVED, "true")

    def undo(self, made: str, reason: str) -> None:
        """Undo the change that made the champion, as when its deployment failed.

        ``made`` is the version that it made champion, or its id; of any other change nothing is
        undone. The champion before it takes over again, with the ``previous`` that it had; if
        there was none, there is none now.
        """
        with self._changing("undoing a change of the champion"):
            change = self._change_to(self._alias(CHAMPION))
            if change is None or made not in (change.to_version, change.id):
                return
            if change.from_version is None:
                self._apply(Transition("withdraw", change.to_version, None, None, reason))
            else:
                self._switch("withdraw", self.version(change.from_version), reason)

    def remove_champion(self, version: str, reason: str) -> None:
        """Leave no champion, where ``version`` is it; the next promotion is compared with none."""
        with self._changing("removing the champion"):
            if self._alias(CHAMPION) == version:
                self._apply(Transition("withdraw", version, None, None, reason))

    def tell_champion(self) -> None:
        """Bring into line all that follows from the alias ``champion``."""
        with self._changing("reading the champion"):
            pass

    def history(self) -> list[Transition]:
        """Return all changes of the champion, the oldest first."""
        if self._old_history.exists():
            self.tell_champion()
        model = self._model()
        champion = _aliases(model).get(CHAMPION)
        done = [each for each in _begun(model) if each.to_version == champion]
        return list({change.id: change for change in [*changes_in(model.tags), *done]}.values())

    def _change_to(self, version: str | None) -> Transition | None:
        """Return the last change that made a version champion."""
        if version is None:
            return None
        return next((c for c in reversed(self.history()) if c.to_version == version), None)

    def _switch(
        self, action: Action, target: RegisteredVersion, reason: str, change_id: str | None = None
    ) -> RegisteredVersion:
        before = previous = self._alias(CHAMPION)
        if before == target.version:
            return target
        # What is undone is as it was before, whatever became of its files meanwhile.
        if action != "withdraw" and (told := damage_of(target)):
            raise ModelError(
                f"version {target.version} cannot become champion: {told}, or name another "
                "version with `demand rollback --to`"
            )
        if action == "withdraw":
            earlier = self._change_to(target.version)
            previous = earlier.previous if earlier else None
        change = Transition(action, before, target.version, previous, reason)
        self._apply(replace(change, id=change_id) if change_id else change)
        return target

    def _apply(self, change: Transition) -> None:
        """Change the champion, or leave none."""
        self._client.set_registered_model_tag(MODEL, BEGUN_TAG, change.to_json())
        if change.to_version is None:
            self._client.delete_registered_model_alias(MODEL, CHAMPION)
        else:
            self._client.set_registered_model_alias(MODEL, CHAMPION, change.to_version)
        self._complete()

    def _complete(self) -> None:
        """Finish the change that was begun, if the champion is what it made; else forget it."""
        model = self._model()
        aliases = _aliases(model)
        champion = aliases.get(CHAMPION)
        for change in _begun(model):
            if change.to_version == champion:
                if change.previous is not None:
                    self._client.set_registered_model_alias(MODEL, PREVIOUS, change.previous)
                elif PREVIOUS in aliases:
                    self._client.delete_registered_model_alias(MODEL, PREVIOUS)
                if champion is not None and aliases.get(CHALLENGER) == champion:
                    self._client.delete_registered_model_alias(MODEL, CHALLENGER)
                self._keep(change)
        if BEGUN_TAG in model.tags:
            self._client.delete_registered_model_tag(MODEL, BEGUN_TAG)

    def _keep(self, change: Transition) -> None:
        """Add a change to the history, unless it is there."""
        tags = self._model().tags
        if change not in changes_in(tags):
            self._client.set_registered_model_tag(MODEL, change_key(tags), change.to_json())

    @contextlib.contextmanager
    def _changing(self, purpose: str) -> Iterator[None]:
        """Hold the registry's lock; what a killed process left is completed first."""
        with (
            exclusive(self._workspace.locks / "registry.lock", purpose, wait=True),
            store_errors(self._workspace),
        ):
            if self._old_history.exists() and self._model().creation_timestamp is not None:
                for change in parsed(self._old_history.read_text("utf-8").splitlines()):
                    self._keep(change)
                self._old_history.rename(f"{self._old_history}.imported")
            self._complete()
            yield
            champion, previous = self._by_alias(CHAMPION), self._by_alias(PREVIOUS)
            write_champion(self._workspace, champion, previous)

    def _create(self, model_id: str, lineage: dict[str, str]) -> RegisteredVersion:
        model = self._client.get_logged_model(model_id)
        folder = local_folder(str(model.artifact_location))
        version, purpose = description(folder)
        registered = self._model()
        if registered.creation_timestamp is None:
            self._client.create_registered_model(MODEL)
        if purpose and not registered.description:  # which people may have changed
            self._client.update_registered_model(MODEL, purpose)
        source, tags = folder.as_uri(), {**lineage, "files_sha256": folder_digest(folder)}
        created = self._client.create_model_version(
            MODEL, source, model.source_run_id, tags, description=version, model_id=model_id
        )
        return self.version(str(created.version))

    def _model(self) -> RegisteredModel:
        """Return what MLflow knows of the registered model: nothing before the first version."""
        from mlflow.entities.model_registry import RegisteredModel

        with store_errors(self._workspace):
            found = self._client.search_registered_models(f"name='{MODEL}'")
        return next(iter(found), RegisteredModel(MODEL))

    def _alias(self, alias: str) -> str | None:
        return _aliases(self._model()).get(alias)

    def _by_alias(self, alias: str) -> RegisteredVersion | None:
        version = self._alias(alias)
        return None if version is None else self.version(version)


def _aliases(model: RegisteredModel) -> dict[str, str]:
    return {alias: str(version) for alias, version in model.aliases.items()}


def _begun(model: RegisteredModel) -> list[Transition]:
    """Return the change that was begun and perhaps not finished, if there is one."""
    return parsed(value for key, value in model.tags.items() if key == BEGUN_TAG)


def main(root: str) -> None:
    """Write the champion of the installation in ``root``, or why it cannot be read."""
    workspace = Workspace(Path(root))
    try:
        Registry(workspace).tell_champion()
    except StateError as error:
        write_json(champion_file(workspace), {"error": str(error)})


if __name__ == "__main__":
    main(sys.argv[1])
