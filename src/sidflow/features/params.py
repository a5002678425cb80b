"""Params of `embed`: text spaces, and the encoders that write one file each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sidflow.core.errors import InvalidValue
from sidflow.core.params import Params
from sidflow.models.params import ModelParams

Document = Literal["item", "view_text", "view_image", "view_joint"]  # `item`: title, brand, ..., description


class SpaceParams(Params):
    """A TF-IDF vocabulary and its truncated SVD, fitted on documents of the whole catalogue."""

    documents: tuple[Document, ...] = Field(
        default=("item",),
        min_length=1,
        description="item (title, brand, categories, attributes, description) | view_text | view_image | view_joint",
    )
    dim: int = Field(default=256, ge=1, le=4096, description="width; fewer where the documents have no higher rank")
    ngram: int = Field(default=1, ge=1, le=4, description="words; longest run that is a term")
    min_df: int = Field(default=2, ge=1, description="documents; terms in fewer are left out")
    max_df: float = Field(default=0.5, gt=0, le=1, description="share of the documents; terms in more are left out")
    max_features: int = Field(default=200_000, ge=1, description="terms kept, those in most documents first")
    sublinear: bool = Field(default=True, description="true: 1 + log(count) instead of the count")
    iterations: int = Field(default=4, ge=1, le=50, description="power iterations of the randomised SVD")


class TfidfSvd(Params):
    """One vector per item of one kind of document."""

    kind: Literal["tfidf_svd"] = Field(description="tfidf_svd: one vector per item, of its text")
    space: str = Field(description="name of the text space, in embed.spaces")
    document: Document = Field(default="item", description="item | view_text | view_image | view_joint")


class TfidfSvdUnits(Params):
    """Up to `units` vectors per item: its title, then its sentences and attributes in turns."""

    kind: Literal["tfidf_svd_units"] = Field(description="tfidf_svd_units: several vectors per item, of its text")
    space: str = Field(description="name of the text space, in embed.spaces")
    units: int = Field(default=8, ge=1, le=256, description="vectors per item at most: title, sentences, attributes")


class PictureDescriptors(Params):
    """Hand-made descriptors of a picture's colour, shape and texture, reduced by PCA."""

    kind: Literal["picture_descriptors"] = Field(
        description="picture_descriptors: colour, shape and texture, reduced by PCA"
    )
    dim: int = Field(
        default=64, ge=1, le=1024, description="principal components; fewer where pictures have no higher rank"
    )
    side: int = Field(default=64, ge=32, le=256, description="pixels; pictures are measured at side x side")
    blocks: tuple[Literal["colour", "colour_grid", "gradients", "patterns", "frequencies"], ...] = Field(
        default=("colour", "colour_grid", "gradients", "patterns", "frequencies"),
        min_length=1,
        description="descriptors of equal weight: colour, colour_grid, gradients, patterns, frequencies",
    )


class TransformerEncoder(Params):
    """One vector per item of one kind of document, by a trained text encoder or language model."""

    kind: Literal["transformer"] = Field(description="transformer: one vector per item, by a trained model")
    model: ModelParams = Field(description="the trained model")
    document: Document = Field(default="item", description="item | view_text | view_image | view_joint")
    pooling: Literal["mean", "cls", "last"] = Field(
        default="mean", description="the tokens' states that make a vector: mean | cls (the first) | last"
    )
    prefix: str = Field(default="", description="instruction before each text, as the model was trained with")
    max_tokens: int = Field(default=256, ge=2, description="tokens of a text, the prefix included; the rest is cut")
    batch_size: int = Field(default=32, ge=1, description="texts that are encoded at a time")
    centre: bool = Field(default=True, description="true: the mean vector is subtracted before the scaling to length 1")


Encoder = Annotated[TfidfSvd | TfidfSvdUnits | PictureDescriptors | TransformerEncoder, Field(discriminator="kind")]


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
    """Encoders of text and pictures; they use no interactions."""

    spaces: dict[str, SpaceParams] = Field(
        default_factory=_default_spaces, description="TF-IDF and truncated SVD, fitted on the texts of all items"
    )
    encoders: dict[str, Encoder] = Field(
        default_factory=_default_encoders, description="by the name of the file that each writes"
    )

    @model_validator(mode="after")
    def _spaces_exist(self) -> EmbedParams:
        for name, encoder in self.encoders.items():
            if isinstance(encoder, (TfidfSvd, TfidfSvdUnits)) and encoder.space not in self.spaces:
                raise InvalidValue(
                    f"encoder `{name}` to name one of the spaces {', '.join(self.spaces)}", f"`{encoder.space}`"
                )
        return self
