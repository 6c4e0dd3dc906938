"""Which version is champion, which was before, and why.

The alias ``champion`` is the single truth. All that goes with a change (who, when,
from, to, why) is one tag written to the new version *before* the alias moves; the
alias ``previous``, the end of ``challenger`` and the line in the history follow from
the champion and its tag *after* it. A process killed in between leaves either the
old champion or the new one, and the next change completes what follows.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from demand.errors import ModelError
from demand.serving.history import Action, Transition, append, history, transition
from demand.serving.model_files import folder_digest, is_whole, local_folder
from demand.serving.tracking import mlflow_client, store_errors
from demand.serving.versions import SERVED, RegisteredVersion, lineage_tags, registered_version
from demand.state import Home, exclusive, home

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL = "demand"
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"

_TRANSITION_TAG = "demand.transition"


class Registry:
    """The registered model ``demand`` of one installation.

    Parameters
    ----------
    place
        The installation; by default the one that ``DEMAND_HOME`` names.
    client
        An MLflow client; by default one bound to ``place``.
    """

    def __init__(self, place: Home | None = None, client: MlflowClient | None = None) -> None:
        self._home = place or home()
        self._client = client or mlflow_client(self._home)

    def champion(self) -> RegisteredVersion | None:
        """Return the version that is to serve, or None before the first promotion."""
        return self._by_alias(CHAMPION)

    def challenger(self) -> RegisteredVersion | None:
        """Return the candidate that was registered last and not promoted, or None."""
        return self._by_alias(CHALLENGER)

    def previous(self) -> RegisteredVersion | None:
        """Return the version that a rollback goes to, or None."""
        champion = self.champion()
        change = self._transition(champion.version) if champion else None
        return self.version(change.previous) if change and change.previous else None

    def version(self, version: str) -> RegisteredVersion:
        """Return one version.

        Raises
        ------
        ModelError
            There is no such version; names those there are.
        """
        known = {each.version: each for each in self.versions()}
        if version not in known:
            there = ", ".join(known) or "none"
            raise ModelError(f"there is no version {version} of the model; there is: {there}")
        return known[version]

    def versions(self) -> list[RegisteredVersion]:
        """Return all versions, the oldest first."""
        with store_errors(self._home):
            found = self._client.search_model_versions(f"name='{MODEL}'", max_results=10_000)
        return sorted(map(registered_version, found), key=lambda each: int(each.version))

    def twin(self, fingerprint: str) -> RegisteredVersion | None:
        """Return the latest version made from the same data, code and config, or None."""
        return next((v for v in reversed(self.versions()) if v.fingerprint == fingerprint), None)

    def register_challenger(
        self,
        model_id: str,
        *,
        data_md5: str,
        fingerprint: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str | None] | None = None,
    ) -> RegisteredVersion:
        """Register a logged model and make it the challenger.

        A twin is not registered again: the version with the same fingerprint, if its
        files are whole, is returned instead; it becomes the challenger unless it is
        the champion.

        Parameters
        ----------
        model_id
            From :func:`demand.serving.mlflow_model.log_model`.
        data_md5, fingerprint, metrics
            See :class:`demand.serving.versions.RegisteredVersion`.
        tags
            Further lineage: git commit, DVC version, warnings of the checks.
        """
        with self._changing("registering a challenger"):
            version = self.twin(fingerprint)
            if version is None or not is_whole(version.source, version.files_sha256):
                lineage = lineage_tags(data_md5, fingerprint, metrics, tags or {})
                version = self._create(model_id, lineage)
            if self._aliases().get(CHAMPION) != version.version:
                self._client.set_registered_model_alias(MODEL, CHALLENGER, version.version)
            return version

    def promote(self, version: str, reason: str, who: str | None = None) -> RegisteredVersion:
        """Make ``version`` the champion and the one before it ``previous``.

        Promoting the champion again changes nothing and records nothing.

        Raises
        ------
        ModelError
            There is no such version, or its files are damaged.
        """
        with self._changing("promoting a model"):
            return self._switch("promote", self.version(version), reason, who)

    def rollback(
        self, to: str | None = None, reason: str = "asked for", who: str | None = None
    ) -> RegisteredVersion:
        """Make ``previous``, or the version named, the champion again.

        Raises
        ------
        ModelError
            There is no previous version, no such version, or its files are damaged.
        """
        with self._changing("rolling back"):
            target = self.previous() if to is None else self.version(to)
            if target is None:
                raise ModelError("there is no champion before this one to roll back to")
            return self._switch("rollback", target, reason, who)

    def mark_served(self, version: str) -> None:
        """Record that the version has answered sample ads as a deployed server."""
        with self._changing("recording a deployment"):
            self._client.set_model_version_tag(MODEL, version, SERVED, "true")

    def withdraw(self, version: str, reason: str, who: str | None = None) -> None:
        """Undo the promotion of ``version``, as when its deployment failed.

        The champion before it takes over again, with the ``previous`` that it had; if
        there was none, there is none now. If ``version`` is not the champion, nothing
        changes.
        """
        with self._changing("withdrawing a model"):
            promoted = self._transition(version)
            if self._aliases().get(CHAMPION) != version or promoted is None:
                return
            if promoted.from_version is not None:
                self._switch("withdraw", self.version(promoted.from_version), reason, who)
                return
            self._client.delete_registered_model_alias(MODEL, CHAMPION)
            append(self._home, transition("withdraw", version, None, None, reason, who))

    def history(self) -> list[Transition]:
        """Return all changes of the champion, the oldest first."""
        return history(self._home)

    def _switch(
        self, action: Action, target: RegisteredVersion, reason: str, who: str | None
    ) -> RegisteredVersion:
        before = self._aliases().get(CHAMPION)
        if before == target.version:
            return target
        if not is_whole(target.source, target.files_sha256):
            raise ModelError(
                f"version {target.version} cannot become champion: its files in {target.source} "
                "are missing or damaged"
            )
        previous = before
        if action == "withdraw":
            earlier = self._transition(target.version)
            previous = earlier.previous if earlier else None
        change = transition(action, before, target.version, previous, reason, who)
        self._client.set_model_version_tag(
            MODEL, target.version, _TRANSITION_TAG, json.dumps(asdict(change))
        )
        self._client.set_registered_model_alias(MODEL, CHAMPION, target.version)
        self._complete()
        return target

    def _complete(self) -> None:
        """Bring into line what follows from the champion and its tag."""
        aliases = self._aliases()
        champion = aliases.get(CHAMPION)
        change = self._transition(champion) if champion else None
        if change is None:
            return
        if aliases.get(PREVIOUS) != change.previous:
            if change.previous is None:
                self._client.delete_registered_model_alias(MODEL, PREVIOUS)
            else:
                self._client.set_registered_model_alias(MODEL, PREVIOUS, change.previous)
        if aliases.get(CHALLENGER) == champion:
            self._client.delete_registered_model_alias(MODEL, CHALLENGER)
        if all(entry.id != change.id for entry in history(self._home)):
            append(self._home, change)

    @contextlib.contextmanager
    def _changing(self, purpose: str) -> Iterator[None]:
        """Hold the registry's lock; what a killed process left is completed first."""
        with (
            exclusive(self._home.locks / "registry.lock", purpose, wait=True),
            store_errors(self._home),
        ):
            self._complete()
            yield

    def _create(self, model_id: str, lineage: dict[str, str]) -> RegisteredVersion:
        model = self._client.get_logged_model(model_id)
        folder = local_folder(str(model.artifact_location))
        if not self._client.search_registered_models(f"name='{MODEL}'"):
            self._client.create_registered_model(MODEL)
        created = self._client.create_model_version(
            MODEL,
            source=folder.as_uri(),
            run_id=model.source_run_id,
            model_id=model_id,
            tags={**lineage, "files_sha256": folder_digest(folder)},
        )
        return self.version(str(created.version))

    def _aliases(self) -> dict[str, str]:
        with store_errors(self._home):
            found = self._client.search_registered_models(f"name='{MODEL}'")
        return {alias: str(v) for each in found for alias, v in each.aliases.items()}

    def _by_alias(self, alias: str) -> RegisteredVersion | None:
        version = self._aliases().get(alias)
        return None if version is None else self.version(version)

    def _transition(self, version: str) -> Transition | None:
        with store_errors(self._home):
            found = self._client.get_model_version(MODEL, version)
        kept = found.tags.get(_TRANSITION_TAG)
        return None if kept is None else Transition(**json.loads(kept))
