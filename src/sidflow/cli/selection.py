"""Which entries of params.yaml the list `recommenders` needs, and the command that makes params.yaml follow the list.

DVC runs every stage that dvc.yaml and params.yaml describe. So what no listed recommender needs is left out of
params.yaml: entries of the sections with entries, encoders of `embed`, and `semantic_ids`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sidflow.cli.dvc import dag_stages, recommenders_of, with_inputs
from sidflow.cli.sections import SECTIONS
from sidflow.core.errors import InputError, closest_names

RECOMMENDERS = "artifacts/recommenders/"
WITHOUT_IDS = {  # what the report depends on where there are no semantic IDs: artifacts that every run has
    "quantizer": "artifacts/catalog/interactions.parquet",
    "codes": "artifacts/catalog/truth.parquet",
}
REMEDY = "`sidflow recommenders NAME ...` writes the list and what it needs"


def select(values: Mapping[str, Any], recommenders: Sequence[str], where: str) -> dict[str, Any]:
    """Return params with what the listed recommenders need, the list in the DAG's order.

    Args:
        values: params as plain values, with the sections of every recommender that can be listed.
        recommenders: their names.
        where: the file that names them.

    Raises:
        InputError: a name is unknown or stands twice, or there is none.
    """
    available = recommenders_of(values)
    _check_names(recommenders, available, where)
    needed = needed_stages(values, recommenders)
    selected = dict(values) | {"recommenders": [name for name in available if name in recommenders]}
    for section in (name for name, section in SECTIONS.items() if section.has_entries):
        entries = values.get(section) or {}
        selected[section] = {name: entry for name, entry in entries.items() if f"{section}@{name}" in needed}
    if values.get("semantic_ids") and not any(name.endswith("@shared") for name in needed):
        selected["semantic_ids"] = []
        if "report" in values:
            selected["report"] = dict(values["report"]) | WITHOUT_IDS
    if "embed" in selected:
        selected["embed"] = _used_encoders(selected)
    return selected


def needed_stages(values: Mapping[str, Any], recommenders: Iterable[str]) -> set[str]:
    """Return the names of the stages that make these recommenders, and of all that those read."""
    stages = dag_stages({**values, "recommenders": []})
    makers = [stage for stage in stages if any(f"{RECOMMENDERS}{name}" in stage.outs for name in recommenders)]
    return {stage.name for stage in with_inputs(makers, stages)}


def check_selection(values: Mapping[str, Any], where: str) -> None:
    """Check that the sections make the listed recommenders, and no other that none of them needs.

    Raises:
        InputError: a listed recommender has no entry, or an entry is needed by none.
    """
    listed, available = list(values["recommenders"]), recommenders_of(values)
    _check_names(listed, available, where)
    needed = needed_stages(values, listed)
    unneeded = [name for name in available if not any(stage.endswith(f"@{name}") for stage in needed)]
    if unneeded:
        raise InputError(
            f"{where}:recommenders",
            expected="every entry of the training sections listed, or needed by one that is",
            found=f"[{', '.join(unneeded)}] neither listed nor needed",
            remedy="`sidflow recommenders` removes them from params.yaml; or list them",
        )


def _check_names(names: Sequence[str], available: Sequence[str], where: str) -> None:
    unknown = [name for name in names if name not in available]
    twice = [name for name in dict.fromkeys(names) if list(names).count(name) > 1]
    if unknown or twice or not names:
        raise InputError(
            f"{where}:recommenders",
            expected=closest_names(unknown[0], available) if unknown else "names, each once",
            found=f"`{unknown[0]}`" if unknown else f"`{twice[0]}` twice" if twice else "none",
            remedy=f"{REMEDY}; a recommender of your own is an entry of a training section",
        )


def _used_encoders(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section `embed` with the encoders that some entry names, and their text spaces."""
    texts = set(_strings([values[name] for name, section in SECTIONS.items() if section.has_entries]))
    embed = values["embed"]
    read = {name for name in embed["encoders"] if name in texts or f"artifacts/embeddings/{name}.safetensors" in texts}
    read |= {part for name in read for part in embed["encoders"][name].get("parts", ())}
    encoders = {name: encoder for name, encoder in embed["encoders"].items() if name in read}
    spaces = {encoder.get("space") for encoder in encoders.values()}
    return embed | {
        "encoders": encoders,
        "spaces": {name: space for name, space in embed["spaces"].items() if name in spaces},
    }


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner)
    elif isinstance(value, str):
        yield value
