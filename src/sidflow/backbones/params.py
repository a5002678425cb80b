"""Params of `backbone`: which causal language model, and the sizes and training of a small one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from sidflow.core.errors import InvalidValue
from sidflow.core.params import Params
from sidflow.models.params import ModelParams, check_parts
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


class LoraParams(Params):
    """Low-rank adaptation of the frozen backbone."""

    enabled: bool = Field(default=True, description="false: the backbone stays as it is")
    rank: int = Field(default=32, ge=1, description="width of the update, the product of two thin matrices")
    alpha: int | float = Field(default=128, gt=0, description="the update is scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share dropped of what enters the adapter")
    targets: tuple[str, ...] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        description="modules of the backbone that are adapted",
    )


def _field_of_model(name: str) -> Any:
    """Return the field of `ModelParams` as one of another model."""
    field = ModelParams.model_fields[name]
    return Field(default=field.default, description=field.description)


class BackboneParams(Params):
    """The causal language model that finetune adapts."""

    kind: Literal["scratch", "path", "hub", "package"] = Field(
        default="scratch",
        description="scratch: a small Llama trained here | path: a folder | hub: a pinned commit | package: installed",
    )
    path: str = _field_of_model("path")
    repo: str = _field_of_model("repo")
    commit: str = _field_of_model("commit")
    package: str | tuple[str, ...] = _field_of_model("package")
    file: str | tuple[str, ...] = _field_of_model("file")
    sha256: dict[str, str] = _field_of_model("sha256")
    licence: str = _field_of_model("licence")
    weights: Literal["pretrained", "random"] = _field_of_model("weights")
    layers: int | None = Field(
        default=None, ge=1, description="first layers of a pretrained model that are kept; null = all"
    )
    history: int = Field(
        default=50,
        ge=1,
        description="items that a pretrained model is tried with, see finetune.*.max_length",
    )
    scratch: ScratchParams = Field(default=ScratchParams(), description="of kind scratch")

    @model_validator(mode="after")
    def _parts_are_several(self) -> BackboneParams:
        check_parts(self.package, self.file, self.sha256)
        return self

    @property
    def model(self) -> ModelParams:
        """The pretrained model that they name; not of kind `scratch`."""
        return ModelParams(**{name: getattr(self, name) for name in ModelParams.model_fields})

    def unused(self) -> frozenset[str]:
        """Of a backbone from scratch, what concerns pretrained ones; else the fields of other kinds."""
        if self.kind != "scratch":
            return self.model.unused() | {"scratch"}
        return frozenset({"package", "file", "sha256", "licence", "weights", "layers", "history"})
