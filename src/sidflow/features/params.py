"""Params of `embed`: text spaces, and the encoders that write one file each."""

from __future__ import annotations

import re
from string import Template
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sidflow.core.errors import InvalidValue
from sidflow.core.params import Params
from sidflow.models.params import ModelParams

Document = Literal["item", "view_text", "view_image", "view_joint", "view_keywords"]
DOCUMENTS = (  # their meaning
    "item (title, brand, categories, attributes, description) | view_text | view_image | view_joint | view_keywords"
)
ENCODER_NAME = re.compile(r"[\w-]*\w")  # names a file, and stands in dotted names of params


class SpaceParams(Params):
    """A TF-IDF vocabulary and its truncated SVD, fitted on documents of the whole catalogue."""

    documents: tuple[Document, ...] = Field(
        default=("item",),
        min_length=1,
        description=DOCUMENTS,
    )
    dim: int = Field(default=256, ge=1, le=4096, description="width; fewer where the documents have no higher rank")
    ngram: int = Field(default=1, ge=1, le=4, description="words; longest run that is a term")
    min_df: int = Field(default=2, ge=1, description="documents; terms in fewer are left out")
    max_df: float = Field(default=0.5, gt=0, le=1, description="share of the documents; terms in more are left out")
    max_features: int = Field(default=200_000, ge=1, description="terms kept, those in most documents first")
    sublinear: bool = Field(default=True, description="true: 1 + log(count) instead of the count")
    iterations: int = Field(default=4, ge=1, le=50, description="power iterations of the randomised SVD")


class EncoderParams(Params):
    """What every encoder has."""

    kind: str
    storage: Literal["fp32", "fp16"] = Field(
        default="fp32", description="fp32 | fp16, of the file; what reads it computes in fp32"
    )

    @property
    def of_units(self) -> bool:
        """Whether it writes several vectors per item."""
        return False


class SpaceEncoder(EncoderParams):
    """An encoder that reads one of the text spaces."""

    space: str = Field(description="name of the text space, in embed.spaces")


class Tfidf(SpaceEncoder):
    """One sparse vector per item, as wide as the vocabulary: of a space without its SVD."""

    kind: Literal["tfidf"] = Field(
        description="tfidf: one sparse vector per item, for cooccurrence_content and candidate_ranker"
    )
    document: Document = Field(default="item", description=DOCUMENTS)


class TfidfSvd(SpaceEncoder):
    """One vector per item of one kind of document."""

    kind: Literal["tfidf_svd"] = Field(description="tfidf_svd: one vector per item, of its text")
    document: Document = Field(default="item", description=DOCUMENTS)


class TfidfSvdUnits(SpaceEncoder):
    """Up to `units` vectors per item: its title, then its sentences and attributes in turns."""

    kind: Literal["tfidf_svd_units"] = Field(description="tfidf_svd_units: several vectors per item, of its text")
    units: int = Field(default=8, ge=1, le=256, description="vectors per item at most: title, sentences, attributes")

    @property
    def of_units(self) -> bool:
        """Whether it writes several vectors per item."""
        return True


class PictureDescriptors(EncoderParams):
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


class ModelEncoder(EncoderParams):
    """An encoder that is a trained model."""

    model: ModelParams = Field(description="the trained model")
    centre: bool = Field(default=True, description="true: the mean vector is subtracted before the scaling to length 1")


class TextModelEncoder(ModelEncoder):
    """A text encoder or a language model."""

    dtype: Literal["fp32", "bf16"] = Field(
        default="fp32", description="fp32 | bf16, of the model's arithmetic; vectors are pooled in fp32"
    )
    batch_tokens: int = Field(
        default=1024, ge=1, le=1_000_000, description="tokens that are encoded at a time, padding included"
    )

    pooling: Literal["mean", "cls", "last", "max", "mean_sqrt_len"] = Field(
        default="mean",
        description="the tokens' states that make a vector: mean | cls (the first) | last | max (of each dimension) | "
        "mean_sqrt_len (the sum by the root of the length)",
    )
    prefix: str = Field(default="", description="instruction before each text, as the model was trained with")
    max_tokens: int = Field(default=256, ge=4, description="tokens of a chunk of text, prefix and marks included")
    overlap: int = Field(
        default=32, ge=0, description="tokens that a chunk shares with the one before it, half a chunk at most"
    )
    max_chunks: int = Field(
        default=4, ge=1, le=1000, description="chunks of a text, whose vectors are averaged by length; 1 = cut the rest"
    )


class TransformerEncoder(TextModelEncoder):
    """One vector per item of one kind of document, by a trained text encoder or language model."""

    kind: Literal["transformer"] = Field(description="transformer: one vector per item, of its text, by a model")
    document: Document = Field(default="item", description=DOCUMENTS)


class TransformerUnits(TextModelEncoder):
    """Up to `units` vectors per item, as `tfidf_svd_units` has them, by a trained model."""

    kind: Literal["transformer_units"] = Field(
        description="transformer_units: several vectors per item, of its text, by a model"
    )
    units: int = Field(default=8, ge=1, le=256, description="vectors per item at most: title, sentences, attributes")

    @property
    def of_units(self) -> bool:
        """Whether it writes several vectors per item."""
        return True


