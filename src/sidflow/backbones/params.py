"""Params of `backbone`: which causal language model, and the sizes and training of a small one."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sidflow.core.errors import InvalidValue
from sidflow.core.params import Params
from sidflow.training.loop import LoopParams

HISTORY = "{history}"  # where a prompt has the item tokens
PROMPT = f"A customer bought these products, oldest first: {HISTORY} The product bought next is:"


class PretrainingLoop(
    LoopParams,
    defaults={
        "epochs": 3,
        "patience": 2,
        "learning_rate": 3e-3,
        "weight_decay": 0.01,
        "warmup_steps": 20,
        "schedule": "cosine",
        "clip_norm": 1.0,
    },
):
    """How long a backbone from scratch is trained on the catalogue's texts."""


class ScratchParams(Params):
    """A small Llama and the tokenizer that goes with it."""

    hidden: int = Field(default=64, ge=8, description="width; an even multiple of heads")
    layers: int = Field(default=2, ge=1, description="decoder layers")
    heads: int = Field(default=4, ge=1, description="attention heads in each layer")
    feedforward: int = Field(default=192, ge=8, description="width inside the gated MLP")
    vocabulary: int = Field(
        default=2048, ge=300, description="tokens of its own byte-pair encoding at most, the 256 bytes included"
    )
    block_tokens: int = Field(default=128, ge=8, description="tokens of a packed training sequence")
    batch_blocks: int = Field(default=32, ge=1, description="sequences a step")
    title_words: int = Field(default=8, ge=1, description="words of a title in the text of a training history")
    item_words: int = Field(default=60, ge=1, description="words of an item's text")
    epoch_blocks: int = Field(default=1500, ge=1, description="sequences an epoch at most, sampled anew each epoch")
    held_out: float = Field(default=0.05, gt=0, lt=0.5, description="share of the sequences that validate")
    loop: PretrainingLoop = Field(default=PretrainingLoop(), description="how long and how fast to train")

    @model_validator(mode="after")
    def _heads_divide(self) -> ScratchParams:
        if self.hidden % (2 * self.heads):
            raise InvalidValue(f"`hidden` as an even multiple of `heads` ({self.heads})", str(self.hidden))
        return self


class BackboneParams(Params):
    """The causal language model that finetune adapts."""

    kind: Literal["scratch", "path", "hub"] = Field(
        default="scratch",
        description="scratch: a small Llama trained here | path: a local folder | hub: a pinned repository",
    )
    path: str = Field(
        default="", description="of kind path: a folder as transformers saves it, safetensors weights only"
    )
    repo: str = Field(default="", description="of kind hub: owner/name")
    commit: str = Field(default="", description="of kind hub: the commit's 40 hex digits, never a branch")
    history: int = Field(
        default=50,
        ge=1,
        description="of kind path or hub: items that the model is tried with, see finetune.*.max_length",
    )
    scratch: ScratchParams = Field(default=ScratchParams(), description="of kind scratch")
