"""Knobs of the quantizer: method, sizes, losses, codebook keeping, training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sidflow.core.errors import InvalidValue
from sidflow.core.params import Params
from sidflow.training.loop import LoopParams


class QuantizeLoop(LoopParams, defaults={"epochs": 3, "patience": 0, "learning_rate": 3e-4, "weight_decay": 1e-4}):
    """How long the quantizer is trained."""


class QuantizeParams(Params):
    """How item vectors become codes. The paper's values are in the preset `mme-sid-paper`."""

    method: Literal["mm-rq-vae", "rq-vae", "rq-kmeans"] = Field(
        default="mm-rq-vae", description="mm-rq-vae | rq-vae (each modality alone, MSE) | rq-kmeans (no encoder)"
    )
    frozen_from: str | None = Field(
        default=None, description="path of an earlier quantizer.safetensors to use unchanged; null = train"
    )
    levels: int = Field(default=4, ge=1, le=16, description="codes per item")
    codes: int | list[int] | Literal["auto"] = Field(
        default="auto",
        description="codes per level: number | list | auto (power of two, 2 to 256, 4 distinct items a code at least)",
    )
    components: int | None = Field(
        default=None, ge=1, description="principal components of a modality's rows that are quantized; null = the rows"
    )
    code_dim: int = Field(default=256, ge=1, description="width of code vectors; rq-kmeans keeps the modality's own")
    hidden: list[int] = Field(
        default=[256, 128], description="widths of the encoder, mirrored in the decoder; [] = linear"
    )
    skip: Literal["pca", "none"] = Field(
        default="pca",
        description="pca: beside encoder and decoder a linear map that starts as principal components | none",
    )
    reconstruction: Literal["mse", "mmd", "both"] = Field(
        default="both", description="mse | mmd | both: what keeps decoded vectors near their inputs"
    )
    mse_weight: float = Field(default=1.0, ge=0, description="of the mean squared error in the loss")
    mmd_weight: float = Field(default=3.0, ge=0, description="of the maximum mean discrepancy in the loss")
    mmd_bandwidths: list[float] = Field(default=[1.0], description="factors of the mean squared distance")
    mmd_estimator: Literal["published", "u_statistic"] = Field(
        default="published", description="of the squared discrepancy: published | u_statistic (matching rows left out)"
    )
    alignment: Literal["infonce", "mmd", "none"] = Field(
        default="infonce", description="of quantized vectors, the anchor with each other modality: infonce | mmd | none"
    )
    alignment_anchor: str = Field(default="collaborative", description="the modality that the others are aligned to")
    alignment_weight: float = Field(
        default=0.001, ge=0, description="in the loss; the paper has 0.01, see docs/semantic_ids.md"
    )
    temperature: float = Field(default=0.1, gt=0, description="of InfoNCE")
    codebook_weight: float = Field(default=1.0, ge=0, description="in the loss: pulls code vectors to residuals")
    commitment_weight: float = Field(default=1.0, ge=0, description="in the loss: pulls residuals to code vectors")
    gradient: Literal["straight_through_total", "rotation", "per_level"] = Field(
        default="straight_through_total",
        description="straight_through_total | rotation | per_level (as published; starves the encoder)",
    )
    sinkhorn: float | list[float] = Field(
        default=0.0,
        description="epsilon while training, one for all levels or a list, of distances scaled to [-1, 1]; 0 = off",
    )
    sinkhorn_iterations: int = Field(default=50, ge=1, description="scalings of rows and columns per batch")
    initialisation: Literal["kmeans", "balanced-kmeans", "random"] = Field(
        default="balanced-kmeans", description="of code vectors: kmeans | balanced-kmeans (equal shares) | random"
    )
    refit: Literal["none", "last", "all"] = Field(
        default="none", description="levels that k-means fits again to the trained encoder's output: none | last | all"
    )
    refine_steps: int = Field(
        default=100,
        ge=0,
        description="after training, steps that move all code vectors together, mm-rq-vae only; 0 = off",
    )
    separate_steps: int = Field(
        default=100,
        ge=0,
        description="after that, steps that move last codes apart on collision, mm-rq-vae only; 0 = off",
    )
    separate_weight: float = Field(
        default=5.0, ge=0, description="of colliding pairs beside the distances to the codes"
    )
    revive_below: float = Field(
        default=0.1, ge=0, lt=1, description="share of a code's fair use below which it moves to an item; 0 = never"
    )
    revive_every: int = Field(default=20, ge=1, description="steps between two looks at the codes' use")
    batch_size: int = Field(default=512, ge=2, description="items a step")
    passes: int = Field(default=10, ge=1, description="passes over all items per epoch of the loop")
    loop: QuantizeLoop = Field(default=QuantizeLoop(), description="how long and how fast to train")

    @model_validator(mode="after")
    def _per_level(self) -> QuantizeParams:
        for name in ("codes", "sinkhorn"):
            value = getattr(self, name)
            if isinstance(value, list) and len(value) != self.levels:
                raise InvalidValue(f"an entry of `{name}` for each of the {self.levels} levels", str(len(value)))
        counts = self.codes if isinstance(self.codes, list) else [self.codes]
        if any(isinstance(count, int) and count < 2 for count in counts):
            raise InvalidValue("`codes` >= 2 per level", str(self.codes))
        epsilons = self.sinkhorn if isinstance(self.sinkhorn, list) else [self.sinkhorn]
        if any(epsilon < 0 for epsilon in epsilons):
            raise InvalidValue("`sinkhorn` >= 0", str(self.sinkhorn))
        if any(width < 1 for width in self.hidden):
            raise InvalidValue("`hidden` widths >= 1", str(self.hidden))
        if not self.mmd_bandwidths or any(factor <= 0 for factor in self.mmd_bandwidths):
            raise InvalidValue("`mmd_bandwidths` > 0, at least one", str(self.mmd_bandwidths))
        return self

    def epsilons(self) -> list[float]:
        """Return Sinkhorn's epsilon of each level."""
        return self.sinkhorn if isinstance(self.sinkhorn, list) else [self.sinkhorn] * self.levels
