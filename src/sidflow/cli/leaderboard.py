"""The leaderboard with what each recommender costs: as text, as JSON, and as the style sheet beside the report page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sidflow.artifacts.evaluation import LEADERBOARD, PAGE
from sidflow.artifacts.recommenders import SUMMARY
from sidflow.cli.comparison_table import aligned
from sidflow.cli.costs import RecommenderCost, recommender_costs
from sidflow.core.errors import InputError
from sidflow.core.files import atomic_path
from sidflow.core.params import load_params
from sidflow.evaluation.statistics import format_relative
from sidflow.report.blends import base_alone_sentence
from sidflow.report.costs import COSTS_SHEET, costs_sheet
from sidflow.serving.leaderboard import leaderboard_rows

NOT_MEASURED = "not measured here"
_COLUMNS = {  # heads, and names in the rows
    "train, s": "train_seconds",
    "with inputs, s": "seconds_with_inputs",
    "peak MB": "peak_memory_mb",
    "GPU MB": "peak_gpu_memory_mb",
    "users/s": "users_per_second",
}
_LEGEND = (
    "verdict on a method: shown better than the best baseline, behind it, contradicted (neither, and the interval lies "
    "below the claimed gain) or undecided. train: seconds of the stage that trains it; with inputs: and of all stages "
    "that it reads from. peak MB: resident memory of the training. users/s: histories answered in a second, and ranked "
    f"over all candidates. -: {NOT_MEASURED}, as a stage came from a cache, or ran on another machine; `dvc repro -f` "
    "measures all."
)


_SHOWN = ("recommender", "kind", "metric", "mean", "low", "high", "reason", "relative_difference", "verdict")


def rows_with_costs(metric: str | None = None) -> list[dict[str, Any]]:
    """Return one row a recommender, best first: metric with interval, gain over the best baseline, verdict, costs.

    A metric that a recommender cannot have is None, with the reason.

    Raises:
        InputError: there is no leaderboard, or it has no such metric.
    """
    rows = leaderboard_rows(metric)
    costs = recommender_costs(load_params())
    return [
        {name: row[name] for name in _SHOWN}
        | ({"kind": "best baseline"} if row["is_best_baseline"] else {})
        | costs.get(row["recommender"], RecommenderCost())._asdict()
        for row in rows
    ]


def leaderboard_text(metric: str | None = None) -> str:
    """Return the rows as a table, with lines that explain its columns."""
    rows = rows_with_costs(metric)
    columns = {
        head: name for head, name in _COLUMNS.items() if name != "peak_gpu_memory_mb" or any(r[name] for r in rows)
    }
    head = ("", "", rows[0]["metric"], "interval", "over the best baseline", "verdict", *columns)
    table = [
        (
            row["recommender"],
            row["kind"],
            *(("-", "") if row["mean"] is None else (f"{row['mean']:.4f}", f"[{row['low']:.4f}, {row['high']:.4f}]")),
            "" if row["relative_difference"] is None else format_relative(row["relative_difference"]),
            row["verdict"] or "",
            *(_number(row[name]) for name in columns.values()),
        )
        for row in rows
    ]
    machines = sorted({row["machine"] for row in rows if row["machine"]})
    notes = [f"{row['recommender']}: no {row['metric']}; {row['reason']}." for row in rows if row["reason"]]
    notes += _blends_of_their_base_alone([row["recommender"] for row in rows])
    notes += ["Trained on: " + "; ".join(machines)] if machines else []
    return "\n".join([*aligned([head, *table]), _LEGEND, *notes])


def _blends_of_their_base_alone(names: Sequence[str]) -> list[str]:
    """Return a sentence for each blend that adds nothing, of those whose summaries are here."""
    summaries = {name: SUMMARY.read(model=name) for name in names if SUMMARY.at(model=name).is_file()}
    sentences = (base_alone_sentence(name, summary) for name, summary in summaries.items())
    return [sentence for sentence in sentences if sentence]


def leaderboard_json(metric: str | None = None) -> str:
    """Return the rows as JSON; a cost that was not measured is null."""
    return json.dumps(rows_with_costs(metric), indent=2)


def write_costs_beside_page() -> str:
    """Write the style sheet that fills the costs of the report page.

    Returns:
        A line that says so.

    Raises:
        InputError: there is no page.
    """
    if not PAGE.at().is_file():
        raise InputError(
            str(PAGE.at()), expected="the report page", found="no such file", remedy="`dvc repro` makes it"
        )
    rows = rows_with_costs()
    texts = {row["recommender"]: cost_texts(row) for row in rows if row["train_seconds"] is not None}
    machines = sorted({row["machine"] for row in rows if row["machine"]})
    with atomic_path(COSTS_SHEET) as temporary:
        temporary.write_text(costs_sheet(LEADERBOARD.read(), texts, machines), encoding="utf-8")
    measured = sum(row["train_seconds"] is not None for row in rows)
    return f"costs of {measured} of {len(rows)} recommenders: {COSTS_SHEET}"


def cost_texts(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines of a row's cell on the report page."""
    gpu = row["peak_gpu_memory_mb"]
    memory = f"{_number(row['peak_memory_mb'])} MB" + (f", GPU {_number(gpu)} MB" if gpu else "")
    inputs, rate = (
        f"{_number(row[name])} {unit}" if row[name] is not None else f"{what} not measured"
        for name, unit, what in (
            ("seconds_with_inputs", "s with inputs", "inputs"),
            ("users_per_second", "users/s", "serving"),
        )
    )
    return {"train": f"{_number(row['train_seconds'])} s", "inputs": inputs, "memory": memory, "serve": rate}


def _number(value: float | None) -> str:
    """Return a positive number with two significant digits or more; a hyphen for None."""
    return "-" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
