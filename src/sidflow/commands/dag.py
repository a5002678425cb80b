"""The DAG as dvc.yaml and params.yaml say it: its stages by name, what each reads and makes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from sidflow.contracts import yamls
from sidflow.contracts.errors import InputError

DAG_PATH = Path("dvc.yaml")
RECOMMENDERS = PurePosixPath("artifacts/recommenders")
_HOLE = re.compile(r"\$\{([^}]+)\}")


class Stage(NamedTuple):
    """One stage with every `${...}` filled."""

    name: str  # as DVC calls it, for example `train_sequential@sasrec`
    deps: tuple[str, ...]
    outs: tuple[str, ...]  # all of them, metrics and plots included
    uncached: frozenset[str]  # the outs that DVC's cache does not keep


def dag_stages(params: Mapping[str, Any], path: Path = DAG_PATH) -> list[Stage]:
    """Return the stages of dvc.yaml under `params`, in its order.

    Raises:
        InputError: dvc.yaml is absent, or names a param that does not exist or has no entries to go through.
    """
    if not path.is_file():
        raise InputError(
            str(path), expected="a DVC pipeline", found="no such file", remedy="run in the project's folder"
        )
    content = yamls.read_yaml_mapping(path)
    expanded: list[Stage] = []
    for name, body in content["stages"].items():
        if "foreach" not in body:
            expanded.append(_stage(name, body, params))
            continue
        for key, item in _each(body["foreach"], params):
            expanded.append(_stage(f"{name}@{key}", body["do"], {**params, "key": key, "item": item}))
    return expanded


def recommenders_of(params: Mapping[str, Any], path: Path = DAG_PATH) -> list[str]:
    """Return the recommenders that stages make under `params`, in the DAG's order, `compare.references` last.

    `recommenders` in `params` itself is not read: this is what it has to be.

    Raises:
        InputError: as `dag_stages`.
    """
    outs = [PurePosixPath(out) for stage in dag_stages({**params, "recommenders": []}, path) for out in stage.outs]
    names = [out.name for out in outs if out.parent == RECOMMENDERS]
    references = (params.get("compare") or {}).get("references", ())
    return sorted(names, key=lambda name: name in references)


def _each(foreach: Any, params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    over = _value(foreach, params)
    if isinstance(over, Mapping):
        yield from ((str(key), item) for key, item in over.items())
    elif not isinstance(over, list):  # DVC refuses a null, too
        name = _name(foreach) or foreach
        raise InputError(
            "dvc.yaml",
            expected=f"params whose `{name}` is a mapping or a list",
            found="null, no entries" if over is None else repr(over),
            remedy=f"give it entries in params.yaml, or write `{name}: {{}}` for none",
        )
    else:
        plain = not any(isinstance(item, (Mapping, list)) for item in over)
        yield from ((str(item) if plain else str(row), item) for row, item in enumerate(over))


def _stage(name: str, body: Mapping[str, Any], names: Mapping[str, Any]) -> Stage:
    outs: list[str] = []
    uncached: set[str] = set()
    for kind in ("outs", "metrics", "plots"):
        for entry in body.get(kind, []):
            path, options = next(iter(entry.items())) if isinstance(entry, Mapping) else (entry, {})
            outs.append(_text(path, names))
            if (options or {}).get("cache") is False:
                uncached.add(outs[-1])
    return Stage(name, tuple(_text(dep, names) for dep in body.get("deps", [])), tuple(outs), frozenset(uncached))


def _text(template: str, names: Mapping[str, Any]) -> str:
    return _HOLE.sub(lambda hole: str(_look(hole.group(1), names)), template)


def _value(template: Any, names: Mapping[str, Any]) -> Any:
    name = _name(template)
    return _look(name, names) if name else template


def _name(template: Any) -> str | None:
    """Return the param that is the whole of `template`, if it is one."""
    hole = _HOLE.fullmatch(template) if isinstance(template, str) else None
    return hole.group(1) if hole else None


def _look(dotted: str, names: Any) -> Any:
    value = names
    for part in dotted.strip().split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise InputError(
                "dvc.yaml",
                expected=f"params to have `{dotted}`",
                found=f"no `{part}`",
                remedy="add it to params.yaml, or `sidflow preset apply` a preset that has it",
            )
        value = value[part]
    return value
