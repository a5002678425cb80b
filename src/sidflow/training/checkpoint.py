"""Checkpoints outside the workspace, and what they and artifacts hold of a module.

A killed training resumes from its `Checkpoint` to the same bytes. `trained_state` is the part of a module that
training changes; `weights_to_arrays` and `weights_from_arrays` move all its weights into artifacts and back.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sidflow.core.errors import InputError
from sidflow.core.files import atomic_path, paths_read, remove_leftovers
from sidflow.core.runtime import is_main_process, load_runtime
from sidflow.core.stage import add_resumed_seconds, print_progress, seconds_spent

# Metadata of a checkpoint: plain values, seconds of training so far, and the hash of values and tensors.
STATE_KEY, SPENT_KEY, DIGEST_KEY = "state", "seconds", "sha256"
LIBRARIES = ("torch", "numpy", "transformers", "peft", "accelerate")  # whose versions move the last bits of a training


def module_key(name: str) -> str:
    """Return `name` as the key of a submodule or parameter: with a hyphen behind it where torch has such a method."""
    taken = hasattr(nn.ModuleDict(), name) or hasattr(nn.ParameterDict(), name)
    return f"{name}-" if taken else name


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """Return what training changes: parameters that take a gradient, each once though tied, and buffers.

    What else `state_dict` holds is left out: frozen weights under every name, and what 4-bit weights are scaled by.
    """
    names = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    names |= {name for name, _ in module.named_buffers()}
    return {name: tensor for name, tensor in module.state_dict().items() if name in names}


def trained_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Return the buffers among `trained_state`: what validation may choose."""
    parameters = dict(module.named_parameters())
    return {name: tensor for name, tensor in trained_state(module).items() if name not in parameters}


def restore_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fill `module` from `state`, a `trained_state` of it.

    Raises:
        InputError: `state` is of another model.
    """
    current = trained_state(module)
    if set(current) != set(state):
        raise InputError(
            "checkpoint",
            expected="the tensors of this model",
            found="others",
            example=sorted(set(current) ^ set(state))[0],
            remedy="delete the checkpoints in the cache folder",
        )
    with torch.no_grad():
        for name, tensor in current.items():
            tensor.copy_(state[name])


def weights_to_arrays(module: nn.Module, prefix: str = "") -> dict[str, np.ndarray]:
    """Return every parameter and buffer of `module` as numpy arrays."""
    return {f"{prefix}{name}": tensor.detach().cpu().numpy() for name, tensor in module.state_dict().items()}


def weights_from_arrays(module: nn.Module, arrays: Mapping[str, np.ndarray], prefix: str = "") -> None:
    """Fill `module` from `arrays`.

    Raises:
        InputError: a name or shape differs.
    """
    state = {name[len(prefix) :]: torch.from_numpy(a.copy()) for name, a in arrays.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise InputError(
            "weights", expected="the weights of this model", found=str(error), remedy="rerun the stage that trains it"
        ) from error


class Snapshot(NamedTuple):
    """Tensors and plain values of one moment of a training."""

    tensors: dict[str, torch.Tensor]
    values: dict


def _hash_files(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(path) for path in paths):
        if path.is_file():
            digest.update(path.name.encode())
            with path.open("rb") as handle:
                digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


@cache
def running_code() -> tuple[Path, ...]:
    """Return the running script and every file of the sidflow packages that are loaded.

    Computed once per process, at its first checkpoint: a second fit loads nothing that would change it.
    """
    root = Path(__file__).resolve().parents[1]
    parts = {name.split(".")[1] for name in sys.modules if name.startswith("sidflow.")}
    script = getattr(sys.modules["__main__"], "__file__", None)
    files = [file for part in parts for file in (root / part).rglob("*.py")]
    return (*sorted(files), *([Path(script).resolve()] if script else []))


def _library_versions() -> dict[str, str]:
    return {name: str(sys.modules[name].__version__) for name in LIBRARIES if name in sys.modules}


def _digest(tensors: Mapping[str, Tensor], state: str) -> str:
    """Return the hash of a checkpoint's content: safetensors itself would not see a changed byte."""
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _require_cache_folder(folder: Path) -> None:
    """Check, before a training starts, that its checkpoints can be written.

    Raises:
        InputError: the folder cannot be made, or cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK | os.X_OK) else "a folder that is read-only"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise InputError(
            str(folder),
            expected="a cache folder that checkpoints can be written to",
            found=reason,
            remedy="set SIDFLOW_CACHE, or `cache` in runtime.yaml, to a folder of your own",
        )


class Checkpoint:
    """One training's checkpoint in the cache folder.

    The file's name holds a hash of the settings, of every artifact that the process has read, of the stage's code and
    of the versions of its libraries: a change of any of them starts afresh. Of several processes the main one writes
    and removes it, all read it.
    """

    def __init__(self, name: str, settings: Mapping[str, object], code: Iterable[Path] | None = None) -> None:
        """Locate the checkpoint of training `name`; `code` defaults to `running_code`.

        Raises:
            InputError: the cache folder cannot be written to.
        """
        content = {
            "settings": json.loads(json.dumps(settings, sort_keys=True, default=str)),
            "inputs": _hash_files(paths_read()),
            "code": _hash_files(running_code() if code is None else code),
            "libraries": _library_versions(),
        }
        fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
        folder = load_runtime().cache_folder / "checkpoints"
        if is_main_process():
            _require_cache_folder(folder)
        self.name = name
        self.path = folder / f"{name.replace('@', '-')}-{fingerprint}.safetensors"

    def save(self, snapshot: Snapshot) -> None:
        """Write `snapshot` atomically."""
        if not is_main_process():
            return
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in snapshot.tensors.items()}
        state = json.dumps(snapshot.values)
        metadata = {STATE_KEY: state, SPENT_KEY: str(seconds_spent()), DIGEST_KEY: _digest(tensors, state)}
        with atomic_path(self.path) as temporary:
            save_file(tensors, temporary, metadata=metadata)

    def load(self) -> Snapshot | None:
        """Return the last snapshot, or None where there is none; one that is cut or changed is said and left out.

        The time that the run which wrote it had taken counts as this one's (`seconds_spent`).
        """
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as handle:
                metadata = handle.metadata() or {}
                tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            if metadata[DIGEST_KEY] != _digest(tensors, metadata[STATE_KEY]):
                raise ValueError
            values, seconds = json.loads(metadata[STATE_KEY]), float(metadata[SPENT_KEY])
        except (SafetensorError, KeyError, ValueError):
            print_progress(f"{self.name}: the checkpoint {self.path} is damaged; the training starts afresh")
            return None
        add_resumed_seconds(seconds)
        return Snapshot(tensors, values)

    def discard(self) -> None:
        """Remove the checkpoint, and what killed runs have left of theirs: the artifacts are written."""
        if is_main_process():
            self.path.unlink(missing_ok=True)
            remove_leftovers(self.path.parent)
