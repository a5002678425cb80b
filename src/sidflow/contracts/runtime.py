"""Runtime settings: how a result is made, never what it is. From `runtime.yaml` (git-ignored) or `SIDFLOW_*`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from ruamel.yaml import YAML

from sidflow.contracts.params import Params, check

PATH = Path("runtime.yaml")
PREFIX = "SIDFLOW_"


class Runtime(Params):
    """Where and how stages run; a change here reruns nothing."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    cache: Path = Path("~/.cache/sidflow")
    workers: int = 0
    checkpoint_seconds: float = 60.0

    @property
    def cache_folder(self) -> Path:
        """The folder outside the workspace that keeps checkpoints and answers."""
        return self.cache.expanduser().resolve()


def load(path: Path = PATH) -> Runtime:
    """Return the settings; an environment variable wins over the file.

    Raises:
        InputError: a name is unknown or a value out of range.
    """
    content = dict(YAML(typ="safe").load(path.read_text()) or {}) if path.is_file() else {}
    for name in Runtime.model_fields:
        value = os.environ.get(PREFIX + name.upper())
        if value:
            content[name] = value
    return check(content, Runtime, str(path))
