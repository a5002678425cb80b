"""How a server's replies are read: the pause that they ask for, and no more of a body than an answer may have."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import httpx2

from sidflow.semantics.answers import MAX_CHARACTERS

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds
MAX_BODY = 16 * MAX_CHARACTERS  # bytes; JSON may take 12 for a character, and the rest of a reply is small


class HugeReplyError(Exception):
    """An answer's body is longer than MAX_BODY."""


async def limit_body(response: httpx2.Response) -> None:
    """Have no more than MAX_BODY bytes of a reply's body read, decompressed; a hook of the client for every reply.

    Reading an answer of more bytes raises HugeReplyError; an error's message is cut there. The connection is closed.
    """
    response.stream = _LimitedBody(response)
    response.headers.pop("content-encoding", None)  # the stream is decoded


class _LimitedBody(httpx2.AsyncByteStream):
    def __init__(self, response: httpx2.Response) -> None:
        self._whole = httpx2.Response(
            response.status_code, headers=response.headers, stream=response.stream, request=response.request
        )

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._whole.aiter_bytes():
            size += len(part)
            if size > MAX_BODY:
                if self._whole.is_success:
                    raise HugeReplyError
                return
            yield part

    async def aclose(self) -> None:
        await self._whole.aclose()


def requested_pause(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a reply asks to wait, 60 at most; None where it asks for nothing that can be read.

    `Retry-After` is a number of seconds, or a date of HTTP (RFC 9110, section 10.2.3), which is compared with the
    reply's own `Date`, so that the two machines' clocks need not agree. A date in the past is no wait.

    Args:
        headers: of the reply; names in lower case.
    """
    asked = headers.get("retry-after", "")
    try:
        seconds = float(asked)
    except ValueError:
        until, now = _timestamp(asked), _timestamp(headers.get("date", ""))
        if until is None:
            return None
        seconds = max(0.0, until - (time.time() if now is None else now))
    return min(seconds, LONGEST_PAUSE) if seconds >= 0 else None


def _timestamp(date: str) -> float | None:
    """Return a date of HTTP in seconds since 1970, None where it is none."""
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def growing_pause(attempt: int) -> float:
    """Return the seconds to wait after try `attempt`, from 0: doubled each time, and random, to spread requests."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1.0)
