"""Kinds of multimodal recommenders: the params and the item vectors of each entry of `train_multimodal`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sidflow.artifacts.features import read_dense_rows
from sidflow.core import params
from sidflow.core.errors import InputError
from sidflow.hybrid.params import HybridParams
from sidflow.hybrid.prior import ScorePrior, prior_inputs
from sidflow.multimodal.dmesr import DmesrItemEmbedding, DmesrParams, check_heads, read_content
from sidflow.multimodal.features import FeatureItemEmbedding, FeaturesParams
from sidflow.multimodal.params import HybridRecommenderParams, MultimodalParams, base_of
from sidflow.sequential.fit import PriorMaker
from sidflow.sequential.model import IdEmbedding, ItemEmbedding
from sidflow.sequential.params import SequenceParams

KINDS: dict[str, type[MultimodalParams]] = {
    "dmesr": DmesrParams,
    "features": FeaturesParams,
    "hybrid": HybridRecommenderParams,
}


def multimodal_params(section: Any, where: str) -> tuple[MultimodalParams, SequenceParams]:
    """Return the params of one entry of `train_multimodal`, and those of its base model.

    Args:
        section: the entry's plain values; `kind` says which params model they have to fit.
        where: the file, a colon, and the entry's dotted name.

    Raises:
        InputError: the kind or a name is unknown, a value is out of range, or the base model does not fit.
    """
    kind = section.get("kind") if isinstance(section, dict) else None
    if kind not in list(KINDS):  # a list or a mapping has no hash
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
    if isinstance(settings, HybridRecommenderParams) and settings.hybrid is None:
        raise InputError(f"{where}.hybrid", expected="the knobs of a score prior", found="null", remedy="leave it out")
    if settings.hybrid is not None and base.loss == "bce":
        raise InputError(
            f"{where}.model.loss",
            expected="full or sampled, a softmax, with `hybrid`",
            found="bce",
            remedy="change it, or leave `hybrid` out",
        )
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
        InputError: as of `read_dense_rows`.
    """
    if isinstance(settings, DmesrParams):
        content = read_content(settings, count)
        return lambda: DmesrItemEmbedding(content, count, base.dimensions, base.init_std, settings)
    if isinstance(settings, FeaturesParams):
        features = read_dense_rows(settings.features, count)
        return lambda: FeatureItemEmbedding(features, count, base.dimensions, base.init_std, settings)
    return lambda: IdEmbedding(count, base.dimensions, base.init_std)


def prior_maker(hybrid: HybridParams | None, count: int) -> PriorMaker | None:
    """Read the embeddings that `hybrid` names, and return what makes the score prior of one fit; None without one.

    An embedding that no core item has is left out.

    Raises:
        InputError: as of `read_dense_rows`.
    """
    if hybrid is None:
        return None
    rows = read_dense_rows(hybrid.content, count)
    return lambda histories: ScorePrior(prior_inputs(histories, count, rows, hybrid), hybrid)
