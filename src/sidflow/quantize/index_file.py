"""The `.index.json` form of semantic IDs that LETTER and LC-Rec publish: {"0": ["<a_12>", "<b_7>", ...], ...}."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sidflow.contracts.errors import InputError
from sidflow.contracts.files import atomic_path
from sidflow.contracts.trace import note_read, note_write

if TYPE_CHECKING:
    from jaxtyping import Int

TOKEN = re.compile(r"<([a-z])_(\d+)>")


class IndexFile(NamedTuple):
    """Codes by item key; where collisions are resolved by a level of their own, it is the last."""

    item_keys: list[str]
    codes: Int[np.ndarray, "n l"]


def read_index_file(path: Path) -> IndexFile:
    """Return published IDs.

    Raises:
        InputError: not a JSON object, a token of another form, or items with different numbers of codes.
    """
    note_read(path)
    remedy = 'give a file of the form {"0": ["<a_12>", "<b_7>"], ...}'
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(str(path), expected="an .index.json file", found=str(error), remedy=remedy) from error
    if not isinstance(content, dict) or not content:
        raise InputError(str(path), expected="an object of items", found=type(content).__name__, remedy=remedy)
    rows, wrong = [], []
    width = len(next(iter(content.values())))
    for key, tokens in content.items():
        matches = [TOKEN.fullmatch(str(token)) for token in tokens]
        levels = [match[1] for match in matches if match]
        if len(levels) != width or levels != [chr(ord("a") + level) for level in range(width)]:
            wrong.append((key, tokens))
        rows.append([int(match[2]) for match in matches if match])
    if wrong:
        raise InputError(
            str(path),
            expected=f"{width} codes <a_..>, <b_..>, ... an item",
            found="others",
            count=len(wrong),
            example=wrong[0],
            remedy=remedy,
        )
    return IndexFile(list(content), np.array(rows, dtype=np.int32))


def write_index_file(path: Path, ids: Mapping[str, tuple[list[int], int]]) -> Path:
    """Write codes and suffix of each item key and return the path.

    The suffix is a last level of its own if any item has one above 0.
    """
    with_suffix = any(suffix for _, suffix in ids.values())
    content = {
        key: [f"<{chr(ord('a') + level)}_{code}>" for level, code in enumerate([*codes, *([suffix] * with_suffix)])]
        for key, (codes, suffix) in ids.items()
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    note_write(path)
    return path
