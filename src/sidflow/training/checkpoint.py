"""Checkpoints outside the workspace, named by params, inputs and code, written atomically, removed on success."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sidflow.contracts.files import atomic_path
from sidflow.contracts.running import add_resumed_seconds, seconds_spent
from sidflow.contracts.runtime import load_runtime
from sidflow.contracts.trace import paths_read
from sidflow.contracts.workers import is_main_process

STATE_KEY = "state"
SPENT_KEY = "seconds"


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

    A process looks once, at its first checkpoint: a second fit loads nothing that would change the answer.
    """
    root = Path(__file__).resolve().parents[1]
    parts = {name.split(".")[1] for name in sys.modules if name.startswith("sidflow.")}
    script = getattr(sys.modules["__main__"], "__file__", None)
    files = [file for part in parts for file in (root / part).rglob("*.py")]
    return (*sorted(files), *([Path(script).resolve()] if script else []))


class Checkpoint:
    """One training's checkpoint in the cache folder.

    The file's name holds a hash of the settings, of every artifact that the process has read, and of the stage's
    code: a change of any of them starts afresh. Of several processes the main one writes and removes it, all read it.
    """

    def __init__(self, name: str, settings: Mapping[str, object], code: Iterable[Path] | None = None) -> None:
        """Locate the checkpoint of training `name`; `code` defaults to `running_code`."""
        content = {
            "settings": json.loads(json.dumps(settings, sort_keys=True, default=str)),
            "inputs": _hash_files(paths_read()),
            "code": _hash_files(running_code() if code is None else code),
        }
        fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
        self.path = load_runtime().cache_folder / "checkpoints" / f"{name.replace('@', '-')}-{fingerprint}.safetensors"

    def save(self, snapshot: Snapshot) -> None:
        """Write `snapshot` atomically."""
        if not is_main_process():
            return
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in snapshot.tensors.items()}
        with atomic_path(self.path) as temporary:
            metadata = {STATE_KEY: json.dumps(snapshot.values), SPENT_KEY: str(seconds_spent())}
            save_file(tensors, temporary, metadata=metadata)

    def load(self) -> Snapshot | None:
        """Return the last snapshot, or None where none can be read.

        The time that the run which wrote it had taken counts as this one's (`seconds_spent`).
        """
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as handle:
                metadata = handle.metadata()
                values, seconds = json.loads(metadata[STATE_KEY]), float(metadata[SPENT_KEY])
                snapshot = Snapshot({name: handle.get_tensor(name) for name in handle.keys()}, values)  # noqa: SIM118
        except (SafetensorError, KeyError, ValueError):
            self.discard()
            return None
        add_resumed_seconds(seconds)
        return snapshot

    def discard(self) -> None:
        """Remove the checkpoint: the artifacts are written."""
        if is_main_process():
            self.path.unlink(missing_ok=True)
