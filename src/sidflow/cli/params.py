"""`sidflow params`: every knob of params.yaml with its value, where it comes from, and what it means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sidflow.cli.params_file import Knob, flat, knobs, scalar
from sidflow.cli.presets import Layer, layers, names_its_data, preset_values
from sidflow.cli.sections import Resolved, resolve
from sidflow.core import params
from sidflow.core.errors import InputError, closest_names

WIDEST = 60  # characters of a name and its value that others are aligned to


def knob_lines(within: str | None = None) -> list[str]:
    """Return a line for each knob of params.yaml.

    Args:
        within: a section, an entry or a knob; None for all.

    Raises:
        InputError: params.yaml does not fit its models, or there is nothing called `within`.
    """
    resolved = _current()
    every = list(flat(knobs(resolved)))
    shown = [knob for knob in every if within is None or f"{knob.name}.".startswith(f"{within}.")]
    if not shown:
        prefixes = {".".join(knob.name.split(".")[: depth + 1]): None for knob in every for depth in range(2)}
        expected = closest_names(str(within), prefixes)
        raise InputError("params.yaml", expected=expected, found=f"`{within}`", remedy="correct the name")
    origin = _origins(resolved)
    texts = [f"{knob.name}: {scalar(knob.value)}" for knob in shown]
    origins = [origin(knob) for knob in shown]
    left = max(len(text) for text in texts if len(text) <= WIDEST or len(texts) == 1)
    middle = max(map(len, origins))
    return [
        f"{text:<{left}}  {where:<{middle}}  {knob.meaning}"
        for text, where, knob in zip(texts, origins, shown, strict=True)
    ]


def difference_lines(preset: str) -> list[str]:
    """Return a line for each knob whose value in params.yaml is not that of `preset`.

    Where a preset's data lies is not compared, unless the preset says it.

    Raises:
        InputError: there is no such preset, or params.yaml does not fit its models.
    """
    ours, theirs = _values(_current()), _values(_preset(preset, data=""))
    skipped = {"preset", "recommenders"} | ({"ingest.path"} if not theirs["ingest.path"] else set())
    lines: dict[str, None] = {}
    for name in dict.fromkeys((*ours, *theirs)):
        if name in skipped:
            continue
        if name not in theirs:
            lines[f"{_outermost(name, theirs)}: only in params.yaml"] = None
        elif name not in ours:
            lines[f"{_outermost(name, ours)}: only in {preset}"] = None
        elif ours[name] != theirs[name]:
            lines[f"{name}: {scalar(ours[name])}, in {preset}: {scalar(theirs[name])}"] = None
    return list(lines) or [f"No knob of params.yaml differs from preset {preset}."]


def _outermost(name: str, others: Mapping[str, Any]) -> str:
    """Return the shortest start of a dotted name under which the others have nothing."""
    parts = name.split(".")
    starts = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return next(start for start in starts if not any(f"{other}.".startswith(f"{start}.") for other in others))


def _current() -> Resolved:
    return resolve(params.load_params(), str(params.PARAMS_PATH))


def _preset(name: str, data: str) -> Resolved:
    """Return a preset's params; `data` is the path of one that does not say where its data lies."""
    chain = layers(name)
    values = preset_values(chain)
    if not names_its_data(chain) and values["ingest"].get("source") != "synthetic":
        values["ingest"]["path"] = data
    return resolve(values, f"preset {name}")


def _values(resolved: Resolved) -> dict[str, Any]:
    return {knob.name: knob.value for knob in flat(knobs(resolved))}


def _origins(resolved: Resolved) -> Callable[[Knob], str]:
    """Return what tells a knob's origin: default, a preset, or an edit of params.yaml."""
    name = resolved.top.preset
    chain = layers(name)
    written = _values(resolved)
    expected = _values(_preset(name, str(written["ingest.path"])))

    def origin(knob: Knob) -> str:
        if knob.name not in expected or expected[knob.name] != knob.value:
            return "edited in params.yaml"
        if knob.name == "recommenders":
            return "from the sections"
        named = [layer.preset for layer in chain if _says(layer, knob.name)]
        if named or knob.name == "preset":
            return f"preset {named[-1] if named else name}"
        return "--data" if knob.name == "ingest.path" and written["ingest.source"] != "synthetic" else "default"

    return origin


def _says(layer: Layer, name: str) -> bool:
    """Return whether a preset itself holds the value of a dotted name."""
    value: Any = layer.values
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True
