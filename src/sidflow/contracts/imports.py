"""Which files of ours a script runs: its import closure, found without running it."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

PACKAGE = "sidflow"


@cache
def _imported(path: Path, root: Path) -> frozenset[Path]:
    """Return the modules of the package that `path` imports, at the top or inside functions."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] != PACKAGE:
                continue
            for depth in range(1, len(parts) + 1):
                file = root.joinpath(*parts[:depth]).with_suffix(".py")
                if file.is_file():
                    found.add(file)
    return frozenset(found)


def closure(script: Path, root: Path) -> list[Path]:
    """Return `script` and every module below `root` (the `src` folder) that it imports, directly or not, sorted.

    Packages' `__init__.py` are left out: they hold a docstring and no code.
    """
    reached: set[Path] = set()
    open_ends = [script]
    while open_ends:
        path = open_ends.pop()
        if path not in reached:
            reached.add(path)
            open_ends.extend(_imported(path, root))
    return sorted(reached)
