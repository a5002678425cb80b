"""What is known of items besides behaviour: coarse views and fine units, as the embed stage left them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sidflow.contracts.artifacts.embeddings import EMBEDDING, UNITS
from sidflow.contracts.errors import InputError
from sidflow.recommenders.neural.params import DmesrParams

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32


class View(NamedTuple):
    """One coarse vector an item, where there is one."""

    values: Float32[np.ndarray, "n d"]
    present: Bool[np.ndarray, " n"]


class Units(NamedTuple):
    """Up to u fine vectors an item."""

    values: Float32[np.ndarray, "n u d"]
    present: Bool[np.ndarray, "n u"]


class Content(NamedTuple):
    """What is there; a view or a fine side that no core item has is left out."""

    views: dict[str, View]  # of `text`, `image`, `joint`
    units: Units | None


def _core(values: np.ndarray, present: np.ndarray, count: int, path: str) -> tuple[np.ndarray, np.ndarray]:
    if len(values) < count:
        raise InputError(
            path, expected=f"{count} rows or more, one an item", found=f"{len(values)}", remedy="run `dvc repro embed`"
        )
    return values[:count], present[:count]


def views(names: Iterable[str], count: int) -> dict[str, View]:
    """Read the embeddings `names`, of the `count` core items; one that no core item has is left out.

    Raises:
        InputError: one is absent, too short or broken.
    """
    found = {}
    for name in names:
        arrays = EMBEDDING.read(name=name).arrays
        view = View(*_core(arrays["values"], arrays["present"], count, str(EMBEDDING.at(name=name))))
        if view.present.any():
            found[name] = view
    return found


def read(settings: DmesrParams, count: int) -> Content:
    """Read the embeddings that `settings` name, of the `count` core items.

    Raises:
        InputError: one is absent, too short or broken, or mode is `replace` and no item has any content.
    """
    named = {"text": settings.text_view, "image": settings.image_view, "joint": settings.joint_view}
    found = views([name for name in named.values() if name is not None], count)
    coarse = {view: found[name] for view, name in named.items() if name in found}
    arrays = UNITS.read(name=settings.fine).arrays
    values, present = _core(arrays["values"], arrays["present"], count, str(UNITS.at(name=settings.fine)))
    used = present.any(axis=0)
    units = Units(values[:, used], present[:, used]) if used.any() else None
    if settings.mode == "replace" and not coarse and units is None:
        raise InputError(
            "artifacts/embeddings",
            expected="content to stand for items in mode `replace`",
            found="none for any core item",
            remedy="set `mode: add` in params.yaml, or give the catalogue texts or pictures",
        )
    return Content(coarse, units)
