"""Tables of experiments/results/benchmarks: speed and memory, quantizers, settings, and MME-SID's ablations."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.claims import ABLATIONS_FOLDER
from experiments.tables.markdown import format_number, format_optional, markdown_table
from sidflow.core.documents import Document
from sidflow.evaluation.statistics import format_difference

FOLDER = Path("experiments/results/benchmarks")
FAULTS = Document("experiments/results/faults.json")


def benchmarks_table() -> str:
    """Return speed and memory, one row per benchmark; a ratio above 1 means that ours is better."""
    rows = [
        [
            benchmark["claim"],
            *_values_and_ratio(benchmark),
            " / ".join(
                "-" if benchmark.get(name) is None else f"{benchmark[name]:,.0f} MB"
                for name in ("peak_memory_ours", "peak_memory_theirs")
            ),
        ]
        for _, benchmark in _documents(FOLDER)
        if _is_speed(benchmark)
    ]
    return markdown_table(["benchmark", "ours", "against", "ratio", "peak memory ours / against"], rows)


def quality_table() -> str:
    """Return the benchmarks of quality (nDCG, live dimensions, tau), one row each."""
    rows = [
        [benchmark["claim"], *_values_and_ratio(benchmark)]
        for _, benchmark in _documents(FOLDER)
        if not _is_speed(benchmark)
    ]
    return markdown_table(["comparison", "ours", "against", "ratio"], rows)


def benchmark_details() -> str:
    """Return a list of the benchmarks: the result in a sentence, then command, machine and code."""
    lines = []
    for path, benchmark in _documents(FOLDER):
        load = f", load average {benchmark['load_average']}" if "load_average" in benchmark else ""
        conclusion = f" {benchmark['finding']}." if "finding" in benchmark else ""
        lines.append(
            f"- **{benchmark['claim']}.**{conclusion} `{benchmark['command']}`; {benchmark['machine']}{load}, "
            f"code `{benchmark['commit']}` (`{path}`)"
        )
    return "\n".join(lines)


def quantizers_table() -> str:
    """Return the audits of all methods for semantic IDs, one row per run, modality and method."""
    rows = []
    for _, audit in _documents(FOLDER / "quantizer"):
        for row in audit["rows"]:
            collisions, collisions_all = row.get("collisions"), row.get("collisions_all")
            rows.append(
                [
                    "" if audit["run"] == "published" else audit["run"],
                    row["modality"],
                    row["method"],
                    f"{row['items']:,.0f}",
                    row["codes"],
                    f"{100 * row['usage']:.1f}%",
                    f"{100 * collisions_all:.2f}% of all" if collisions is None else f"{100 * collisions:.2f}%",
                    *(format_optional(row.get(name), 4) for name in ("recall", "tau", "tau_triples", "error")),
                    str(row.get("seeds", "")),
                ]
            )
    head = ["run", "modality", "method", "items", "codes", "lowest code usage", "collisions", "recall@10 of neighbours"]
    return markdown_table([*head, "tau", "tau over triples", "reconstruction error", "seeds"], rows)


def ablations_table() -> str:
    """Return MME-SID's ablations, one row per preset and removed part."""
    rows = [
        [
            ablation["run"],
            row["row"],
            f"{row['mean']:.4f}",
            format_difference(row["difference"], row["low"], row["high"]) if "difference" in row else "",
            format_optional(row.get("detectable"), 4),
            format_optional(row["effective_rank"], 1),
            format_optional(row["alive_share"], 2),
            format_optional(row["tau_of_codes"], 4),
            str(row["seeds"]),
        ]
        for _, ablation in _documents(ABLATIONS_FOLDER)
        for row in ablation["rows"]
    ]
    head = ["run", "MME-SID", "nDCG@10", "less the whole, 95% interval", "smallest detectable"]
    return markdown_table(
        [*head, "effective rank of item tokens", "live dimensions", "tau of code vectors", "seeds"], rows
    )


def content_table() -> str:
    """Return what each encoder is worth as the content of `cooccurrence_content`, one row per preset and encoder."""
    rows, done = [], set()
    for _, trial in _documents(FOLDER / "content"):
        for row in trial["rows"]:
            if (trial["run"], row["row"]) in done:  # several records of a run share the row that they compare with
                continue
            done.add((trial["run"], row["row"]))
            rows.append(
                [
                    trial["run"],
                    row["row"].replace("_", " "),
                    f"{row['width']:,}" if "width" in row else "",
                    f"{row['valid_ndcg_at_10']:.4f}",
                    _with_interval(row, "ndcg_at_10", "test_difference"),
                    _with_interval(row, "new_items_ndcg_at_10", "new_difference"),
                ]
            )
    head = ["run", "content", "width", "validation nDCG@10", "test nDCG@10", "new items, nDCG@10 among themselves"]
    return markdown_table(head, rows)


