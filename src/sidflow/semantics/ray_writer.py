"""A writer that runs a model on many GPUs of a Ray cluster: `ray.data.llm` with vLLM engines.

The requests become a Ray dataset; a processor of `ray.data.llm` maps them, and blocks of responses come back as they
are done, in any order, and are kept at once. Ray is an optional extra, and vLLM is needed only where the engines run.
No function or class of this package runs there: what the processor calls is sent with it.

Source: `ray.data.llm.build_processor`, `vLLMEngineProcessorConfig` (Ray 2.60).
"""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sidflow.core.errors import InputError
from sidflow.core.runtime import Runtime
from sidflow.core.stage import print_progress
from sidflow.models.prompted import PromptedModel, prompted_model
from sidflow.models.shrink import shrunk_jpeg
from sidflow.semantics.params import RayParams
from sidflow.semantics.requests import Request, answer_schema
from sidflow.semantics.store import REJECTED, Response
from sidflow.semantics.writers import Writer, require_sight

SLOT = "describe.writer.model"
ERROR = "__inference_error__"  # column of a row that the engine did not answer
REJECTIONS = ("ValueError", "VLLMValidationError")  # of one request: too long, or a picture that is none
Row = dict[str, Any]
RowFunction = Callable[[Row], Row]


class RayWriter(Writer):
    """Has vLLM engines on a Ray cluster answer; the cluster is joined when the first request is there."""

    chunk_items = 50_000  # engines start once a chunk

    def __init__(self, params: RayParams, runtime: Runtime) -> None:
        """Locate the model and check that Ray is installed.

        Raises:
            InputError: the model is not here, is untrained or of another kind, or Ray is missing.
        """
        if params.model.weights == "random":
            raise InputError(
                f"params.yaml:{SLOT}.weights",
                expected="pretrained: engines load a folder's weights",
                found="random",
                remedy="set backend: transformers for a control with random weights",
            )
        _require_ray()
        self._params, self._runtime = params, runtime
        self._model = prompted_model(params.model, SLOT)
        self.model, self.revision = self._model.name, self._model.revision
        self._answered = self._tokens = 0

    def respond(self, requests: Mapping[str, Request]) -> Iterator[list[Response]]:
        """Yield the responses of each block.

        Raises:
            InputError: a request has a picture and the model takes none, the engines fail, or a budget is spent.
        """
        if not requests:
            return
        if not self._model.sees:
            require_sight(requests, f"{self.model}, a {self._model.config.model_type} that reads text alone")
        rows = (request_row(key, request, self._params) for key, request in requests.items())
        missing, failure = len(requests), ""
        try:
            for block in ray_blocks(rows, self._model, self._params, self._runtime):
                responses = []
                for row in block:
                    error = str(row.get(ERROR) or "")
                    if error and not error.startswith(REJECTIONS):
                        failure = failure or error
                    else:
                        responses.append(self._response(row, error))
                missing -= len(responses)
                if responses:
                    self.count(responses)
                    yield responses
                if (spent := self.spent_budget()) is not None:
                    raise spent
        except InputError:
            raise
        except Exception as error:  # Ray raises what a worker raised, in classes of its own
            raise self._error(f"{type(error).__name__}: {error}") from error
        if missing:
            raise self._error(failure or f"{missing} rows too few")

    def _response(self, row: Row, error: str) -> Response:
        name = f"{self.model}@{self.revision}"
        if error:
            return Response(str(row["key"]), _one_line(error), REJECTED, 0, 0, name)
        tokens, written = int(row["input_tokens"]), int(row["output_tokens"])
        self._answered += 1
        self._tokens += tokens + written
        reason = "length" if written >= self._params.max_tokens else "stop"
        return Response(str(row["key"]), str(row["text"]), reason, tokens, written, name)

    def _error(self, failure: str) -> InputError:
        return InputError(
            f"engines of {self.model} on Ray",
            expected="an answer to every request",
            found=_one_line(failure),
            remedy="see the workers' logs, and run the same command again: what was answered is kept",
        )

    def close(self) -> None:
        """Print what this run generated."""
        if self._answered:
            print_progress(f"{self._answered} answers of {self.model}, {self._tokens} tokens")


def request_row(key: str, request: Request, params: RayParams) -> Row:
    """Return a request as a row of plain strings, which the engines' machines turn into a chat."""
    picture = ""
    if request.picture is not None:
        picture = base64.b64encode(shrunk_jpeg(request.picture, params.picture_side)).decode()
    schema = json.dumps(answer_schema(request.view)) if params.json_schema else ""
    return {"key": key, "prompt": request.prompt, "picture": picture, "schema": schema}


def row_functions(params: RayParams) -> tuple[RowFunction, RowFunction]:
    """Return what makes the engine's input of a row, and a row of its output.

    They hold nothing of this package, so that Ray sends them as they are to machines that lack it.
    """
    decoding = {"temperature": params.temperature, "max_tokens": params.max_tokens}

    def to_engine(row: Row) -> Row:
        content = [{"type": "text", "text": row["prompt"]}]
        if row["picture"]:
            url = {"url": f"data:image/jpeg;base64,{row['picture']}"}
            content.insert(0, {"type": "image_url", "image_url": url})  # type: ignore[dict-item]
        sampling: Row = dict(decoding)
        if row["schema"]:
            sampling["structured_outputs"] = {"json": row["schema"]}
        return {"messages": [{"role": "user", "content": content}], "sampling_params": sampling}

    def from_engine(row: Row) -> Row:
        return {
            "key": row["key"],
            "text": row["generated_text"],
            "input_tokens": row["num_input_tokens"],
            "output_tokens": row["num_generated_tokens"],
        }

    return to_engine, from_engine


def ray_blocks(rows: Iterable[Row], model: PromptedModel, params: RayParams, runtime: Runtime) -> Iterator[list[Row]]:
    """Yield the processor's output rows, a block at a time, as the engines finish them.

    Args:
        rows: from `request_row`.
        model: the engines load its folder.
        params: prompts and decoding.
        runtime: the cluster, and how many engines of how many GPUs.
    """
    import ray  # pyright: ignore[reportMissingImports]

    if not ray.is_initialized():
        ray.init(address=runtime.ray_address or None, log_to_driver=False, logging_level=logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.from_items(list(rows))
    processor = engine_processor(model, params, runtime)
    for block in processor(dataset).iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield block.to_pylist()


def engine_processor(model: PromptedModel, params: RayParams, runtime: Runtime) -> Callable[[Any], Any]:
    """Return what maps a dataset of rows to one of answers: vLLM engines, each with its own part of the GPUs."""
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig  # pyright: ignore[reportMissingImports]

    to_engine, from_engine = row_functions(params)
    config = vLLMEngineProcessorConfig(
        model_source=str(model.folder.resolve()),
        engine_kwargs={
            "tensor_parallel_size": runtime.engine_gpus,
            "max_model_len": min(params.context_tokens, model.context or params.context_tokens),
            "enable_prefix_caching": True,
        },
        concurrency=runtime.engines,
        batch_size=runtime.concurrency,
        should_continue_on_error=True,
        prepare_multimodal_stage={"enabled": True, "chat_template_content_format": "openai"} if model.sees else False,
    )
    return build_processor(config, preprocess=to_engine, postprocess=from_engine)


def _require_ray() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to Ray's makers
    try:
        import ray.data  # noqa: F401 # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            "params.yaml:describe.writer.backend",
            expected="Ray, for backend: ray",
            found=str(error),
            remedy='pip install -e ".[ray]", and an image with vLLM where the engines run',
        ) from error


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
