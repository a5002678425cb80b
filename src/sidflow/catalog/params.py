"""Params of `ingest`: which source, how it is filtered, and how large pictures may be."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sidflow.contracts.params import Params

Repeats = Literal["keep", "drop_consecutive", "first"]


def named(params: Params, name: str) -> bool:
    """Return whether a user asks for the files that `name` names: it is neither empty nor the default."""
    value = getattr(params, name)
    return bool(value) and value != type(params).model_fields[name].default


class PictureParams(Params):
    """Limits on pictures, checked before a single pixel is decoded."""

    max_bytes: int = Field(default=20_000_000, gt=0)
    max_pixels: int = Field(default=40_000_000, gt=0)
    max_side: int = Field(default=160, ge=16, le=2048)
    quality: int = Field(default=85, ge=30, le=95)


class SyntheticParams(Params):
    """Size and nature of the synthetic shop; see docs in `sidflow.catalog.shop`."""

    users: int = Field(default=1500, ge=10, le=200_000)
    items: int = Field(default=500, ge=24, le=8000)
    mean_length: float = Field(default=13.0, ge=7, le=200)
    truth_positions: int = Field(default=2, ge=0, le=5)
    late_share: float = Field(default=0.10, ge=0, le=0.5)
    unwanted_share: float = Field(default=0.06, ge=0, le=0.5)
    pictureless_share: float = Field(default=0.04, ge=0, le=1)
    textless_share: float = Field(default=0.03, ge=0, le=1)
    basket_share: float = Field(default=0.10, ge=0, le=0.9)
    picture_side: int = Field(default=128, ge=32, le=512)
    popularity: float = Field(default=0.8, ge=0, le=5)
    taste: float = Field(default=4.5, ge=0, le=20)
    colour: float = Field(default=1.6, ge=0, le=20)
    transition: float = Field(default=1.2, ge=0, le=20)
    companion: float = Field(default=2.2, ge=0, le=20)


class MovielensParams(Params):
    """Reading of a GroupLens folder."""

    min_rating: float = Field(default=0.0, ge=0, le=5)
    require_poster: bool = False
    details: str = "details.jsonl"
    posters: str = "posters"


class AmazonParams(Params):
    """Reading of Amazon Reviews files; empty patterns: `meta*` is metadata, the other JSON file the reviews."""

    reviews: str = ""
    metadata: str = ""
    images: str = "images"
    min_rating: float = Field(default=0.0, ge=0, le=5)


class SequencesParams(Params):
    """Reading of published sequences; empty patterns look for the known names."""

    sequences: str = ""
    items: str = ""
    images: str = "images"


class FilesParams(Params):
    """Reading of CSV or Parquet; an empty item column takes the one of our own name where there is one."""

    interactions: str = "interactions.*"
    items: str = "items.*"
    images: str = "images"
    user: str = Field(default="user_id", min_length=1)
    item: str = Field(default="item_id", min_length=1)
    timestamp: str = "timestamp"
    timestamp_unit: Literal["s", "ms", "us", "ns"] = "s"
    title: str = ""
    description: str = ""
    brand: str = ""
    categories: str = ""
    category_separator: str = "|"
    attributes: tuple[str, ...] = ()


class IngestParams(Params):
    """The section `ingest` of params.yaml."""

    source: Literal["synthetic", "movielens", "amazon", "sequences", "files"] = "synthetic"
    path: str = "presets/grammar.yaml"
    seed: int = Field(default=7, ge=0)
    tie_seed: int = Field(default=11, ge=0)
    min_user_events: int = Field(default=5, ge=1)
    min_item_events: int = Field(default=5, ge=1)
    repeats: Repeats = "keep"
    outside_core: Literal["all", "seen", "none"] = "all"
    max_text: int = Field(default=4000, ge=100)
    pictures: PictureParams = PictureParams()
    synthetic: SyntheticParams = SyntheticParams()
    movielens: MovielensParams = MovielensParams()
    amazon: AmazonParams = AmazonParams()
    sequences: SequencesParams = SequencesParams()
    files: FilesParams = FilesParams()