def _with_interval(row: dict[str, Any], metric: str, difference: str) -> str:
    """Return a metric, and its difference to the row that it is compared with."""
    if metric not in row:
        return ""
    if difference not in row:
        return f"{row[metric]:.4f}"
    _, low, high = row[difference]
    return f"{row[metric]:.4f} [{low:+.4f}, {high:+.4f}]"


def settings_table() -> str:
    """Return the validation nDCG@10 of each trained recommender's setting and its neighbours, one row per knob."""
    rows = []
    for _, trials in _documents(FOLDER / "settings"):
        current = {row["model"]: row["valid_ndcg_at_10"] for row in trials["rows"] if row["knob"] is None}
        by_knob: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in trials["rows"]:
            if row["knob"] is not None:
                by_knob.setdefault((row["model"], row["knob"]), []).append(row)
        for (model, knob), neighbours in by_knob.items():
            standing = neighbours[0]["standing"]
            metrics = {row["value"]: row["valid_ndcg_at_10"] for row in neighbours} | {standing: current[model]}
            lower = [value for value in metrics if value < standing]
            higher = [value for value in metrics if value > standing]
            cells = [_setting_cell(metrics, values) for values in (lower, [standing], higher)]
            rows.append([trials["run"], model, knob, *cells])
    return markdown_table(["run", "recommender", "knob", "lower", "as it stands", "higher"], rows)


def learned_parts_table() -> str:
    """Return how much of each part of the truth each recommender has learned, the best expected nDCG@10 first."""
    tables = []
    for _, analysis in _documents(FOLDER / "learned_parts"):
        oracle, *rows = analysis["rows"]
        parts = [name for name in oracle if name not in ("row", "expected_ndcg_at_10")]
        rows.sort(key=lambda row: -row["expected_ndcg_at_10"])
        body = [
            [
                row["row"],
                f"{row['expected_ndcg_at_10']:.4f}",
                *(f"{row[part]:.2f}" for part in parts),
                f"{row['rest']:.2f}",
            ]
            for row in rows
        ]
        whole = [oracle["row"], f"{oracle['expected_ndcg_at_10']:.4f}", *(f"{oracle[part]:.4f}" for part in parts), ""]
        tables.append(markdown_table([analysis["run"], "expected nDCG@10", *parts, "rest"], [whole, *body]))
    return "\n\n".join(tables)


def faults_table() -> str:
    """Return what `python -m tests.faults` tried on each stage and on `dvc repro`, and what was lost."""
    if not FAULTS.at().is_file():
        return ""
    record = FAULTS.read()
    names = ("kills", "writes", "lost")
    rows = [[f"`{row['stage']}`", *(str(row[name]) for name in names), f"`{row['commit']}`"] for row in record["rows"]]
    rows.append(["all", *(str(sum(row[name] for row in record["rows"])) for name in names), ""])
    table = markdown_table(["tried on", "kills", "failing writes", "results lost", "code"], rows)
    mended = sum(row.get("locks_mended", 0) for row in record["rows"])
    return f"{table}\n\nWrites failed on {record['writes']}. Files of DVC that a kill cut, removed by hand: {mended}."


def _setting_cell(metrics: dict[Any, float], values: list[Any]) -> str:
    """Return `values` with their metric; the best of all in bold."""
    best = max(metrics.values())
    names = {value: value if isinstance(value, str) else f"{value:g}" for value in values}
    cells = {value: f"{name}: {metrics[value]:.4f}" for value, name in names.items()}
    return ", ".join(f"**{text}**" if metrics[value] == best else text for value, text in cells.items())


def _documents(folder: Path) -> Iterable[tuple[Path, dict[str, Any]]]:
    return ((path, Document(str(path)).read()) for path in sorted(folder.glob("*.json")))


def _is_speed(benchmark: dict[str, Any]) -> bool:
    """Return whether a benchmark's unit is a time or a rate."""
    return benchmark["unit"] in ("s", "seconds") or "/s" in benchmark["unit"]


def _values_and_ratio(benchmark: dict[str, Any]) -> list[str]:
    ours, theirs = (
        "" if benchmark.get(name) is None else f"{format_number(benchmark[name])} {benchmark['unit']}"
        for name in ("ours", "theirs")
    )
    return [ours, theirs, format_optional(benchmark.get("ratio"), 2)]
