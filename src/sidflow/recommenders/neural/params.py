"""The knobs of the sequential recommenders; a section's `architecture`, by default its name, says whose."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from sidflow.contracts import params
from sidflow.contracts.complaints import InvalidValue
from sidflow.contracts.errors import InputError
from sidflow.contracts.params import Params
from sidflow.losses.negatives import NegativeParams
from sidflow.training.loop import LoopParams

# Learned positions count from the sequence's start or end, or are biases of attention by distance.
Positions = Literal["start", "end", "relative", "none"]


class SequenceParams(NegativeParams):
    """What all sequential recommenders share."""

    architecture: Literal["sasrec", "gru4rec", "bert4rec"]
    dimensions: int = Field(64, ge=2)  # of item vectors and states
    max_length: int = Field(50, ge=2)  # most recent items that are read; longer training parts become several windows
    dropout: float = Field(0.2, ge=0, lt=1)  # inside the network
    item_dropout: float = Field(0.2, ge=0, lt=1)  # on item vectors, as inputs and as candidates
    # Drawn for each place of the input and apart for the candidates, or once for an item wherever it stands.
    item_dropout_by: Literal["place", "item"] = "place"
    skip_share: float = Field(
        0.0, ge=0, lt=1
    )  # of a training window's items that a batch leaves out, two at least stay
    init_std: float = Field(0.02, gt=0)  # of item vectors
    loss: Literal["full", "sampled", "bce"] = "full"  # over the catalogue, or over the negatives of a batch
    batch_size: int = Field(128, ge=1)  # sequences
    loop: LoopParams = LoopParams.model_validate({})
    refit: bool = False  # answer test queries from a fit on training and validation events, as long as validation chose


class TransformerParams(SequenceParams):
    """What the transformers share."""

    blocks: int = Field(2, ge=1)
    heads: int = Field(2, ge=1)
    feedforward: int = Field(4, ge=1)  # hidden width of a block's second half, in dimensions
    block: Literal["plain", "ligr"] = "plain"  # ligr: gated residuals and SwiGLU; with it SASRec is eSASRec
    pre_norm: bool = True  # normalise what enters a sublayer; false: what leaves it
    attention_dropout: float = Field(0.0, ge=0, lt=1)
    positions: Positions = "start"

    @model_validator(mode="after")
    def _fits(self) -> TransformerParams:
        if self.dimensions % self.heads:
            raise InvalidValue(f"`dimensions` as a multiple of `heads` ({self.heads})", str(self.dimensions))
        if self.block == "ligr" and not self.pre_norm:
            raise InvalidValue("`pre_norm: true` with `block: ligr`, whose sublayers read normalised input", "false")
        return self


class SasrecParams(TransformerParams):
    """SASRec: causal attention, every position predicts its next item."""

    architecture: Literal["sasrec"] = "sasrec"


class Gru4recParams(SequenceParams):
    """GRU4Rec: a recurrent network, every position predicts its next item."""

    architecture: Literal["gru4rec"] = "gru4rec"
    hidden: int = Field(128, ge=1)  # width of the recurrent state
    layers: int = Field(1, ge=1)


class Bert4recParams(TransformerParams):
    """BERT4Rec: attention both ways, masked items are predicted."""

    architecture: Literal["bert4rec"] = "bert4rec"
    positions: Positions = "end"
    mask_share: float = Field(0.2, gt=0, lt=1)  # probability of each item to be masked in training
    query_share: float = Field(0.5, ge=0, le=1)  # share of sequences cut at random, with just their last item masked


class DmesrParams(Params):
    """DMESR: a base model whose item vectors also come from aligned and fused views of the item."""

    base: Literal["sasrec", "gru4rec", "bert4rec"] = "sasrec"
    model: dict[str, Any] = Field(default_factory=dict)  # the base model's own knobs, as in `train`
    text_view: str = "view_text"  # names under artifacts/embeddings: the two views that are aligned
    image_view: str = "view_image"
    joint_view: str | None = "view_joint"  # a third coarse view, not aligned; null = none
    fine: str = "fine_text"  # units of the original text
    mode: Literal["add", "replace"] = "add"  # content on top of a free vector an item, or in place of it
    heads: int = Field(2, ge=1)  # of both cross-attentions
    dropout: float = Field(0.2, ge=0, lt=1)  # of what they bring in
    alignment_weight: float = Field(0.1, ge=0)  # of the InfoNCE loss beside the recommender's
    temperature: float = Field(0.1, gt=0)  # of InfoNCE
    alignment_items: int = Field(512, ge=2)  # of a batch at most
    refit: bool = False  # of the whole, as in `train`


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
    return params.check(content, ARCHITECTURES[name], where)


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


def load(name: str) -> SequenceParams:
    """Return the params of `train.<name>`."""
    section = f"train.{name}"
    return from_content(params.load_value(section), name, f"params.yaml:{section}")


def load_dmesr(name: str) -> tuple[DmesrParams, SequenceParams]:
    """Return the params of `enhance.<name>`, and those of its base model."""
    section = f"enhance.{name}"
    return with_base(params.load(section, DmesrParams), f"params.yaml:{section}")


def with_base(settings: DmesrParams, where: str) -> tuple[DmesrParams, SequenceParams]:
    """Return `settings`, found at `where`, and the params of the base model that they name.

    Raises:
        InputError: as `base_of`, or `heads` does not divide the base model's dimensions.
    """
    base = base_of(settings.model, settings.base, settings.refit, where)
    if base.dimensions % settings.heads:
        raise InputError(
            f"{where}.model",
            expected=f"dimensions that are a multiple of heads ({settings.heads})",
            found=str(base.dimensions),
            remedy="change either in params.yaml",
        )
    return settings, base
