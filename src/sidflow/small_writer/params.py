"""Params of `train_writer`: whether it trains, on which shops, and how large the model is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sidflow.core.errors import InvalidValue
from sidflow.core.params import Params
from sidflow.training.loop import LoopParams


class SizeParams(Params):
    """Sizes of the model: a CLIP vision tower, a projector, a Llama."""

    picture_side: int = Field(default=72, ge=16, le=448, description="pixels of a side that the tower sees")
    patch: int = Field(default=12, ge=4, le=32, description="pixels of a patch's side; a patch is a token of the Llama")
    vision_hidden: int = Field(default=128, ge=8, le=2048, description="width of the vision tower")
    vision_layers: int = Field(default=3, ge=1, le=48, description="layers of the vision tower")
    hidden: int = Field(default=128, ge=8, le=4096, description="width of the Llama")
    layers: int = Field(default=2, ge=1, le=64, description="layers of the Llama")
    heads: int = Field(default=4, ge=1, le=64, description="attention heads of both")

    @model_validator(mode="after")
    def _widths_divide(self) -> SizeParams:
        for name, width in (("vision_hidden", self.vision_hidden), ("hidden", self.hidden)):
            if width % self.heads:
                raise InvalidValue(f"`{name}` to be a multiple of `heads` {self.heads}", str(width))
        if self.picture_side % self.patch:
            raise InvalidValue(f"`picture_side` to be a multiple of `patch` {self.patch}", str(self.picture_side))
        return self


def _tower_loop() -> LoopParams:
    return LoopParams(
        epochs=18,
        patience=0,
        learning_rate=1.5e-3,
        weight_decay=0.05,
        warmup_steps=100,
        schedule="cosine",
        clip_norm=1.0,
    )


def _answers_loop() -> LoopParams:
    return LoopParams(
        epochs=3, patience=0, learning_rate=2e-3, weight_decay=0.05, warmup_steps=100, schedule="cosine", clip_norm=1.0
    )


class TrainWriterParams(Params):
    """The writer that is trained on drawings of synthetic shops."""

    kind: Literal["none", "shop"] = Field(
        default="none", description="none: artifacts/writer records that no writer was trained | shop: it is trained"
    )
    grammar: str = Field(default="presets/grammar.yaml", description="grammar of the products")
    seeds: tuple[int, ...] = Field(
        default=(101, 102, 103, 104, 105),
        min_length=1,
        description="of the catalogues that it learns from; never that of the catalogue it describes (ingest.seed)",
    )
    held_out_seed: int = Field(default=201, description="of the catalogue on which its accuracy is measured")
    items: int = Field(default=700, ge=24, le=20_000, description="products of each catalogue")
    held_out_items: int = Field(default=240, ge=24, le=20_000, description="products that accuracy is measured on")
    sizes: SizeParams = Field(default=SizeParams(), description="of the model")
    tower_batch_size: int = Field(default=64, ge=1, le=4096, description="pictures of a step of the first training")
    batch_size: int = Field(default=32, ge=1, le=4096, description="questions of a step of the second")
    tower_loop: LoopParams = Field(
        default_factory=_tower_loop, description="first training: the tower names what a picture shows"
    )
    loop: LoopParams = Field(default_factory=_answers_loop, description="second training: the whole model answers")

    @model_validator(mode="after")
    def _held_out_is_another_catalogue(self) -> TrainWriterParams:
        if self.held_out_seed in self.seeds:
            raise InvalidValue("another `held_out_seed` than those of `seeds`", str(self.held_out_seed))
        return self
