"""What a sentence-transformers folder puts above the token states: its pooling, and layers on the pooled vector.

`modules.json` in the folder lists them. The pooling has to be the one in params. `Dense` layers are read and applied, a
`Normalize` before one as well; the last vectors are scaled to length 1 here anyway. Any other layer is refused.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sidflow.core.errors import InputError

POOLINGS = {"mean": "mean", "cls": "cls", "max": "max", "mean_sqrt_len": "mean_sqrt_len", "lasttoken": "last"}
IGNORED = {"Transformer", "Pooling", "Dropout"}  # read elsewhere; without effect where nothing is trained
ACTIVATIONS = {  # classes of torch.nn without arguments
    name: getattr(nn, name)
    for name in ("Identity", "Tanh", "ReLU", "ReLU6", "GELU", "SiLU", "Sigmoid", "ELU", "SELU", "Softplus", "Mish")
}
REMEDY = "use another model for this encoder"
COMPLETE = "download the model's folder again"


class Layers(NamedTuple):
    """What makes a text's vector of its pooled states."""

    network: nn.Sequential  # [b, d] -> [b, width], frozen; empty where the folder asks for nothing
    width: int


class Normalize(nn.Module):
    """Scales vectors to length 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the vectors [b, d] at length 1."""
        return nn.functional.normalize(vectors, dim=1)


def pool(states: Tensor, mask: Tensor, lengths: Tensor, pooling: str) -> Tensor:
    """Return one vector a text, [b, d], of its tokens' states [b, t, d]; padding does not count.

    Args:
        states: of the last layer.
        mask: bool [b, t], the tokens of each text; padding is on the right.
        lengths: [b], how many they are.
        pooling: cls | last | max | mean | mean_sqrt_len (the sum divided by the root of the length).
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states)), lengths - 1]
    if pooling == "max":
        return states.masked_fill(~mask[..., None], float("-inf")).amax(1)
    total = (states * mask[..., None]).sum(1)
    return total / (lengths[:, None].sqrt() if pooling == "mean_sqrt_len" else lengths[:, None])


def read_sentence_layers(
    folder: Path, pooling: str, width: int, slot: str, *, prefix: str = "", seed: int | None = None
) -> Layers:
    """Return the layers of a folder above its pooling; none for a folder without `modules.json`.

    Args:
        folder: of the model.
        pooling: as params give it; the folder's own has to be the same.
        width: of the token states.
        slot: of the model in params.yaml, for messages.
        prefix: before each text, as params give it.
        seed: draws the layers' weights instead of reading them; None reads them.

    Raises:
        InputError: the pooling is another one, a layer is none that is applied here, or a file is missing or damaged.
    """
    layers: list[nn.Module] = []
    pending: list[nn.Module] = []  # layers that matter only where a Dense follows
    for entry in _read_modules(folder):
        kind, place = str(entry.get("type", "")).rpartition(".")[2], str(entry.get("path", ""))
        if kind == "Pooling":
            _check_pooling(folder, place, pooling, slot, prefix)
        elif kind == "Dense":
            layers += [*pending, *_dense(folder, place, width, seed)]
            pending, width = [], layers[-2].out_features  # type: ignore[assignment]  # of the linear layer
        elif kind == "Normalize":
            pending = [Normalize()]
        elif kind not in IGNORED:
            raise InputError(
                str(folder),
                expected="a sentence-transformers folder of Transformer, Pooling, Dense and Normalize",
                found=f"a layer {kind}, without which its vectors are others",
                remedy=REMEDY,
            )
    network = nn.Sequential(*layers).requires_grad_(False).eval()
    return Layers(network, width)


def _read_modules(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of `modules.json`; none where there is no such file.

    Raises:
        InputError: it is no list of mappings, as a file that was cut.
    """
    path = folder / "modules.json"
    if not path.exists() and not path.is_symlink():  # a link to nothing is a file that was lost
        return []
    modules = _read_json(path)
    if not isinstance(modules, list) or not modules or not all(isinstance(entry, dict) for entry in modules):
        raise InputError(
            str(path),
            expected="the modules of a sentence-transformers model, a list of mappings in JSON",
            found="a file that cannot be read as that",
            remedy=COMPLETE,
        )
    return modules


