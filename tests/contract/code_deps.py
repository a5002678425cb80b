"""The code that each stage runs, as package folders. Run: python -m tests.contract.code_deps [--write].

The command prints what dvc.yaml has to list, or with `--write` lists it there.

A stage's import closure holds its script and every module of ours that it imports, directly or not, at the top of a
module or inside a function. Imports for type checkers alone do not count, since they never run. Nor does
`sidflow/__init__.py`, which imports the Python API when somebody asks for it, and no stage does.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "sidflow"


def closure(script: Path, source: Path) -> list[Path]:
    """Return `script` and every module under the folder `source` that it imports, directly or not, sorted."""
    files: set[Path] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path not in files:
            files.add(path)
            waiting.extend(_imported_files(path, source))
    return sorted(files)


def code_deps(script: Path, root: Path = ROOT) -> list[str]:
    """Return the packages of the script's closure as paths below `root`, sorted, and the script itself last."""
    source = root / "src"
    parts = {file.relative_to(source / PACKAGE).parts[0] for file in closure(script, source) if file != script}
    return [*sorted(f"src/{PACKAGE}/{part}" for part in parts), script.relative_to(root).as_posix()]


def stage_scripts(root: Path = ROOT) -> dict[str, Path]:
    """Return the script of every stage in dvc.yaml, by the stage's name."""
    stages = YAML(typ="safe").load((root / "dvc.yaml").read_text())["stages"]
    return {name: root / f"stages/{name}.py" for name in stages}


def with_code_deps(text: str, root: Path = ROOT) -> str:
    """Return dvc.yaml's `text` with the code deps of every stage renewed, after its other deps."""

    def renewed(match: re.Match[str]) -> str:
        others = [line for line in match["deps"].splitlines() if not re.match(r" +- (src|stages)/", line)]
        code = [f"{match['indent']}  - {dep}" for dep in code_deps(root / match["script"], root)]
        return match["command"] + "\n".join([*others, *code]) + "\n"

    command = r"(?P<command>(?P<indent> +)cmd: .*python (?P<script>stages/\w+\.py).*\n +deps:\n)"
    return re.sub(rf"(?m)^{command}(?P<deps>(?: +- .*\n)+)", renewed, text)


@cache
def _imported_files(path: Path, source: Path) -> frozenset[Path]:
    files: set[Path] = set()
    for name in _imported_names(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] != PACKAGE:
            continue
        for depth in range(2, len(parts) + 1):
            place = source.joinpath(*parts[:depth])
            files |= {file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()}
    return frozenset(files)


def _imported_names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        children = node.orelse
    else:
        children = list(ast.iter_child_nodes(node))
    for child in children:
        yield from _imported_names(child)


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        dag = ROOT / "dvc.yaml"
        dag.write_text(with_code_deps(dag.read_text()))
    for stage, script in stage_scripts().items():
        print(f"{stage}:", *code_deps(script), sep="\n  - ")
