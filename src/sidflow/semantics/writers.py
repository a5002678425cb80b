"""What a writer is, and which one params name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from sidflow.core.errors import InputError
from sidflow.core.runtime import Runtime
from sidflow.semantics.budget import Budget
from sidflow.semantics.params import GenerationParams, OpenAIParams, RayParams, ReplayParams, TransformersParams
from sidflow.semantics.requests import Request
from sidflow.semantics.store import Response


class Writer(ABC):
    """Answers requests; `model` and `revision` are part of a response's key."""

    model: str
    revision: str
    chunk_items = 5000  # items whose requests are made, and are in memory, at a time
    budget: Budget | None = None  # where the runtime settings have one; a spent one ends `respond`
    asks = True  # a model; where it does not, a stored rejection stands

    def count(self, responses: list[Response]) -> None:
        """Count responses towards the budget."""
        if self.budget is not None:
            self.budget.count(responses)

    def spent_budget(self) -> InputError | None:
        """Return an error where this run and those before have spent a budget."""
        return self.budget.error() if self.budget is not None else None

    @abstractmethod
    def respond(self, requests: Mapping[str, Request]) -> Iterator[list[Response]]:
        """Yield the responses to `requests` in lists, in any order; each list is kept before the next is made.

        Args:
            requests: by key.

        Raises:
            InputError: the model cannot be used, or a budget is spent; what was yielded is kept.
        """

    def close(self) -> None:  # noqa: B027  # most writers hold nothing
        """Free what the writer holds."""


def require_sight(requests: Mapping[str, Request], model: str) -> None:
    """Check that no request has a picture, for a model that takes none.

    Raises:
        InputError: one has.
    """
    with_pictures = [request for request in requests.values() if request.picture is not None]
    if with_pictures:
        raise InputError(
            "params.yaml:describe.writer.model",
            expected=f"a model that sees, for the {with_pictures[0].view} view",
            found=model,
            count=len(with_pictures),
            example=f"item {with_pictures[0].item_id}",
            remedy="name an image-text-to-text model, or take the views image and joint out of describe.views",
        )


class ReplayWriter(Writer):
    """Answers nothing: every response has to be in the store."""

    asks = False

    def __init__(self, params: ReplayParams) -> None:
        self.model, self.revision = params.model, params.revision

    def respond(self, requests: Mapping[str, Request]) -> Iterator[list[Response]]:
        """Raise an error where a response is missing."""
        if requests:
            raise InputError(
                f"response store, model {self.model} at {self.revision}",
                expected="a response to every request",
                found="missing ones",
                count=len(requests),
                example=next(iter(requests.values())).item_id,
                remedy="merge a store that holds them (`sidflow responses merge FILE`), or name a writer that can ask",
            )
        return iter(())


def open_writer(params: GenerationParams, runtime: Runtime) -> Writer:
    """Return the writer that params name; its libraries are imported here.

    Raises:
        InputError: it cannot be used on this machine.
    """
    if isinstance(params, ReplayParams):
        return ReplayWriter(params)
    if isinstance(params, OpenAIParams):
        from sidflow.semantics.openai_writer import OpenAIWriter

        return OpenAIWriter(params, runtime)
    if isinstance(params, RayParams):
        from sidflow.semantics.ray_writer import RayWriter

        return RayWriter(params, runtime)
    if isinstance(params, TransformersParams):
        from sidflow.semantics.transformers_writer import TransformersWriter

        return TransformersWriter(params, runtime)
    raise TypeError(f"no writer for {type(params).__name__}")
