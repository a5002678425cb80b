"""The knobs of the recommenders that generate IDs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from sidflow.backbones.params import HISTORY, LoraParams
from sidflow.core.errors import InputError, InvalidValue
from sidflow.core.params import Params, validate_params
from sidflow.generative.vocabulary import IdParams, Normalise
from sidflow.training.loop import LoopParams


class GenerativeLoop(
    LoopParams,
    defaults={
        "epochs": 30,
        "patience": 6,
        "learning_rate": 0.001,
        "weight_decay": 0.05,
        "warmup_steps": 200,
        "schedule": "cosine",
        "clip_norm": 1.0,
    },
):
    """How long and how fast to train a model of IDs."""


ARCHITECTURES = "decoder | encoder_decoder | language_model"
AUTO_SCORES = 5_000_000  # queries times items up to which `auto` is exact: some minutes on a laptop


class GenerativeParams(Params):
    """What all recommenders that generate IDs share."""

    ids: IdParams = Field(default=IdParams(), description="which semantic IDs are generated")
    normalise: Normalise = Field(
        default="children",
        description="probabilities sum to 1 over: children (codes with which an ID goes on) | vocabulary (all tokens)",
    )
    max_length: int = Field(
        default=20, ge=1, description="most recent items that are read; longer training parts become several windows"
    )
    batch_size: int = Field(default=64, ge=1, description="histories a step; of encoder_decoder: targets")
    beam: int = Field(default=50, ge=10, description="prefixes kept a level; the length of the list that is written")
    ranking: Literal["auto", "exact", "beam"] = Field(
        default="auto",
        description="exact: all items by log-probability | beam: those of the beam | auto: by the number of scores",
    )
    validate_on: int = Field(
        default=2000, ge=1, description="validation queries after each epoch, at most, evenly spread"
    )
    validate_beam: int = Field(default=20, ge=10, description="prefixes kept a level in validation")
    audit_on: int = Field(
        default=50, ge=0, description="validation queries whose beams are held against the exact top 10"
    )
    loop: GenerativeLoop = Field(default=GenerativeLoop(), description="how long and how fast to train")
    refit: bool = Field(
        default=False, description="true: test queries are answered by a second fit on training + validation"
    )

    def is_exact(self, queries: int, items: int) -> bool:
        """Return whether so many queries are answered by the log-probability of each of so many items."""
        return self.ranking == "exact" or (self.ranking == "auto" and queries * items <= AUTO_SCORES)


class ScratchParams(GenerativeParams):
    """Sizes of a small transformer over ID tokens, trained from nothing."""

    dimensions: int = Field(default=128, ge=8, description="width of tokens and states")
    layers: int = Field(default=4, ge=1, description="transformer layers; of an encoder-decoder, in each of its halves")
    heads: int = Field(default=4, ge=1, description="attention heads in each layer; divides dimensions")
    feedforward: int = Field(default=512, ge=8, description="width inside the feed-forward part")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="share dropped inside the network")
    init_std: float = Field(
        default=0.02,
        gt=0,
        description="standard deviation of weights at the start; of an encoder-decoder, of its token table",
    )

    @model_validator(mode="after")
    def _fits(self) -> ScratchParams:
        if self.dimensions % self.heads or self.dimensions // self.heads % 2:
            raise InvalidValue(f"`dimensions` as an even multiple of `heads` ({self.heads})", str(self.dimensions))
        return self


class CausalParams(ScratchParams):
    """TIGER's objective on a decoder: every position of a history predicts the next token, in one pass."""

    architecture: Literal["decoder"] = Field(default="decoder", description=ARCHITECTURES)


class EncoderDecoderParams(ScratchParams):
    """TIGER: T5 reads the history, and its decoder writes the next ID; one sample a target."""

    architecture: Literal["encoder_decoder"] = Field(description=ARCHITECTURES)


class AlignmentParams(Params):
    """LC-Rec's tasks that join IDs and words, beside the next ID; each weight multiplies the task's mean loss."""

    id_from_title: float = Field(default=0.0, ge=0, description="weight of: an item's ID from its title; 0 = left out")
    title_from_id: float = Field(default=0.0, ge=0, description="weight of: an item's title from its ID; 0 = left out")
    next_title: float = Field(
        default=0.0, ge=0, description="weight of: the next item's title from the history's IDs; 0 = left out"
    )
    samples: int = Field(default=32, ge=1, description="items, or histories, of each task a step")
    title_words: int = Field(default=12, ge=1, description="words of a title at most")

    @property
    def any(self) -> bool:
        """Whether one of the tasks is trained."""
        return self.id_from_title + self.title_from_id + self.next_title > 0


class LanguageParams(GenerativeParams):
    """LC-Rec: the language model of `backbone` with LoRA, and ID tokens in its vocabulary."""

    architecture: Literal["language_model"] = Field(description=ARCHITECTURES)
    prompt: str = Field(
        default=f"A customer bought these products, oldest first: {HISTORY}",
        description="text before the history; {history} is where the ID tokens go",
    )
    weights: Literal["fp32", "bf16"] = Field(default="fp32", description="of the frozen backbone: fp32 | bf16")
    lora: LoraParams = Field(default=LoraParams(), description="low-rank adaptation of the frozen backbone")
    token_scale: float = Field(
        default=1.0,
        gt=0,
        description="size of ID tokens at the start, in that of words; large ones give large logits at first",
    )
    token_dropout: float = Field(default=0.0, ge=0, lt=1, description="share dropped of the vectors of ID tokens")
    alignment: AlignmentParams = Field(
        default=AlignmentParams(), description="tasks beside the next ID, which join IDs and words"
    )

    @model_validator(mode="after")
    def _usable(self) -> LanguageParams:
        if self.prompt.count(HISTORY) != 1:
            raise InvalidValue("`prompt` with {history} once", f"{self.prompt.count(HISTORY)} times")
        behind = self.prompt.partition(HISTORY)[2]
        if behind:
            raise InvalidValue("`prompt` that ends with {history}: the next ID follows it", f"{behind!r} behind it")
        if not self.lora.enabled:
            raise InvalidValue("`lora.enabled: true`, since ID tokens are trained with the adapter", "false")
        return self


KINDS: dict[str, type[GenerativeParams]] = {
    "decoder": CausalParams,
    "encoder_decoder": EncoderDecoderParams,
    "language_model": LanguageParams,
}


def generative_entry(name: str, values: Any, where: str) -> GenerativeParams:
    """Return the params of the entry `name` of `generate`, by its `architecture`; `decoder` where it has none.

    Raises:
        InputError: `values` is no mapping, there is no such architecture, or a value does not fit.
    """
    architecture = values.get("architecture", "decoder") if isinstance(values, dict) else "decoder"
    if architecture not in list(KINDS):  # a list or a mapping has no hash
        raise InputError(
            f"{where}.architecture",
            expected=ARCHITECTURES,
            found=repr(architecture),
            remedy=f"correct it in the entry `{name}`",
        )
    return validate_params(values, KINDS[architecture], where)
