"""`sidflow params`: every knob of params.yaml with its value, where it comes from, and what it means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sidflow.cli.params_file import Knob, flat, knobs, scalar
from sidflow.cli.presets import Layer, layers, names_its_data, preset_values, resolve_preset, sized_by_data, with_sizes
from sidflow.cli.sections import Resolved, resolve
from sidflow.cli.sizes import Counts
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
    all_knobs = list(flat(knobs(resolved)))
    shown = [knob for knob in all_knobs if _is_within(knob.name, within)]
    if not shown:
        raise _unknown_name(str(within), [knob.name for knob in all_knobs])
    origin_of = _origin_function(resolved)
    texts = [f"{knob.name}: {scalar(knob.value)}" for knob in shown]
    origins = [origin_of(knob) for knob in shown]
    text_width = max((len(text) for text in texts if len(text) <= WIDEST), default=0)
    origin_width = max(map(len, origins))
    return [
        f"{text:<{text_width}}  {origin:<{origin_width}}  {knob.meaning}"
        for text, origin, knob in zip(texts, origins, shown, strict=True)
    ]


def _is_within(name: str, within: str | None) -> bool:
    """Return whether a knob is what `within` names, or in it; all are in None."""
    return within is None or f"{name}.".startswith(f"{within}.")


def _unknown_name(within: str, knob_names: Iterable[str]) -> InputError:
    prefixes = {".".join(name.split(".")[: depth + 1]): None for name in knob_names for depth in range(2)}
    expected = closest_names(within, prefixes)
    return InputError("params.yaml", expected=expected, found=f"`{within}`", remedy="correct the name")


def difference_lines(preset: str, within: str | None = None) -> list[str]:
    """Return a line for each knob whose value in params.yaml is not that of `preset`.

    The path of the raw data is compared only if the preset sets it.

    Args:
        preset: its name.
        within: a section, an entry or a knob of either; None for all.

    Raises:
        InputError: there is no such preset, params.yaml does not fit its models, or neither has anything called
            `within`.
    """
    resolved = _current()
    current, reference = _values(resolved), _values(_preset(preset, "", counts_of(resolved)))
    names = list(dict.fromkeys((*current, *reference)))
    if not any(_is_within(name, within) for name in names):
        raise _unknown_name(str(within), names)
    skipped = {"preset", "recommenders"} | ({"ingest.path"} if not reference["ingest.path"] else set())
    lines: dict[str, None] = {}
    for name in names:
        if name in skipped or not _is_within(name, within):
            continue
        if name not in reference:
            lines[f"{_outermost(name, reference)}: only in params.yaml"] = None
        elif name not in current:
            lines[f"{_outermost(name, current)}: only in {preset}"] = None
        elif current[name] != reference[name]:
            lines[f"{name}: {scalar(current[name])}, in {preset}: {scalar(reference[name])}"] = None
    return list(lines) or [f"No knob of {within or params.PARAMS_PATH} differs from preset {preset}."]


def _outermost(name: str, others: Mapping[str, Any]) -> str:
    """Return the shortest prefix of a dotted name that no other name has; the name itself where one is part of it."""
    parts = name.split(".")
    prefixes = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    unshared = (p for p in prefixes if not any(f"{other}.".startswith(f"{p}.") for other in others))
    return next(unshared, name)


def _current() -> Resolved:
    return resolve(params.load_params(), str(params.PARAMS_PATH))


def _preset(name: str, data: str, counts: Counts | None) -> Resolved:
    """Return a preset's params.

    Args:
        name: the preset.
        data: path of the raw data, of a preset that does not name it.
        counts: of the data, where they chose sizes.
    """
    chain = layers(name)
    values = preset_values(chain, counts if sized_by_data(chain) else None)
    if not names_its_data(chain) and values["ingest"].get("source") != "synthetic":
        values["ingest"]["path"] = data
    return resolve_preset(values, chain)


def counts_of(resolved: Resolved) -> Counts | None:
    """Return the size of the data that sizes were chosen for; None where the preset chose them."""
    return Counts(*resolved.top.sized_for) if resolved.top.sized_for else None


def _values(resolved: Resolved) -> dict[str, Any]:
    return {knob.name: knob.value for knob in flat(knobs(resolved))}


def _origin_function(resolved: Resolved) -> Callable[[Knob], str]:
    """Return a function from a knob to its origin: default, a preset, or an edit of params.yaml."""
    name = resolved.top.preset
    chain = layers(name)
    current = _values(resolved)
    counts = counts_of(resolved)
    expected = _values(_preset(name, str(current["ingest.path"]), counts))

    def origin(knob: Knob) -> str:
        if knob.name not in expected or expected[knob.name] != knob.value:
            return "edited in params.yaml"
        if knob.name == "recommenders":
            return "from the sections"
        presets = [layer.preset for layer in with_sizes(chain, counts) if _sets(layer, knob.name)]
        if presets or knob.name == "preset":
            return f"preset {presets[-1] if presets else name}"
        return "--data" if knob.name == "ingest.path" and current["ingest.source"] != "synthetic" else "default"

    return origin


def _sets(layer: Layer, name: str) -> bool:
    """Return whether a preset itself sets the value of a dotted name."""
    value: Any = layer.values
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True