class AdapterParams(Params):
    """Low-rank adaptation of a frozen model."""

    rank: int = Field(default=8, ge=1, le=1024, description="of each adapter")
    alpha: int = Field(default=16, ge=1, description="an adapter's output is scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of an adapter's input, in training")


class ContrastiveEncoder(TextModelEncoder):
    """One vector per item, by a text model fine-tuned on the catalogue: views of an item attract, others repel."""

    kind: Literal["contrastive"] = Field(
        description="contrastive: as transformer, by a model fine-tuned on the item texts"
    )
    drop: float = Field(default=0.4, ge=0, lt=1, description="share of an item's pieces that a view leaves out")
    temperature: float = Field(default=0.05, gt=0, description="of the cosines in InfoNCE; lower = sharper")
    items_per_batch: int = Field(default=64, ge=2, le=4096, description="items that repel each other in a step")
    view_tokens: int = Field(default=64, ge=4, description="tokens of a view in training; the rest is cut")
    lora: AdapterParams = Field(default=AdapterParams(), description="adapters in every linear layer")
    epochs: int = Field(default=3, ge=0, description="passes over the items; the last one's weights stay")
    learning_rate: float = Field(default=2e-4, gt=0, description="of AdamW, after the warm-up")
    warmup_steps: int = Field(default=20, ge=0, description="steps over which the learning rate rises")


class VisionEncoder(ModelEncoder):
    """One vector per picture, by a trained image model: CLIP, SigLIP, DINOv2 and others."""

    kind: Literal["vision"] = Field(description="vision: one vector per item, of its picture, by a model")
    batch_size: int = Field(default=32, ge=1, le=4096, description="pictures that are encoded at a time")
    pooling: Literal["own", "cls", "mean"] = Field(
        default="own", description="own (CLIP's and SigLIP's image features, DINOv2's pooled state) | cls | mean"
    )


class MllmEncoder(ModelEncoder):
    """One vector per item, of its words and picture together, by a multimodal language model."""

    kind: Literal["mllm"] = Field(description="mllm: one vector per item, of words and picture, by a multimodal model")
    batch_size: int = Field(default=8, ge=1, le=4096, description="items that are encoded at a time")
    pooling: Literal["last", "mean"] = Field(
        default="last", description="the last layer's states that make a vector: last (token) | mean"
    )
    prompt: str = Field(
        default="$item\n\nSum up this item in one word.", description="what is asked; $item = the item's words"
    )
    picture_side: int = Field(
        default=448, ge=32, le=4096, description="pixels; larger pictures are shrunk to this longer side"
    )
    max_characters: int = Field(
        default=2000, ge=40, le=100_000, description="characters of an item's words in the prompt; the rest is cut"
    )

    @model_validator(mode="after")
    def _prompt_has_the_item(self) -> Self:
        template = Template(self.prompt)
        if not template.is_valid() or template.get_identifiers() != ["item"]:
            raise InvalidValue("`prompt` with `$item` and no other `$` (a dollar sign is `$$`)", f"`{self.prompt}`")
        return self


class Concat(EncoderParams):
    """Vectors of several encoders side by side, each at unit length; an item has one if it has any part."""

    kind: Literal["concat"] = Field(description="concat: vectors of other encoders side by side, as one")
    parts: tuple[str, ...] = Field(min_length=2, description="names of encoders with one vector per item")
    weights: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        default=None, description="length of each part; its square weighs the part's cosine. null = all 1"
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if len(set(self.parts)) < len(self.parts):
            raise InvalidValue("every part once", ", ".join(self.parts))
        if self.weights is not None and len(self.weights) != len(self.parts):
            raise InvalidValue(f"a weight for each of {len(self.parts)} parts", f"{len(self.weights)}")
        return self


Encoder = Annotated[
    Tfidf
    | TfidfSvd
    | TfidfSvdUnits
    | PictureDescriptors
    | TransformerEncoder
    | TransformerUnits
    | ContrastiveEncoder
    | VisionEncoder
    | MllmEncoder
    | Concat,
    Field(discriminator="kind"),
]


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
    def _names_exist(self) -> Self:
        for name, encoder in self.encoders.items():
            if not ENCODER_NAME.fullmatch(name):
                raise InvalidValue("names of encoders to be of letters, digits, `_` and inner `-`", f"`{name}`")
            if isinstance(encoder, SpaceEncoder) and encoder.space not in self.spaces:
                raise InvalidValue(
                    f"encoder `{name}` to name one of the spaces {', '.join(self.spaces)}", f"`{encoder.space}`"
                )
            if isinstance(encoder, Concat):
                fitting = [part for part, other in self.encoders.items() if _can_be_a_part(other)]
                wrong = [part for part in encoder.parts if part not in fitting]
                if wrong:
                    raise InvalidValue(
                        f"parts of `{name}` to be out of {', '.join(fitting) or 'none'}", f"`{wrong[0]}`"
                    )
        return self

    def is_sparse(self, name: str) -> bool:
        """Return whether an encoder writes sparse vectors, which `train_content` and `train_ranker` alone read."""
        encoder = self.encoders[name]
        if isinstance(encoder, Concat):
            return any(isinstance(self.encoders[part], Tfidf) for part in encoder.parts)
        return isinstance(encoder, Tfidf)


def _can_be_a_part(encoder: EncoderParams) -> bool:
    return not encoder.of_units and not isinstance(encoder, Concat)
