"""Params of `embed`: spaces that words are placed in, and the encoders that write one file each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sidflow.contracts.complaints import InvalidValue
from sidflow.contracts.params import Params

Document = Literal["item", "view_text", "view_image", "view_joint"]  # `item`: title, brand, ..., description


class SpaceParams(Params):
    """A TF-IDF vocabulary and its truncated SVD, fitted on documents of the whole catalogue."""

    documents: tuple[Document, ...] = Field(default=("item",), min_length=1)
    dim: int = Field(default=256, ge=1, le=4096)  # width; fewer where the documents have no higher rank
    ngram: int = Field(default=1, ge=1, le=4)  # longest run of words that is a term
    min_df: int = Field(default=2, ge=1)  # documents that a term must stand in
    max_df: float = Field(default=0.5, gt=0, le=1)  # share of the documents that a term may stand in
    max_features: int = Field(default=200_000, ge=1)  # terms kept, those in most documents first
    sublinear: bool = True  # 1 + log(count) instead of the count
    iterations: int = Field(default=4, ge=1, le=50)  # power iterations of the randomised SVD


class TfidfSvd(Params):
    """One vector per item of one kind of document."""

    kind: Literal["tfidf_svd"]
    space: str
    document: Document = "item"


class TfidfSvdUnits(Params):
    """Up to `units` vectors per item: its title, then its sentences and attributes in turns."""

    kind: Literal["tfidf_svd_units"]
    space: str
    units: int = Field(default=8, ge=1, le=256)


class PictureDescriptors(Params):
    """Hand-made descriptors of a picture's colour, shape and texture, reduced by PCA."""

    kind: Literal["picture_descriptors"]
    dim: int = Field(default=64, ge=1, le=1024)  # width; fewer where the pictures have no higher rank
    side: int = Field(default=64, ge=32, le=256)  # pixels; pictures are measured at side x side
    blocks: tuple[Literal["colour", "colour_grid", "gradients", "patterns", "frequencies"], ...] = Field(
        default=("colour", "colour_grid", "gradients", "patterns", "frequencies"), min_length=1
    )


Encoder = Annotated[TfidfSvd | TfidfSvdUnits | PictureDescriptors, Field(discriminator="kind")]


def _default_spaces() -> dict[str, SpaceParams]:
    views: tuple[Document, ...] = ("item", "view_text", "view_image", "view_joint")
    return {"item": SpaceParams(), "views": SpaceParams(documents=views)}


def _default_encoders() -> dict[str, Encoder]:
    return {
        "text": TfidfSvd(kind="tfidf_svd", space="item"),
        "image": PictureDescriptors(kind="picture_descriptors"),
        "view_text": TfidfSvd(kind="tfidf_svd", space="views", document="view_text"),
        "view_image": TfidfSvd(kind="tfidf_svd", space="views", document="view_image"),
        "view_joint": TfidfSvd(kind="tfidf_svd", space="views", document="view_joint"),
        "fine_text": TfidfSvdUnits(kind="tfidf_svd_units", space="views"),
    }


class EmbedParams(Params):
    """The section `embed`."""

    spaces: dict[str, SpaceParams] = Field(default_factory=_default_spaces)
    encoders: dict[str, Encoder] = Field(default_factory=_default_encoders)  # by the name of the file they write

    @model_validator(mode="after")
    def _spaces_exist(self) -> EmbedParams:
        for name, encoder in self.encoders.items():
            if not isinstance(encoder, PictureDescriptors) and encoder.space not in self.spaces:
                raise InvalidValue(
                    f"encoder `{name}` to name one of the spaces {', '.join(self.spaces)}", f"`{encoder.space}`"
                )
        return self
