"""The knobs of the sequential recommenders; a section's `architecture`, by default its name, says whose."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from sidflow.core import params
from sidflow.core.errors import InputError, InvalidValue
from sidflow.sequences.negatives import NegativeParams
from sidflow.training.loop import LoopParams

# Learned positions count from the sequence's start or end, or are biases of attention by distance.
Positions = Literal["start", "end", "relative", "none"]


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


ARCHITECTURES: dict[str, type[SequenceParams]] = {
    "sasrec": SasrecParams,
    "gru4rec": Gru4recParams,
    "bert4rec": Bert4recParams,
}


def from_content(content: Any, default: str, where: str) -> SequenceParams:
    """Return a section's params by its `architecture`, or by `default` where it names none.

    Raises:
        InputError: `content` is no mapping, the architecture or a name is unknown, or a value out of range.
    """
    name = content.get("architecture", default) if isinstance(content, dict) else default
    if name not in list(ARCHITECTURES):  # a list or a mapping has no hash
        raise InputError(
            f"{where}.architecture",
            expected=f"one of {sorted(ARCHITECTURES)}",
            found=repr(name),
            remedy="name one of them as `architecture` in params.yaml",
        )
    return params.validate_params(content, ARCHITECTURES[name], where)


def sequential_entry(name: str, values: Any, where: str) -> SequenceParams:
    """Return the params of the entry `name` of `train_sequential`; errors as of `from_content`."""
    return from_content(values, name, where)


def load_sequential(name: str) -> SequenceParams:
    """Return the params of `train_sequential.<name>`."""
    section = f"train_sequential.{name}"
    return from_content(params.load_param(section), name, f"params.yaml:{section}")
