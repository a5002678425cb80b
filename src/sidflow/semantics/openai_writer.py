"""A writer that asks an OpenAI-compatible server, many requests at once.

Overload, dropped connections and broken replies are tried again with growing pauses; a request that the server refuses
is a failed answer, which costs no other item. A server that fails for good, or a spent budget, ends the run in one
line; every answer until then is in the response store.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from queue import SimpleQueue
from typing import Any, NamedTuple

import httpx2
import openai
from anyio import CancelScope
from anyio.from_thread import start_blocking_portal

from sidflow.core.errors import InputError
from sidflow.core.runtime import Runtime
from sidflow.core.stage import print_progress
from sidflow.models.shrink import shrunk_jpeg
from sidflow.semantics.answers import HUGE
from sidflow.semantics.budget import cost_of
from sidflow.semantics.params import OpenAIParams
from sidflow.semantics.requests import Request, answer_schema
from sidflow.semantics.server_replies import HugeReplyError, growing_pause, limit_body, requested_pause
from sidflow.semantics.store import REJECTED, Response
from sidflow.semantics.writers import Writer

KEY_VARIABLE = "OPENAI_API_KEY"
TRIES = 7  # of a request that meets an overloaded or broken server
BATCH_SECONDS = 0.1  # answers are handed over, and kept, this often
MOST_TOKENS = 2**31 - 1  # of one answer; the store's sums stay within SQLite's integers
REJECTIONS = (400, 413, 422)  # statuses that refuse one request; any other below 500 is of key, account or address


# What a reply raises that has not the form of a chat completion
MALFORMED = (ValueError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)


class _Rejection(NamedTuple):
    status: int
    message: str


class OpenAIWriter(Writer):
    """Asks the server of the runtime settings with bounded concurrency."""

    def __init__(self, params: OpenAIParams, runtime: Runtime) -> None:
        if not runtime.server:
            raise InputError(
                "runtime.yaml:server",
                expected="the address of an OpenAI-compatible server, such as http://localhost:8000/v1",
                found="none",
                remedy="set server in runtime.yaml, or SIDFLOW_SERVER",
            )
        _check_address(runtime.server)
        self.model, self.revision = params.model, params.revision
        self._params, self._runtime = params, runtime
        self._answered = self._tokens = 0
        self._cost = 0.0

    def respond(self, requests: Mapping[str, Request]) -> Iterator[list[Response]]:
        """Yield the responses as they come, about ten times a second."""
        if not requests:
            return
        batches: SimpleQueue[list[Response] | BaseException | None] = SimpleQueue()

        async def fill() -> None:
            try:
                async for responses in self._batches(requests):
                    batches.put(responses)
            except BaseException as error:  # of any kind: it is raised where the responses are read
                batches.put(error)
            finally:
                batches.put(None)

        # A thread of its own sends and reads while the responses of before are kept.
        with start_blocking_portal() as portal:  # left early, it cancels what is under way
            portal.start_task_soon(fill)
            while (responses := batches.get()) is not None:
                if isinstance(responses, BaseException):
                    raise responses
                yield responses

    async def _batches(self, requests: Mapping[str, Request]) -> AsyncGenerator[list[Response], None]:
        """Yield lists of responses; an error is raised after what was answered before it is handed over."""
        limits = self._runtime
        async with openai.AsyncOpenAI(
            base_url=limits.server,
            api_key=os.environ.get(KEY_VARIABLE) or "none",
            timeout=limits.request_seconds,
            max_retries=0,  # the pauses are ours: broken replies need them too
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [limit_body]}),
        ) as client:
            waiting = iter(requests.items())
            running: set[asyncio.Task[Response]] = set()
            ended: asyncio.Queue[asyncio.Task[Response]] = asyncio.Queue()
            responses: list[Response] = []
            error: InputError | None = None
            due = 0.0  # when the responses are handed over
            try:
                while True:
                    while error is None and len(running) < limits.concurrency:
                        following = next(waiting, None)
                        if following is None:
                            break
                        task = asyncio.create_task(self._ask(client, *following))
                        task.add_done_callback(ended.put_nowait)
                        running.add(task)
                    if not running:
                        break
                    for task in await _next_ended(ended, due if responses else None):
                        running.discard(task)
                        try:
                            response = task.result()
                        except InputError as failure:
                            error = error or failure
                            continue
                        if not responses:
                            due = time.monotonic() + BATCH_SECONDS
                        responses.append(response)
                        self._count(response)
                    error = error or self.spent_budget()
                    if responses and time.monotonic() >= due:
                        yield responses
                        responses = []
                if responses:
                    yield responses
                if error is not None:
                    raise error
            finally:
                for task in running:
                    task.cancel()
                with CancelScope(shield=True):  # else what ends this loop would end the waiting too
                    await asyncio.gather(*running, return_exceptions=True)
                    await client.close()

    async def _ask(self, client: openai.AsyncOpenAI, key: str, request: Request) -> Response:
        """Return the response to one request.

        Raises:
            InputError: the server does not answer, or refuses every request.
        """
        failure = ""
        side = self._params.picture_side
        if request.picture is None:
            content = _message_content(request, side)
        else:  # shrinking a picture takes time in which answers come
            content = await asyncio.to_thread(_message_content, request, side)
        arguments = self._arguments(content, request)
        for attempt in range(TRIES):
            try:
                async with asyncio.timeout(self._runtime.request_seconds):
                    completion = await client.chat.completions.create(**arguments)
                return self._response(key, completion)
            except HugeReplyError:
                return Response(key, "", HUGE, 0, 0, f"{self.model}@{self.revision}")
            except openai.APIStatusError as error:
                if error.status_code not in (408, 409, 425, 429) and error.status_code < 500:
                    return self._rejected(key, _Rejection(error.status_code, _one_line(error)))
                failure = f"status {error.status_code}: {_one_line(error)}"
                pause = requested_pause(error.response.headers)
            except (openai.APIError, TimeoutError, *MALFORMED) as error:
                failure, pause = f"{type(error).__name__}: {_one_line(error)}", None
            if attempt + 1 < TRIES:
                await asyncio.sleep(pause if pause is not None else growing_pause(attempt))
        raise InputError(
            self._runtime.server,
            expected=f"an answer within {TRIES} tries",
            found=failure,
            remedy="check the server, and run the same command again: what was answered is kept",
        )

    def _arguments(self, content: list[dict[str, Any]], request: Request) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": self._params.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._params.max_tokens,
            "temperature": self._params.temperature,
        }
        if self._params.json_schema:
            schema = {"name": f"{request.view}_view", "schema": answer_schema(request.view), "strict": True}
            arguments["response_format"] = {"type": "json_schema", "json_schema": schema}
        return arguments

    def _response(self, key: str, completion: Any) -> Response:
        """Return the completion as a response.

        Raises:
            one of MALFORMED: it has not the form of a chat completion.
        """
        choice = completion.choices[0]
        text = choice.message.content
        if text is not None and not isinstance(text, str):
            raise TypeError("a content that is no text")
        usage = completion.usage
        return Response(
            key=key,
            text=_encodable(text or getattr(choice.message, "refusal", None) or ""),
            finish_reason=_encodable(str(choice.finish_reason or "stop")),
            input_tokens=_token_count(usage.prompt_tokens) if usage else 0,
            output_tokens=_token_count(usage.completion_tokens) if usage else 0,
            model=f"{self.model}@{self.revision}",
        )

    def _rejected(self, key: str, rejection: _Rejection) -> Response:
        """Return the server's refusal of one request as a response.

        Raises:
            InputError: the refusal is of the key, the account, the model or the address, not of the request.
        """
        if rejection.status not in REJECTIONS:
            hints = {401: f"set {KEY_VARIABLE}", 402: "pay the server's account", 403: f"set {KEY_VARIABLE}"}
            hint = hints.get(rejection.status, "check server and model")
            raise InputError(
                self._runtime.server,
                expected=f"answers of the model {self.model}",
                found=f"status {rejection.status}: {rejection.message}",
                remedy=f"{hint}, and run the same command again: what was answered is kept",
            )
        message = f"status {rejection.status}: {rejection.message}"
        return Response(key, message, REJECTED, 0, 0, f"{self.model}@{self.revision}")

    def _count(self, response: Response) -> None:
        self._answered += response.finish_reason != REJECTED
        self._tokens += response.input_tokens + response.output_tokens
        self._cost += cost_of(self._runtime, response.input_tokens, response.output_tokens)
        self.count([response])

    def close(self) -> None:
        """Print what this run asked and what it cost."""
        if self._answered:
            priced = self._runtime.input_price or self._runtime.output_price
            cost = f", cost {self._cost:.2f}" if priced else ""
            print_progress(f"{self._answered} answers of {self.model}, {self._tokens} tokens{cost}")


async def _next_ended(ended: asyncio.Queue[asyncio.Task[Response]], due: float | None) -> list[asyncio.Task[Response]]:
    """Return the tasks that have ended: at least one, or none where the clock reaches `due` first."""
    timeout = None if due is None else max(0.0, due - time.monotonic())
    try:
        tasks = [await asyncio.wait_for(ended.get(), timeout)]
    except TimeoutError:
        return []
    while not ended.empty():
        tasks.append(ended.get_nowait())
    return tasks


def _message_content(request: Request, side: int) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if request.picture is not None:
        picture = base64.b64encode(shrunk_jpeg(request.picture, side)).decode()
        content.append({"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{picture}"}})
    content.append({"type": "text", "text": request.prompt})
    return content


def _check_address(server: str) -> None:
    """Raise where the server's address is none that can be called."""
    try:
        address = httpx2.URL(server)
        fault = "" if address.scheme in ("http", "https") and address.host else "no http:// or https:// before a host"
    except httpx2.InvalidURL as error:
        fault = _one_line(error)
    if fault:
        raise InputError(
            "runtime.yaml:server",
            expected="an address such as http://localhost:8000/v1",
            found=f"`{server}`: {fault}",
            remedy="correct server in runtime.yaml, or SIDFLOW_SERVER",
        )


def _token_count(count: Any) -> int:
    tokens = int(count)
    if not 0 <= tokens <= MOST_TOKENS:
        raise ValueError(f"{tokens} tokens")
    return tokens


def _encodable(text: str) -> str:
    """Return `text` with `?` for half a surrogate pair, which JSON can spell and no file or store takes."""
    return text.encode("utf-8", "replace").decode()


def _one_line(error: Exception) -> str:
    """Return an error's message in one line, without a credential."""
    message = " ".join(_encodable(str(error)).split())
    key = os.environ.get(KEY_VARIABLE)
    return (message.replace(key, "***") if key else message)[:300] or type(error).__name__
