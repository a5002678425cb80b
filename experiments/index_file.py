"""Published semantic IDs: files of the form {"0": ["<a_12>", "<b_7>"], ...}."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sidflow.core.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Int


TOKEN = re.compile(r"<([a-z])_(\d+)>")  # the level's letter and the code


class IndexFile(NamedTuple):
    """Codes by item key; where collisions are resolved by a level of their own, it is the last."""

    item_keys: list[str]
    codes: Int[np.ndarray, "n l"]


def read_index_file(path: Path) -> IndexFile:
    """Return published IDs.

    Raises:
        InputError: not a JSON object, a token of another form, or items with different numbers of codes.
    """
    remedy = 'give a file of the form {"0": ["<a_12>", "<b_7>"], ...}'
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(str(path), expected="an .index.json file", found=str(error), remedy=remedy) from error
    if not isinstance(content, dict) or not content:
        raise InputError(str(path), expected="an object of items", found=type(content).__name__, remedy=remedy)
    rows, malformed = [], []
    width = len(next(iter(content.values())))
    for key, tokens in content.items():
        matches = [TOKEN.fullmatch(str(token)) for token in tokens]
        levels = [match[1] for match in matches if match]
        if len(levels) != width or levels != [chr(ord("a") + level) for level in range(width)]:
            malformed.append((key, tokens))
        rows.append([int(match[2]) for match in matches if match])
    if malformed:
        raise InputError(
            str(path),
            expected=f"{width} codes <a_..>, <b_..>, ... an item",
            found="others",
            count=len(malformed),
            example=malformed[0],
            remedy=remedy,
        )
    return IndexFile(list(content), np.array(rows, dtype=np.int32))
