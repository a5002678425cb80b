"""What recommenders cost, shown in the page's leaderboard and written beside the page, not into it.

Seconds differ from run to run, and the same artifacts must give the same page. The page asks for an optional style
sheet, `costs.css`, whose rules fill the cells of that one leaderboard. Without it they say `not measured here`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sidflow.report.markup import Markup, join, tag

COSTS_SHEET = Path("artifacts/report/costs.css")
LINES = ("train", "inputs", "memory", "serve")  # of a cell of the leaderboard
CSS = """
.board .costs{width:128px;padding-right:0}
td.costs small:first-child::after{content:"not measured here";color:var(--soft)}
"""
_FILLED = "color:var(--ink)"
_NOTE = (
    "Costs were measured where the stages ran. Train: wall time of the stage that trains the recommender; "
    "with inputs: and of all stages that it reads from. Peak MB: resident memory of the training. Users/s: histories "
    "answered in a second, and ranked over all candidates. Costs lie in costs.css beside this page, written by "
)


def run_key(leaderboard: Mapping) -> str:
    """Return a key of these results, so that the costs of another run fill no cell."""
    return hashlib.sha256(json.dumps(leaderboard, sort_keys=True).encode()).hexdigest()[:16]


def sheet_link() -> Markup:
    """Return the link to the optional style sheet."""
    return tag("link", rel="stylesheet", href=COSTS_SHEET.name)


def cost_head() -> Markup:
    """Return the head of the column."""
    return tag("th", "cost: train, with inputs, memory, serving", class_="costs", scope="col")


def cost_cell(recommender: str) -> Markup:
    """Return the cell of a recommender; the style sheet fills its lines."""
    return tag("td", *[tag("small", data_cost=line) for line in LINES], class_="costs", data_recommender=recommender)


def cost_note(leaderboard: Mapping) -> Markup:
    """Return what the columns mean, and where the style sheet says on what machine they were measured."""
    return tag(
        "p",
        join(
            _NOTE,
            tag("code", "sidflow leaderboard --page"),
            ". ",
            tag("span", class_="machine", data_run=run_key(leaderboard)),
        ),
        class_="note",
    )


def costs_sheet(leaderboard: Mapping, texts: Mapping[str, Mapping[str, str]], machines: Sequence[str]) -> str:
    """Return the style sheet that fills the cells of the page of this leaderboard.

    Args:
        leaderboard: the document LEADERBOARD.
        texts: by recommender and line; a recommender that is left out was not measured, as its cell says by itself.
        machines: what they were measured on.
    """
    run = f'[data-run="{run_key(leaderboard)}"]'
    rules = [
        f'{run} [data-recommender={_string(name)}] [data-cost="{line}"]::after{{content:{_string(text)};{_FILLED}}}'
        for name, lines in texts.items()
        for line, text in lines.items()
    ]
    if machines:
        rules.append(f".machine{run}::after{{content:{_string('Trained on: ' + '; '.join(machines) + '.')}}}")
    return "\n".join(rules) + "\n"


def _string(text: str) -> str:
    """Return `text` as a string of CSS."""
    escaped = re.sub(r'[\\"\x00-\x1f\x7f]', lambda match: f"\\{ord(match[0]):x} ", text)
    return f'"{escaped}"'
