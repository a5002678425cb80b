"""Runtime settings, which change how a result is computed but not the result; and the processes of one stage.

Settings come from `runtime.yaml`, which git ignores, or from `SIDFLOW_*` variables.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from sidflow.core.errors import InputError, closest_names, first_field_error
from sidflow.core.files import project_path
from sidflow.core.params import Params, read_yaml_mapping, validate_params

RUNTIME_PATH = Path("runtime.yaml")
VARIABLE_PREFIX = "SIDFLOW_"


class Runtime(Params):
    """Where and how stages run; a change here reruns nothing."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    cache: Path = Path("~/.cache/sidflow")
    checkpoint_seconds: float = Field(60.0, ge=0)
    processes: int = Field(1, ge=1)  # that fine-tune one language model together, on this machine
    sharding: Literal["ddp", "fsdp"] = "ddp"  # each has the whole model, or its part of the frozen weights
    responses: Path | None = None  # file of language models' responses; by default responses.sqlite in the cache
    server: str = ""  # address of the OpenAI-compatible server that writes views
    concurrency: int = Field(16, ge=1, le=4096)  # requests to it at a time; with Ray, in a batch of an engine
    ray_address: str = ""  # of a Ray cluster that writes views; empty: RAY_ADDRESS, else Ray on this machine
    engines: int = Field(1, ge=1)  # copies of the model there
    engine_gpus: int = Field(1, ge=1)  # GPUs that each copy is spread over
    request_seconds: float = Field(120.0, gt=0)  # for one answer, after which it is asked again
    token_budget: int | None = Field(None, ge=1)  # tokens of a model and revision in the response store
    cost_budget: float | None = Field(None, gt=0)  # of those, in the currency of the prices
    input_price: float = Field(0.0, ge=0)  # of a million tokens, as is the next
    output_price: float = Field(0.0, ge=0)

    @property
    def cache_folder(self) -> Path:
        """The folder of checkpoints and answers, outside the workspace."""
        return self.cache.expanduser().resolve()

    @property
    def responses_path(self) -> Path:
        """The file of the response store."""
        return self.responses.expanduser().resolve() if self.responses else self.cache_folder / "responses.sqlite"


def environment_variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return VARIABLE_PREFIX + name.upper()


def runtime_source(name: str, path: Path = RUNTIME_PATH) -> str:
    """Return where a setting's value comes from: a variable, the file, or `default`."""
    if os.environ.get(environment_variable(name)):
        return environment_variable(name)
    return str(path) if name in _file_settings(path) else "default"


def load_runtime(path: Path = RUNTIME_PATH) -> Runtime:
    """Return the settings; an environment variable wins over the file.

    Raises:
        InputError: a name is unknown or a value out of range.
    """
    content = _file_settings(path)
    validate_params(content, Runtime, str(path), f"edit {path}, or remove the line")
    for name in Runtime.model_fields:
        value = os.environ.get(environment_variable(name))
        if value:
            _check_variable(name, value)
            content[name] = value
    _refuse_typos()
    return Runtime.model_validate(content)


def _file_settings(path: Path) -> dict[str, Any]:
    path = project_path(path)
    return read_yaml_mapping(path) if path.is_file() else {}


def _check_variable(name: str, value: str) -> None:
    try:
        Runtime.model_validate({name: value})
    except ValidationError as error:
        invalid = first_field_error(error, Runtime, {name: value})
        remedy = f"set {environment_variable(name)} to that, or unset it"
        raise InputError(
            environment_variable(name), expected=invalid.expected, found=invalid.found, remedy=remedy
        ) from error


def _refuse_typos() -> None:
    """Refuse a variable whose name is nearly that of a setting; other variables belong to other programs."""
    names = list(Runtime.model_fields)
    for name in sorted(os.environ):
        setting = name.removeprefix(VARIABLE_PREFIX).lower()
        if (
            name.startswith(VARIABLE_PREFIX)
            and setting not in names
            and difflib.get_close_matches(setting, names, 1, 0.75)
        ):
            raise InputError(
                name,
                expected=closest_names(name, map(environment_variable, names)),
                found=f"`{name}`",
                remedy=f"rename or unset {name}",
            )


def process_count() -> int:
    """Return how many processes run this stage together."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def process_rank() -> int:
    """Return this process's number among them, from 0."""
    return int(os.environ["RANK"]) if process_count() > 1 else 0


def is_main_process() -> bool:
    """Return whether this is the process that prints, and writes checkpoints and artifacts: the first, or the only."""
    return process_rank() == 0


def report_error(line: str) -> None:
    """Print `line` to stderr; under torchrun, write it to the error file, so that it is reported once."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE") if process_count() > 1 else None
    if file is None:
        print(line, file=sys.stderr)
    else:
        Path(file).write_text(json.dumps({"message": line, "timestamp": int(time.time())}))
