"""What a sentence-transformers folder asks for above the token states, checked against params."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sidflow.core.errors import InputError

POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_cls": "cls",
    "pooling_mode_lasttoken": "last",
}
KNOWN = {"Transformer", "Pooling", "Normalize"}  # vectors are scaled to length 1 here anyway


def check_sentence_layers(folder: Path, pooling: str, slot: str) -> None:
    """Check that the folder's own modules are those that params give; a folder without `modules.json` passes.

    Raises:
        InputError: a further layer would be left out, or the pooling is another one.
    """
    modules = _read_json(folder / "modules.json")
    if not isinstance(modules, list):
        return
    kinds = {str(entry.get("type", "")).rpartition(".")[2]: str(entry.get("path", "")) for entry in modules}
    others = sorted(kinds.keys() - KNOWN)
    if others:
        raise InputError(
            str(folder),
            expected="a sentence-transformers folder of Transformer, Pooling and Normalize",
            found=f"a layer {others[0]}, without which its vectors are others",
            remedy="use another model for this encoder",
        )
    own = _read_json(folder / kinds.get("Pooling", "") / "config.json") if "Pooling" in kinds else None
    if not isinstance(own, dict):
        return
    modes = [key for key, value in own.items() if key.startswith("pooling_mode_") and value is True]
    modes = modes or [f"pooling_mode_{own['pooling_mode']}"] if "pooling_mode" in own else modes
    trained = [POOLINGS.get(mode) or mode.removeprefix("pooling_mode_") for mode in modes]
    if trained and trained != [pooling]:
        usable = len(trained) == 1 and trained[0] in POOLINGS.values()
        raise InputError(
            f"params.yaml:{slot.removesuffix('.model')}.pooling",
            expected=f"{' and '.join(trained)}, as the model was trained ({kinds['Pooling']}/config.json)",
            found=pooling,
            remedy=f"set `pooling: {trained[0]}`" if usable else "use another model for this encoder",
        )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
