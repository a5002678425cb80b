"""Knobs of the quantizer: method, sizes, losses, codebook keeping, training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sidflow.contracts.complaints import InvalidValue
from sidflow.contracts.params import Params
from sidflow.training.loop import LoopParams


class QuantizeParams(Params):
    """Section `quantize`. The paper's values are in the preset `mme-sid-paper`."""

    method: Literal["mm-rq-vae", "rq-vae", "rq-kmeans"] = "mm-rq-vae"
    frozen_from: str | None = None  # an earlier quantizer.safetensors, taken as it is: old items keep their codes
    levels: int = Field(4, ge=1, le=16)  # codes per item
    codes: int | list[int] | Literal["auto"] = "auto"  # per level, >= 2; auto: by distinct items, see sizes.py
    code_dim: int = Field(256, ge=1)  # width of code vectors; `rq-kmeans` keeps the modality's own
    hidden: list[int] = Field([256, 128])  # encoder widths; the decoder is mirrored; [] = linear
    skip: Literal["pca", "none"] = "pca"  # a linear map beside each tower, starting as the principal components
    reconstruction: Literal["mse", "mmd", "both"] = "both"
    mse_weight: float = Field(1.0, ge=0)
    mmd_weight: float = Field(3.0, ge=0)
    mmd_bandwidths: list[float] = Field([1.0])  # factors of the mean squared distance
    mmd_estimator: Literal["published", "u_statistic"] = "published"
    alignment: Literal["infonce", "mmd", "none"] = "infonce"  # of quantized vectors: anchor with each other modality
    alignment_anchor: str = "collaborative"
    alignment_weight: float = Field(0.001, ge=0)
    temperature: float = Field(0.1, gt=0)  # of InfoNCE
    codebook_weight: float = Field(1.0, ge=0)  # pulls code vectors to residuals
    commitment_weight: float = Field(1.0, ge=0)  # pulls residuals to code vectors
    gradient: Literal["straight_through_total", "rotation", "per_level"] = "straight_through_total"
    sinkhorn: float | list[float] = 0.0  # epsilon (of distances scaled to [-1, 1]) per level while training; 0 = off
    sinkhorn_iterations: int = Field(50, ge=1)
    initialisation: Literal["kmeans", "balanced-kmeans", "random"] = "balanced-kmeans"
    refit: Literal["none", "last", "all"] = "none"  # levels that k-means fits again to the trained encoder's output
    refine_steps: int = Field(100, ge=0)  # after training, code vectors of all levels moved together; 0 = off
    separate_steps: int = Field(100, ge=0)  # after that, last codes moved until distinct items part; 0 = off
    separate_weight: float = Field(5.0, ge=0)  # of colliding pairs beside the distances to the codes
    revive_below: float = Field(0.1, ge=0, lt=1)  # share of a code's fair use below which it is moved; 0 = never
    revive_every: int = Field(20, ge=1)  # steps
    batch_size: int = Field(512, ge=2)  # items
    passes: int = Field(10, ge=1)  # over all items per epoch of `loop`
    loop: LoopParams = LoopParams.model_validate(
        {"epochs": 3, "patience": 0, "learning_rate": 3e-4, "weight_decay": 1e-4}
    )

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
