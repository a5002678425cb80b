"""The head of the page: what was run, and what was found of the method under test, metric by metric."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report.findings import CHIPS, EXPECTED, Finding, ahead, finding, reached
from sidflow.report.gather import Gathered, stars
from sidflow.report.glossary import Glossary
from sidflow.report.markup import Markup, join, number, percent, tag
from sidflow.report.naming import pretty


def headline(given: Gathered, words: Glossary) -> Markup:
    """Return the title, what was found on realised and on expected targets, and the sizes of the data."""
    board = given.leaderboard
    method, best = stars(board)
    facts = [
        ("users", given.ingest.get("users")),
        ("items to choose from", given.ingest.get("items_core", given.ingest.get("items"))),
        ("interactions", given.ingest.get("interactions")),
        ("items with a picture", given.ingest.get("items_with_picture")),
        ("items with text", given.ingest.get("items_with_text")),
        ("test queries", board["queries"]),
    ]
    tiles = [tag("div", tag("dd", number(value)), tag("dt", name)) for name, value in facts if isinstance(value, int)]
    return tag(
        "header",
        tag("p", "sidflow", tag("span", f"preset {given.preset}"), class_="eyebrow"),
        *_found(given, words, method, best),
        tag("dl", *tiles, class_="facts"),
    )


def _found(given: Gathered, words: Glossary, method: str | None, best: str | None) -> list[Markup | None]:
    board = given.leaderboard
    found = finding(board, method, board["primary"]) if method is not None else None
    if method is None or best is None or found is None:
        return [tag("h1", f"{len(board['recommenders'])} recommenders, side by side")]
    both = [found, finding(board, method, EXPECTED)]
    cards = [_card(one, board, method, best, words) for one in both if one is not None]
    return [
        tag("h1", *_sentence(found, method, best)),
        _lead(given, words, method, best),
        tag("div", *cards, class_="findings"),
    ]


def _sentence(found: Finding, method: str, best: str) -> list[object]:
    name = f"realised {pretty(found.metric)}"
    gain = percent(found.claimed, signed=True)
    if found.verdict == "shown":
        tail = {"reached": f"by the claimed {gain} or more", "excluded": f"by less than the claimed {gain}"}
        more = tail.get(str(found.claim), f"whether by the claimed {gain} is open")
        return [tag("em", method), f" is ahead of {best} in {name}, {more}"]
    if found.high < 0:
        return [tag("em", method), f" is behind {best} in {name}"]
    if found.claim == "excluded":
        return [tag("em", method), f" does not gain the claimed {gain} on {best} in {name}"]
    return [tag("em", method), f" is not shown to be ahead of {best} in {name}"]


def _lead(given: Gathered, words: Glossary, method: str, best: str) -> Markup:
    parts: list[object] = [
        tag("b", best),
        " was the best baseline on validation. Two questions are asked on the test part: is ",
        tag("b", method),
        " ahead of it at all, and by the ",
        words.link("claimed gain"),
        f" of {percent(given.leaderboard['claimed_gain'], signed=True)}?",
    ]
    mine, theirs = (given.metrics[name].get(f"{EXPECTED}_of_best") for name in (method, best))
    if mine is not None:
        parts.append(
            f" The generator of this catalogue is known: {method} reaches {percent(mine)} of the best possible "
            f"expected nDCG@10, {best} {percent(theirs)}."
        )
    return tag("p", *parts, class_="lead")


def _card(found: Finding, board: Mapping, method: str, best: str, words: Glossary) -> Markup:
    expected = found.metric.startswith("expected")
    metric = found.metric.removeprefix("expected_")
    what, over = (
        ("expected", "under the generator's true probabilities, free of the luck of which target was drawn")
        if expected
        else ("realised", f"on the held-out targets of {number(board['users'])} users")
    )
    span = f"{percent(found.relative_low, True, 1)} to {percent(found.relative_high, True, 1)}"
    rows = [
        (method, number(found.mine)),
        (best, number(found.theirs)),
        ("difference", percent(found.relative, True, 1)),
        (join(f"{percent(board['level'])} ", words.link("interval")), span),
        ("ahead at all?", ahead(found)),
        (f"ahead by {percent(found.claimed, signed=True)}?", reached(found)),
        (
            words.link("minimum detectable effect"),
            f"{percent(found.detectable, True, 1)} at {percent(board['power'])} power",
        ),
    ]
    chip = tag("span", CHIPS[str(found.verdict)], class_=f"chip {found.verdict}")
    return tag(
        "article",
        tag("h3", tag("span", words.link(what), " ", words.metric(metric)), chip),
        tag("p", over, class_="over"),
        tag("dl", *[join(tag("dt", name), tag("dd", value)) for name, value in rows]),
        class_="card finding",
    )
