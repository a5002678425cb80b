import time

import pytest

from sidflow.semantics.server_replies import LONGEST_PAUSE, growing_pause, requested_pause

NOON = "Sun, 06 Nov 1994 12:00:00 GMT"


@pytest.fixture
def far_zone(monkeypatch):
    """Have the machine's local time 9 hours before that of HTTP."""
    monkeypatch.setenv("TZ", "UTC-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("0.7", 0.7),
        ("0", 0.0),
        ("3600", LONGEST_PAUSE),
        ("inf", LONGEST_PAUSE),
        ("Sun, 06 Nov 1994 12:00:07 GMT", 7.0),
        ("Sunday, 06-Nov-94 12:00:07 GMT", 7.0),
        ("Sun Nov  6 12:00:07 1994", 7.0),
        ("Sun, 06 Nov 1994 11:00:00 GMT", 0.0),
        ("Mon, 07 Nov 1994 12:00:00 GMT", LONGEST_PAUSE),
        ("-1", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Sun, 99 Nov 1994 12:00:00 GMT", None),
    ],
)
def test_the_pause_that_a_server_asks_for(asked, seconds, far_zone):
    assert requested_pause({"retry-after": asked, "date": NOON}) == seconds


def test_a_reply_that_asks_for_no_pause():
    assert requested_pause({}) is None


def test_a_date_is_compared_with_this_clock_where_the_server_tells_none(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 784_123_170.0)  # half a minute before noon
    assert requested_pause({"retry-after": NOON}) == requested_pause({"retry-after": NOON, "date": "today"}) == 30.0


def test_pauses_that_no_server_asks_for_grow_to_the_longest():
    assert [growing_pause(attempt) for attempt in (0, 1, 2, 20)] == [
        pytest.approx(most, rel=0.5) for most in (0.375, 0.75, 1.5, 45.0)
    ]
    assert max(growing_pause(30) for _ in range(200)) <= LONGEST_PAUSE
