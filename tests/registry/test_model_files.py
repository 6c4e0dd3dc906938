"""What counts as damage of a registered model's files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from demand.errors import ModelError
from demand.registry.model_files import copy_model, damage, folder_digest, load_predictor
from demand.registry.versions import RegisteredVersion

META = "registered_model_meta"
OWN = "data/predictor/predictor.json"


def write(folder: Path, name: str, text: str = "{}") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def fill(folder: Path) -> Path:
    for name in ("MLmodel", "samples.json", OWN):
        write(folder, name, name)
    return folder


def digest_of_all(folder: Path) -> str:
    """Return the one digest that versions had before each file got its own."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def version(folder: Path, registered: str) -> RegisteredVersion:
    return RegisteredVersion("3", "", "", "", "", {}, folder, registered, "", {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "model")


DIGESTS = pytest.mark.parametrize("digest", [folder_digest, digest_of_all])
Digest = Callable[[Path], str]


@pytest.mark.parametrize("name", [META, ".DS_Store", "data/.DS_Store", "notes/read me.txt"])
def test_what_others_put_beside_a_model_is_no_damage(folder: Path, name: str) -> None:
    registered = folder_digest(folder)
    write(folder, name, "somebody else's")
    assert damage(folder, registered) is None


@DIGESTS
def test_what_mlflow_writes_is_no_damage(folder: Path, digest: Digest) -> None:
    registered = digest(folder)
    write(folder, META, "model_version: '1'")
    assert damage(folder, registered) is None


@DIGESTS
def test_what_mlflow_had_written_before_the_registration_is_no_damage(
    folder: Path, digest: Digest
) -> None:
    write(folder, META)
    registered = digest(folder)
    assert damage(folder, registered) is None


@DIGESTS
@pytest.mark.parametrize("name", [OWN, "MLmodel", "samples.json"])
def test_a_file_that_was_changed_is_damage(folder: Path, digest: Digest, name: str) -> None:
    registered = digest(folder)
    write(folder, name, "another")
    assert damage(folder, registered)


@DIGESTS
def test_a_missing_file_is_damage(folder: Path, digest: Digest) -> None:
    registered = digest(folder)
    (folder / OWN).unlink()
    assert damage(folder, registered)


def test_a_file_replaced_by_a_link_or_a_folder_is_damage(folder: Path, tmp_path: Path) -> None:
    registered = folder_digest(folder)
    write(tmp_path, "elsewhere", "another")
    (folder / OWN).unlink()
    (folder / OWN).symlink_to(tmp_path / "elsewhere")
    assert damage(folder, registered) == f"{OWN} was changed"
    (folder / OWN).unlink()
    (folder / OWN).mkdir()
    assert damage(folder, registered) == f"{OWN} is missing"


# Each is read where it is there: it would answer, or be told, as if it were the model's.
@pytest.mark.parametrize("name", ["held_out/predictor.json", "market.json", "card/card.json"])
def test_an_added_file_that_would_be_read_is_damage(folder: Path, name: str) -> None:
    registered = folder_digest(folder)
    write(folder, name)
    assert damage(folder, registered) == f"{name} was added"


@pytest.mark.parametrize("registered", ["", "{", "{}x", "0" * 64])
def test_what_was_never_registered_is_damage(folder: Path, registered: str) -> None:
    assert damage(folder, registered)


def test_no_folder_is_damage(tmp_path: Path, folder: Path) -> None:
    assert damage(tmp_path / "nowhere", folder_digest(folder))


def test_the_damaged_file_is_named(folder: Path) -> None:
    registered = folder_digest(folder)
    (folder / OWN).unlink()
    with pytest.raises(ModelError, match=rf"version 3 in .* \({OWN} is missing\): restore them"):
        load_predictor(version(folder, registered))


def test_a_copy_has_only_what_was_registered(folder: Path, tmp_path: Path) -> None:
    registered = folder_digest(folder)
    write(folder, "sitecustomize.py", "raise SystemExit")
    copy_model(version(folder, registered), tmp_path / "copy")
    assert damage(tmp_path / "copy", registered) is None
    assert not (tmp_path / "copy" / "sitecustomize.py").exists()


def test_a_copy_to_which_something_was_added_that_would_be_read_is_made_anew(
    folder: Path, tmp_path: Path
) -> None:
    registered, copy = folder_digest(folder), tmp_path / "copy"
    copy_model(version(folder, registered), copy)
    write(copy, "market.json")
    copy_model(version(folder, registered), copy)
    assert not (copy / "market.json").exists()
