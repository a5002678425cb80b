"""The folder of a named model on this machine, and what is recorded of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidflow.core.errors import InputError
from sidflow.core.files import project_path
from sidflow.models.packages import package_folder
from sidflow.models.params import FIELDS, ModelParams

FILE_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")  # no pickles, no code
NAMED_TEMPLATES = "additional_chat_templates"  # the folder that transformers saves them in
COMMIT = re.compile(r"[0-9a-f]{40}")
REPO = re.compile(r"[\w.-]+/[\w.-]+")


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file in `folder` that loading reads, by name; of those in folders by path in it."""
    homes = [folder, folder / NAMED_TEMPLATES, *(folder / name for name in layer_folders(folder))]
    paths = sorted({path for home in homes for one in FILE_PATTERNS for path in home.glob(one) if path.is_file()})
    hashes = {}
    for path in paths:
        with path.open("rb") as handle:
            hashes[path.relative_to(folder).as_posix()] = hashlib.file_digest(handle, "sha256").hexdigest()
    return hashes


def layer_folders(folder: Path) -> list[str]:
    """Return the folders in `folder` that hold a sentence-transformers model's further layers, by its modules.json."""
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        names = {str(entry["path"]) for entry in modules}
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return sorted(names & {path.name for path in folder.iterdir() if path.is_dir()})


def require_model_files(
    folder: Path, files: Mapping[str, str], remedy: str, further: str = "a tokenizer", beginning: str = "tokenizer"
) -> None:
    """Check that the files of a model's folder are there.

    Args:
        folder: holds the model.
        files: hashes by name, as `file_hashes` returns them.
        remedy: of the message.
        further: what must be there beside config and weights.
        beginning: of the name of its file.

    Raises:
        InputError: it has no config, no safetensors weights, or lacks what must be there beside them.
    """
    for requirement, is_met in {
        "config.json": "config.json" in files,
        "weights as *.safetensors": any(name.endswith(".safetensors") and "/" not in name for name in files),
        further: any(name.startswith(beginning) for name in files),
    }.items():
        if not is_met:
            raise InputError(
                str(folder),
                expected=f"a model folder with {requirement}",
                found=f"files {sorted(files)}" if folder.is_dir() else "no such folder",
                remedy=remedy,
            )


def require_recorded_files(folder: Path, recorded: Mapping[str, str], record: str, remedy: str) -> dict[str, str]:
    """Return the hashes of the folder's files, which have to be the recorded ones.

    Raises:
        InputError: a file differs, is missing or is new.
    """
    hashes = file_hashes(folder)
    changed = sorted(name for name in {*hashes, *recorded} if hashes.get(name) != recorded.get(name))
    if changed:
        raise InputError(
            str(folder),
            expected=f"the files that {record} records",
            found="other or missing files",
            count=len(changed),
            example=changed[0],
            remedy=remedy,
        )
    return hashes


def model_folder(model: ModelParams, slot: str) -> Path:
    """Return the folder of a model on this machine: as transformers saves it, with safetensors weights.

    Args:
        model: how params name it.
        slot: the section of params.yaml, for messages.

    Raises:
        InputError: params do not name a model, or it is not here.
    """
    if model.kind == "package":
        return package_folder(model, slot)
    if model.kind == "hub":
        _check_hub_params(model, slot)
        return hub_folder(model.repo, model.commit)
    if not model.path:
        raise InputError(
            f"params.yaml:{slot}.path", expected="a model folder", found="nothing", remedy=f"set {slot}.path"
        )
    return project_path(Path(model.path).expanduser())


def origin(model: ModelParams) -> dict[str, Any]:
    """Return what a record says of where a model comes from; `model_of_record` reads it."""
    entries: dict[str, Any] = {"kind": model.kind, "repo": "", "commit": "", "path": "", "weights": model.weights}
    entries |= {name: getattr(model, name) for name in FIELDS[model.kind]}
    return entries | ({"licence": model.licence} if model.licence else {})


def model_of_record(record: Mapping[str, Any]) -> ModelParams:
    """Return the model that a record names."""
    return ModelParams(**{name: record[name] for name in ModelParams.model_fields if name in record})


def _check_hub_params(model: ModelParams, slot: str) -> None:
    """Check that params pin a hub model to a commit.

    Raises:
        InputError: the repository is not `owner/name`, or the commit is not 40 hex digits.
    """
    if not REPO.fullmatch(model.repo):
        raise InputError(
            f"params.yaml:{slot}.repo",
            expected="owner/name of a hub repository",
            found=repr(model.repo),
            remedy=f"set {slot}.repo, or kind: path",
        )
    if not COMMIT.fullmatch(model.commit):
        raise InputError(
            f"params.yaml:{slot}.commit",
            expected="the 40 hex digits of a commit (a branch moves, and its results with it)",
            found=repr(model.commit),
            remedy="copy the commit from the repository's history",
        )


def hub_cache() -> str:
    """Return the hub's own cache folder on this machine (HF_HOME moves it)."""
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


def hub_folder(repo: str, commit: str) -> Path:
    """Return the folder of a hub commit in the hub's own cache; missing files are downloaded.

    The cache may hold a part of a commit, such as what `AutoModel.from_pretrained` reads of it, without a model's
    further layers. So the commit's list of files has to be there, too: `snapshot_download` leaves one, by which the
    hub's client finds missing files without network.

    Raises:
        InputError: the commit is neither whole in the cache nor can be downloaded.
    """
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    cache = hub_cache()
    try:
        folder = snapshot_download(repo, revision=commit, allow_patterns=list(FILE_PATTERNS), cache_dir=cache)
        get_cached_repo_tree(repo, revision=commit, cache_dir=cache)
    except CachedRepoTreeNotFoundError as error:
        raise InputError(
            f"hub model {repo}",
            expected=f"all files of commit {commit} in the local cache",
            found="files without the list of all that the commit has",
            remedy="run once with network (HF_HUB_OFFLINE unset) and a cache that can be written to, or use kind: path",
        ) from error
    except Exception as error:
        raise InputError(
            f"hub model {repo}",
            expected=f"commit {commit} in the local cache or on the hub",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            remedy="check repo, commit and network (HF_HUB_OFFLINE, HF_ENDPOINT), or use kind: path",
        ) from error
    return Path(folder)