def _check_pooling(folder: Path, place: str, pooling: str, slot: str, prefix: str) -> None:
    """Check that the folder's pooling is the one of params.

    Raises:
        InputError: it is another one, several side by side, or leaves out a prefix that params give; or its config is
            missing or damaged.
    """
    path = _inside(folder, place) / "config.json"
    own = _read_json(path)
    if not isinstance(own, dict):
        own = {}
    keys = [key.removeprefix("pooling_mode_") for key in own if key.startswith("pooling_mode_") and own[key] is True]
    modes = [str(own["pooling_mode"])] if not keys and "pooling_mode" in own else keys
    trained = [mode.removesuffix("_tokens").removesuffix("_token") for mode in modes]
    trained = [POOLINGS.get(mode, mode) for mode in trained]
    if not trained:
        raise InputError(
            str(path),
            expected="the pooling that modules.json lists, with its pooling_mode",
            found="none" if path.is_file() else "no such file",
            remedy=COMPLETE,
        )
    encoder = f"params.yaml:{slot.removesuffix('.model')}"
    if trained != [pooling]:
        usable = len(trained) == 1 and trained[0] in POOLINGS.values()
        raise InputError(
            f"{encoder}.pooling",
            expected=f"{' and '.join(trained)}, as the model was trained ({place}/config.json)",
            found=pooling,
            remedy=f"set `pooling: {trained[0]}`" if usable else REMEDY,
        )
    if own.get("include_prompt") is False and prefix:
        raise InputError(
            f"{encoder}.prefix",
            expected=f"none: the model pools without it ({place}/config.json, include_prompt)",
            found=repr(prefix),
            remedy="set `prefix: ''`, or use another model",
        )


def _dense(folder: Path, place: str, width: int, seed: int | None) -> list[nn.Module]:
    """Return a Dense layer of a folder: its linear layer and its activation.

    Raises:
        InputError: config or weights are missing, of another shape, or with an activation that is none of torch's.
    """
    layer_folder = _inside(folder, place)
    config = _read_json(layer_folder / "config.json")
    try:
        linear = nn.Linear(int(config["in_features"]), int(config["out_features"]), bias=bool(config.get("bias", True)))
        path, _, name = str(config["activation_function"]).rpartition(".")
        activation = ACTIVATIONS[name]() if path.startswith("torch.nn.") else None
        applies = config.get("module_input_name") in (None, "sentence_embedding")
    except (KeyError, TypeError, ValueError):
        linear, activation, applies = nn.Linear(1, 1), None, False
    if activation is None or not applies or linear.in_features != width:
        raise InputError(
            str(layer_folder / "config.json"),
            expected=f"a Dense layer on the pooled vector of width {width}, with an activation of torch.nn",
            found=f"{config}",
            remedy=REMEDY,
        )
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            linear.reset_parameters()
        return [linear, activation]
    expected = {f"linear.{key}": tuple(value.shape) for key, value in linear.state_dict().items()}
    try:
        weights = load_file(layer_folder / "model.safetensors")
    except Exception as error:  # safetensors raises its own class, or that of the file system
        raise InputError(
            str(layer_folder),
            expected="model.safetensors of a Dense layer (pickled weights are not read)",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            remedy="save the model with safetensors weights",
        ) from error
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    if shapes != expected:
        raise InputError(
            str(layer_folder / "model.safetensors"), expected=f"{expected}", found=f"{shapes}", remedy=REMEDY
        )
    linear.load_state_dict({key.removeprefix("linear."): value.float() for key, value in weights.items()})
    return [linear, activation]


def _inside(folder: Path, place: str) -> Path:
    """Return a module's folder.

    Raises:
        InputError: it is no folder of the model's own.
    """
    if len(PurePosixPath(place).parts) != 1 or place in (".", "..") or "\\" in place or place.startswith("/"):
        raise InputError(
            str(folder / "modules.json"), expected="folders beside it", found=f"the path {place!r}", remedy=REMEDY
        )
    return folder / place


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
