"""The knobs of the sequential recommenders; a section's `architecture`, by default its name, says whose."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from sidflow.contracts import params
from sidflow.contracts.complaints import InvalidValue
from sidflow.contracts.errors import InputError
from sidflow.contracts.params import Params
from sidflow.hybrid.params import HybridParams
from sidflow.losses.negatives import NegativeParams
from sidflow.training.loop import LoopParams

# Learned positions count from the sequence's start or end, or are biases of attention by distance.
Positions = Literal["start", "end", "relative", "none"]

KIND = "which multimodal recommender this is"


class SequenceParams(NegativeParams):
    """What all sequential recommenders share."""

    architecture: Literal["sasrec", "gru4rec", "bert4rec"] = Field(description="sasrec | gru4rec | bert4rec")
    dimensions: int = Field(default=64, ge=2, description="width of item vectors and states")
    max_length: int = Field(
        default=50, ge=2, description="most recent items that are read; longer training parts become several windows"
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="share dropped inside the network")
    item_dropout: float = Field(
        default=0.2, ge=0, lt=1, description="share dropped of item vectors, as inputs and as candidates"
    )
    item_dropout_by: Literal["place", "item"] = Field(
        default="place", description="place (apart for each position and for candidates) | item (once for an item)"
    )
    skip_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of a training window's items that a batch leaves out; two at least stay",
    )
    init_std: float = Field(default=0.02, gt=0, description="standard deviation of item vectors at the start")
    loss: Literal["full", "sampled", "bce"] = Field(
        default="full", description="full (softmax over all core items) | sampled (softmax over negatives) | bce"
    )
    batch_size: int = Field(default=32, ge=1, description="sequences a step")
    loop: LoopParams = Field(default=LoopParams(), description="how long and how fast to train")
    refit: bool = Field(
        default=False, description="true: test queries are answered by a second fit on training + validation"
    )


class TransformerParams(SequenceParams):
    """What the transformers share."""

    blocks: int = Field(default=1, ge=1, description="transformer blocks, each of attention and two linear layers")
    heads: int = Field(default=2, ge=1, description="attention heads in each block; divides dimensions")
    feedforward: int = Field(default=4, ge=1, description="hidden width of a block's second half, in dimensions")
    block: Literal["plain", "ligr"] = Field(
        default="plain", description="plain | ligr (gated residuals and SwiGLU); SASRec with ligr is eSASRec"
    )
    pre_norm: bool = Field(default=True, description="true: normalise what enters a sublayer; false: what leaves it")
    attention_dropout: float = Field(default=0.0, ge=0, lt=1, description="share dropped of attention weights")
    positions: Positions = Field(
        default="end", description="learned positions from the start | end, relative (attention by distance) | none"
    )

    @model_validator(mode="after")
    def _fits(self) -> TransformerParams:
        if self.dimensions % self.heads:
            raise InvalidValue(f"`dimensions` as a multiple of `heads` ({self.heads})", str(self.dimensions))
        if self.block == "ligr" and not self.pre_norm:
            raise InvalidValue("`pre_norm: true` with `block: ligr`, whose sublayers read normalised input", "false")
        return self


class SasrecParams(TransformerParams):
    """SASRec: causal attention, every position predicts its next item."""

    architecture: Literal["sasrec"] = Field(
        default="sasrec", description="sasrec | gru4rec | bert4rec; left out: the entry's name"
    )


class Gru4recParams(SequenceParams):
    """GRU4Rec: a recurrent network, every position predicts its next item."""

    architecture: Literal["gru4rec"] = Field(
        default="gru4rec", description="sasrec | gru4rec | bert4rec; left out: the entry's name"
    )
    hidden: int = Field(default=128, ge=1, description="width of the recurrent state")
    layers: int = Field(default=1, ge=1, description="recurrent layers, one on the other")


class Bert4recParams(TransformerParams):
    """BERT4Rec: attention both ways, masked items are predicted."""

    architecture: Literal["bert4rec"] = Field(
        default="bert4rec", description="sasrec | gru4rec | bert4rec; left out: the entry's name"
    )
    mask_share: float = Field(default=0.2, gt=0, lt=1, description="probability of an item to be masked in training")
    query_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of sequences that are cut at random and have just their last item masked",
    )


class MultimodalParams(Params):
    """What all recommenders that give content to a sequential base model share."""

    base: Literal["sasrec", "gru4rec", "bert4rec"] = Field(default="sasrec", description="sasrec | gru4rec | bert4rec")
    model: dict[str, Any] = Field(default_factory=dict, description="the base model's own knobs")
    hybrid: HybridParams | None = Field(
        default=None,
        exclude_if=lambda hybrid: hybrid is None,
        description="a score prior of co-occurrence and content beside the base model; null = none",
    )
    refit: bool = Field(
        default=False, description="true: test queries are answered by a second fit on training + validation"
    )

    def unused(self) -> frozenset[str]:
        """Return what the base model is not asked: `base` and `refit` say it."""
        return frozenset({"model.architecture", "model.refit"})


class HybridRecommenderParams(MultimodalParams):
    """A base model with item vectors of its own, and a score prior beside it."""

    kind: Literal["hybrid"] = Field(default="hybrid", exclude=True, description=f"{KIND}: dmesr | features | hybrid")
    hybrid: HybridParams | None = Field(
        default=HybridParams(), description="a score prior of co-occurrence and content beside the base model"
    )


class DmesrParams(MultimodalParams):
    """DMESR: a base model whose item vectors also come from aligned and fused views of the item."""

    kind: Literal["dmesr"] = Field(default="dmesr", exclude=True, description=f"{KIND}: dmesr | features | hybrid")
    text_view: str = Field(default="view_text", description="embedding of a view that is aligned with the image view")
    image_view: str = Field(default="view_image", description="embedding of a view that is aligned with the text view")
    joint_view: str | None = Field(
        default="view_joint", description="embedding of a third view, not aligned; null = none"
    )
    fine: str = Field(default="fine_text", description="embedding with several vectors per item, of the original text")
    mode: Literal["add", "replace"] = Field(
        default="add", description="add (content on top of a free vector per item) | replace (in place of it)"
    )
    heads: int = Field(default=2, ge=1, description="attention heads of both cross-attentions; divides dimensions")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="share dropped of what the cross-attentions bring in")
    alignment_weight: float = Field(default=0.1, ge=0, description="of InfoNCE beside the recommender's loss; 0 = none")
    temperature: float = Field(default=0.1, gt=0, description="of InfoNCE")
    alignment_items: int = Field(default=512, ge=2, description="items of a batch that are aligned, at most")


ARCHITECTURES: dict[str, type[SequenceParams]] = {
    "sasrec": SasrecParams,
    "gru4rec": Gru4recParams,
    "bert4rec": Bert4recParams,
}


def from_content(content: Any, default: str, where: str) -> SequenceParams:
    """Return a section's params by its `architecture`, or by `default` where it names none.

    Raises:
        InputError: the architecture or a name is unknown, or a value out of range.
    """
    content = content or {}
    name = content.get("architecture", default)
    if name not in ARCHITECTURES:
        raise InputError(
            f"{where}.architecture",
            expected=f"one of {sorted(ARCHITECTURES)}",
            found=repr(name),
            remedy="name one of them as `architecture` in params.yaml",
        )
    return params.validate_params(content, ARCHITECTURES[name], where)


def base_of(model: dict[str, Any], base: str, refit: bool, where: str) -> SequenceParams:
    """Return the params of the base model that the section `where` wraps, whose own knobs are `model`.

    Raises:
        InputError: as `from_content`, or `model` says what the section itself says.
    """
    for name, instead in (("architecture", "base"), ("refit", "refit")):
        if name in model:
            raise InputError(
                f"{where}.model.{name}",
                expected=f"`{name}` left out: {where.partition(':')[2]}.{instead} says it",
                found=repr(model[name]),
                remedy=f"set {where.partition(':')[2]}.{instead} instead",
            )
    return from_content(model | {"architecture": base, "refit": refit}, base, f"{where}.model")


def sequential_entry(name: str, values: Any, where: str) -> SequenceParams:
    """Return the params of the entry `name` of `train_sequential`; errors as of `from_content`."""
    return from_content(values, name, where)


def load_sequential(name: str) -> SequenceParams:
    """Return the params of `train_sequential.<name>`."""
    section = f"train_sequential.{name}"
    return from_content(params.load_param(section), name, f"params.yaml:{section}")


def check_heads(settings: DmesrParams, base: SequenceParams, where: str) -> None:
    """Check that DMESR's attention heads divide the base model's dimensions.

    Raises:
        InputError: they do not; `where` is the section of both.
    """
    if base.dimensions % settings.heads:
        raise InputError(
            f"{where}.model",
            expected=f"dimensions that are a multiple of heads ({settings.heads})",
            found=str(base.dimensions),
            remedy="change either in params.yaml",
        )
