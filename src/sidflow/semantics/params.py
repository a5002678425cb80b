"""Params of `describe`: which views, and who writes them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sidflow.artifacts.features import IMAGE, JOINT, KEYWORDS, TEXT
from sidflow.core.errors import InvalidValue
from sidflow.core.params import Params
from sidflow.models.params import ModelParams

View = Literal["text", "image", "joint", "keywords"]


class RulesParams(Params):
    """Limits of the rule-based writer: no model, no weights."""

    backend: Literal["rules"] = Field(
        default="rules", description="rules: catalogue words and measured picture properties; no language model"
    )
    max_sentences: int = Field(
        default=3,
        ge=0,
        le=50,
        description="sentences of the description in the text view; the joint view takes the first",
    )
    max_characters: int = Field(default=600, ge=40, le=20_000, description="characters of a view, cut at a word's end")
    colours: int = Field(default=3, ge=1, le=8, description="colours named per picture, the largest first")
    min_share: float = Field(
        default=0.05, gt=0, lt=1, description="share of the pixels from which on a colour is named"
    )
    side: int = Field(default=64, ge=32, le=256, description="pixels; pictures are measured at side x side")


def default_prompts() -> dict[View, str]:
    """Return the names of the prompts that views have unless params name others."""
    return {TEXT: "text-1", IMAGE: "image-1", JOINT: "joint-1", KEYWORDS: "keywords-1"}


class GenerationParams(Params):
    """What a language model is asked, and how it decodes.

    All that changes a prompt or an answer is part of a response's key in the store. How often is asked (`attempts`) and
    the room that an engine has (`context_tokens`) are not.
    """

    prompts: dict[View, str] = Field(
        default_factory=default_prompts, description="of each view: the file prompts/NAME.md; a new text is a new name"
    )
    max_tokens: int = Field(default=300, ge=16, le=8192, description="tokens of an answer; a longer one is cut")
    temperature: float = Field(default=0.0, ge=0, le=2, description="0: greedy")
    picture_side: int = Field(
        default=448, ge=32, le=4096, description="pixels; larger pictures are shrunk to this longer side"
    )
    max_characters: int = Field(
        default=2000, ge=40, le=100_000, description="characters of an item's words in a prompt"
    )
    attempts: int = Field(
        default=2, ge=1, le=5, description="times that a request is asked where the answer cannot be used"
    )


class GuidedParams(GenerationParams):
    """Whether an answer is held to the JSON schema while it is written. Where it is not is part of a response's key."""

    json_schema: bool = Field(
        default=True,
        description="true: the answer is held to its schema while it is written | false: other answers, kept apart",
    )


class OpenAIParams(GuidedParams):
    """A model behind an OpenAI-compatible server, such as vLLM; runtime settings name the server."""

    backend: Literal["openai"] = Field(description="openai: any OpenAI-compatible server (runtime.yaml: server)")
    model: str = Field(min_length=1, description="the model's name on the server")
    revision: str = Field(min_length=1, description="commit or version of its weights; the server does not tell")


class ChosenDtypeParams(GenerationParams):
    """A dtype that params may choose. Chosen, it is part of a response's key."""

    dtype: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="of the arithmetic: auto (bf16 on CUDA, else fp32; stored answers of both count) | fp32 | bf16",
    )


class TransformersParams(ChosenDtypeParams):
    """A model that runs on this machine, through transformers."""

    backend: Literal["transformers"] = Field(description="transformers: a model on this machine")
    model: ModelParams = Field(description="an image-text-to-text model, or a causal LM for views of text")


class RayParams(GuidedParams):
    """A model in vLLM engines on a Ray cluster; runtime settings name the cluster."""

    backend: Literal["ray"] = Field(description="ray: vLLM engines on a Ray cluster (runtime.yaml: engines)")
    model: ModelParams = Field(description="as for transformers; every machine sees its folder")
    context_tokens: int = Field(
        default=8192, ge=64, description="tokens of question and answer that an engine has memory for; more is rejected"
    )


class ReplayParams(ChosenDtypeParams, GuidedParams):
    """The response store alone: no model. A response that it does not hold is an error."""

    backend: Literal["replay"] = Field(description="replay: from the response store alone")
    model: str = Field(min_length=1, description="the model that wrote the responses")
    revision: str = Field(min_length=1, description="its commit or version")


WriterParams = Annotated[
    RulesParams | OpenAIParams | TransformersParams | RayParams | ReplayParams, Field(discriminator="backend")
]


class DescribeParams(Params):
    """Which views of an item are written, and by whom."""

    views: tuple[View, ...] = Field(
        default=(TEXT, IMAGE, JOINT), min_length=1, description="text | image | joint | keywords"
    )
    writer: WriterParams = Field(default=RulesParams(), description="writer of the views")
    max_failed_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="of a view's answers, the share of unusable ones above which the stage ends",
    )

    @model_validator(mode="after")
    def _views_are_distinct_and_have_prompts(self) -> DescribeParams:
        if len(set(self.views)) < len(self.views):
            raise InvalidValue("each view once", f"`views` {list(self.views)}")
        if isinstance(self.writer, GenerationParams):
            missing = [view for view in self.views if view not in self.writer.prompts]
            if missing:
                raise InvalidValue("a prompt of every view", f"none for `{missing[0]}` in `writer.prompts`")
        return self
