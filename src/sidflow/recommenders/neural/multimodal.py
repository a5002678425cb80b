"""Kinds of multimodal recommenders: the params and the item vectors of each entry of `train_multimodal`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sidflow.contracts import params
from sidflow.contracts.errors import InputError
from sidflow.recommenders.neural import content
from sidflow.recommenders.neural.features import FeaturedItems, FeaturesParams
from sidflow.recommenders.neural.fusion import FusedItems
from sidflow.recommenders.neural.items import ItemEmbedding
from sidflow.recommenders.neural.params import DmesrParams, SequenceParams, base_of, check_heads

MultimodalParams = DmesrParams | FeaturesParams
KINDS: dict[str, type[MultimodalParams]] = {"dmesr": DmesrParams, "features": FeaturesParams}


def multimodal_params(section: Any, where: str) -> tuple[MultimodalParams, SequenceParams]:
    """Return the params of one entry of `train_multimodal`, and those of its base model.

    Args:
        section: the entry's plain values; `kind` says which params model they have to fit.
        where: the file, a colon, and the entry's dotted name.

    Raises:
        InputError: the kind or a name is unknown, a value is out of range, or the base model does not fit.
    """
    kind = section.get("kind") if isinstance(section, dict) else None
    if kind not in KINDS:
        raise InputError(
            f"{where}.kind",
            expected=f"one of {sorted(KINDS)}",
            found=repr(kind) if kind is not None else "none",
            remedy="name one of them as `kind` in params.yaml",
        )
    settings = params.validate_params(section, KINDS[kind], where)
    base = base_of(settings.model, settings.base, settings.refit, where)
    if isinstance(settings, DmesrParams):
        check_heads(settings, base, where)
    return settings, base


def multimodal_entry(name: str, values: Any, where: str) -> MultimodalParams:
    """Return the params of the entry `name`; its `model` holds the base model's, every knob with its value."""
    settings, base = multimodal_params(values, where)
    return settings.model_copy(update={"model": base})


def load_multimodal(name: str) -> tuple[MultimodalParams, SequenceParams]:
    """Return the params of `train_multimodal.<name>`, and those of its base model."""
    section = f"train_multimodal.{name}"
    return multimodal_params(params.load_param(section), f"params.yaml:{section}")


def item_maker(settings: MultimodalParams, base: SequenceParams, count: int) -> Callable[[], ItemEmbedding]:
    """Read the embeddings that `settings` name, and return what makes the module of item vectors from them.

    Args:
        settings: the entry's params.
        base: its base model's.
        count: n, the core items.

    Raises:
        InputError: an embedding is absent, too short or broken.
    """
    if isinstance(settings, DmesrParams):
        sides = content.read(settings, count)
        return lambda: FusedItems(sides, count, base.dimensions, base.init_std, settings)
    views = content.views(settings.features, count)
    return lambda: FeaturedItems(views, count, base.dimensions, base.init_std, settings)
