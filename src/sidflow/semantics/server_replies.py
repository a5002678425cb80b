"""What an OpenAI-compatible server's replies ask for: how long to wait before the next try."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds


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
