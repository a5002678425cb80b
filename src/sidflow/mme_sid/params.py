"""Knobs of the backbone and of MME-SID."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sidflow.backbones.params import PROMPT, LoraParams
from sidflow.core.errors import InvalidValue
from sidflow.hybrid.params import HybridParams, ScorePriorParams
from sidflow.sequences.negatives import NegativeParams
from sidflow.training.loop import LoopParams


class AnchoringParams(ScorePriorParams):
    """The score prior beside MME-SID; nothing of it counts with `anchor: none`."""

    modalities: tuple[str, ...] = Field(
        default=("text",), min_length=1, description="modalities whose rows' cosines are part of the prior"
    )


class FinetuneLoop(
    LoopParams,
    defaults={
        "epochs": 10,
        "patience": 3,
        "learning_rate": 3e-3,
        "weight_decay": 0.1,
        "warmup_steps": 30,
        "schedule": "cosine",
        "clip_norm": 1.0,
    },
):
    """How long MME-SID is trained."""


class FinetuneParams(NegativeParams):
    """MME-SID: a language model that reads item tokens and scores items by several embeddings."""

    prompt: str = Field(
        default=PROMPT,
        description="text around the history; {history} is where the item tokens go",
    )
    readout: Literal["last_item", "response"] = Field(
        default="last_item", description="state that scores: last_item | response (of the words after {history})"
    )
    max_length: int = Field(
        default=50, ge=1, description="most recent items that are read; longer training parts become several windows"
    )
    batch_size: int = Field(default=64, ge=1, description="histories a step")
    without: tuple[str, ...] = Field(default=(), description="modalities left out of item tokens and scores")
    raw: bool = Field(default=True, description="true: raw modality rows in the item token")
    codes: bool = Field(default=True, description="true: code vectors in the item token")
    codebook_init: Literal["trained", "random"] = Field(
        default="trained", description="code vectors at the start: trained (the quantizer's codebooks) | random"
    )
    train_codes: bool = Field(default=True, description="false: code vectors stay as initialised")
    part_weights: Literal["frequency", "equal", "one"] = Field(
        default="frequency",
        description="of the score's parts: frequency (the paper: learned, by occurrences) | equal | one (a sum)",
    )
    temperature: float = Field(default=1.0, gt=0, description="of the softmax over the score's parts")
    skip_share: float = Field(
        default=0.0, ge=0, lt=1, description="share of a training history's items that a step leaves out"
    )
    tie_item_embeddings: bool = Field(
        default=False,
        description="true: an item's token has the row that scores it added, as SASRec reads and scores by one table",
    )
    row_scale: float = Field(
        default=1.0,
        gt=0,
        description="of `tie_item_embeddings`: size of learned rows in tokens at the start, in that of word embeddings",
    )
    token_dropout: float = Field(default=0.4, ge=0, lt=1, description="share dropped of item tokens")
    item_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share dropped of the rows that items are scored by; small data wants more"
    )
    cold_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of items that a step scores as if new, by their content alone"
    )
    loss: Literal["full", "sampled"] = Field(
        default="full", description="full (softmax over all core items) | sampled (over a step's targets and negatives)"
    )
    start: Literal["settled", "plain"] = Field(
        default="settled", description="initial weights: settled (similar items score high) | plain (random)"
    )
    token_scale: float = Field(
        default=1.0, gt=0, description="of `settled`: size of item tokens at the start, in that of word embeddings"
    )
    lora: LoraParams = Field(default=LoraParams(), description="low-rank adaptation of the frozen backbone")
    weights: Literal["fp32", "bf16", "nf4"] = Field(
        default="fp32", description="of the frozen backbone: fp32 | bf16 | nf4 (needs CUDA and bitsandbytes)"
    )
    anchor: Literal["none", "content", "cooccurrence", "both"] = Field(
        default="none",
        description="score prior beside the paper's parts: none (the paper) | content | cooccurrence | both",
    )
    anchoring: AnchoringParams = Field(
        default=AnchoringParams(), description="the score prior; unused with `anchor: none`"
    )
    loop: FinetuneLoop = Field(default=FinetuneLoop(), description="how long and how fast to train")
    refit: bool = Field(
        default=False, description="true: test queries are answered by a second fit on training + validation"
    )

    @property
    def hybrid(self) -> HybridParams | None:
        """The score prior that `anchor` and `anchoring` ask for; None where MME-SID stands alone."""
        if self.anchor == "none":
            return None
        return HybridParams(
            **self.anchoring.model_dump(exclude={"modalities"}),
            cooccurrence=self.anchor in ("cooccurrence", "both"),
            content=self.anchoring.modalities if self.anchor in ("content", "both") else (),
        )

    @model_validator(mode="after")
    def _usable(self) -> FinetuneParams:
        if self.prompt.count("{history}") != 1:
            raise InvalidValue("`prompt` with {history} once", f"{self.prompt.count('{history}')} times")
        if not (self.raw or self.codes):
            raise InvalidValue("`raw` or `codes`, since one has to tell items apart", "neither")
        return self
