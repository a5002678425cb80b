"""Knobs of the backbone and of MME-SID."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sidflow.contracts.complaints import InvalidValue
from sidflow.contracts.params import Params
from sidflow.hybrid.params import HybridParams, ScorePriorParams
from sidflow.losses.negatives import NegativeParams
from sidflow.training.loop import LoopParams


class PretrainingLoop(LoopParams):
    """How long a backbone from scratch is trained on the catalogue's words."""

    epochs: int = Field(default=2, ge=0)
    patience: int = Field(default=2, ge=0)
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_steps: int = Field(default=20, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    clip_norm: float = Field(default=1.0, ge=0)


class ScratchParams(Params):
    """A small Llama and the tokenizer that goes with it."""

    hidden: int = Field(default=64, ge=8)  # width; a multiple of heads
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    feedforward: int = Field(default=192, ge=8)  # width inside the gated MLP
    vocabulary: int = Field(default=2048, ge=300)  # tokens at most, the 256 bytes included
    block_tokens: int = Field(default=128, ge=8)  # length of a packed training sequence
    batch_blocks: int = Field(default=32, ge=1)
    title_words: int = Field(default=12, ge=1)  # words of a title that a history is told with
    item_words: int = Field(default=60, ge=1)  # words of an item's text
    epoch_blocks: int = Field(default=3000, ge=1)  # blocks in an epoch at most, drawn anew each epoch
    held_out: float = Field(default=0.05, gt=0, lt=0.5)  # share of blocks that validate
    loop: PretrainingLoop = PretrainingLoop()

    @model_validator(mode="after")
    def _heads_divide(self) -> ScratchParams:
        if self.hidden % (2 * self.heads):
            raise InvalidValue(f"`hidden` as an even multiple of `heads` ({self.heads})", str(self.hidden))
        return self


class BackboneParams(Params):
    """Which causal language model."""

    kind: Literal["scratch", "path", "hub"] = "scratch"
    path: str = ""  # kind path: a folder in the layout that transformers saves
    repo: str = ""  # kind hub: owner/name
    commit: str = ""  # kind hub: the 40 hex digits of the commit, never a branch
    scratch: ScratchParams = ScratchParams()


class LoraParams(Params):
    """Low-rank adaptation of the frozen backbone."""

    enabled: bool = True
    rank: int = Field(default=32, ge=1)  # width of the update, the product of two thin matrices
    alpha: float = Field(default=128, gt=0)  # the update is scaled by alpha / rank
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class AnchoringParams(ScorePriorParams):
    """The score prior beside MME-SID; nothing of it counts with `anchor: none`."""

    modalities: tuple[str, ...] = Field(
        default=("text",), min_length=1, description="modalities whose rows' cosines are part of the prior"
    )


class FinetuneLoop(LoopParams):
    """How long MME-SID is trained."""

    epochs: int = Field(default=10, ge=0)
    patience: int = Field(default=3, ge=0)
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    warmup_steps: int = Field(default=30, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    clip_norm: float = Field(default=1.0, ge=0)


class FinetuneParams(NegativeParams):
    """MME-SID."""

    prompt: str = "A customer bought these products, oldest first: {history} The product bought next is:"
    readout: Literal["last_item", "response"] = "last_item"
    max_length: int = Field(default=50, ge=1)  # items of a history that are seen, the last ones
    batch_size: int = Field(default=64, ge=1)  # histories a step
    without: tuple[str, ...] = ()  # modalities left out of tokens and scores
    raw: bool = True  # raw modality rows in the item token
    codes: bool = True  # code vectors in the item token
    codebook_init: Literal["trained", "random"] = "trained"
    train_codes: bool = True
    frequency_aware: bool = True  # off = the parts of the score weigh the same
    temperature: float = Field(default=1.0, gt=0)  # of the softmax over the score's parts; the published code has 1e-3
    skip_share: float = Field(default=0.0, ge=0, lt=1)  # of a training piece's items that a step leaves out
    token_dropout: float = Field(default=0.4, ge=0, lt=1)  # on item tokens
    item_dropout: float = Field(default=0.0, ge=0, lt=1)  # on the rows that items are scored by
    cold_dropout: float = Field(default=0.0, ge=0, lt=1)  # share of items that a step scores as if nobody had had them
    loss: Literal["full", "sampled"] = "full"  # softmax over all core items, or over targets and a step's negatives
    start: Literal["settled", "plain"] = "settled"  # initial weights: from the items, or plain random
    token_scale: float = Field(default=1.0, gt=0)  # of `settled`: item tokens' size, in that of word embeddings
    lora: LoraParams = LoraParams()
    weights: Literal["fp32", "bf16", "nf4"] = "fp32"  # of the frozen backbone; nf4 needs CUDA and bitsandbytes
    anchor: Literal["none", "content", "cooccurrence", "both"] = "none"  # simple terms beside the paper's four parts
    anchoring: AnchoringParams = AnchoringParams()
    loop: FinetuneLoop = FinetuneLoop()
    refit: bool = False  # answer test queries from a fit on training and validation events, as validation chose it

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
