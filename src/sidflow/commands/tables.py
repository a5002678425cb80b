"""Markdown tables of docs/results and benchmarks/results, printed or written between a file's markers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sidflow.commands import claims, paired
from sidflow.commands import published as publications
from sidflow.contracts.documents import Document
from sidflow.contracts.errors import InputError
from sidflow.evaluation.comparison import MEAN_LOG2_RANK

RESULTS = Path("docs/results")
BENCHMARKS = Path("benchmarks/results")
QUANTIZERS = Path("benchmarks/results/quantizer")
_METRICS = ("recall_at_10", "ndcg_at_10", "mrr_at_10", "recall_at_20", "ndcg_at_20")


def everything() -> str:
    """Return all tables, one after the other."""
    return "\n\n".join(text for text in (make() for make in MARKERS.values()) if text)


def overview() -> str:
    """Return the runs, one row a preset, and nDCG@10 with intervals: recommenders down, presets across."""
    found = _presets()
    if not found:
        return ""
    costs = _table(
        ["preset", "command", "users", "items", "seeds", "wall time", "peak memory", "CPUs", "code"],
        [
            [
                preset["preset"],
                f"`{command(preset['preset'])}`",
                f"{preset['users']:,}",
                f"{preset['items']:,}",
                ", ".join(map(str, preset["seeds"])),
                _duration(preset["wall_seconds"]),
                f"{preset['peak_memory_mb'] / 1000:.2f} GB",
                str(preset["cpus"]),
                f"`{preset['commit'][:8]}`",
            ]
            for preset in found
        ],
    )
    names = list(dict.fromkeys(name for preset in found for name in preset["recommenders"]))
    scores = _table(
        ["nDCG@10", *(preset["preset"] for preset in found)],
        [[name, *(_cell(preset, name, "ndcg_at_10") for preset in found)] for name in names],
    )
    refit = " All are refitted on train + validation before the test." if found[0].get("refit") else ""
    return f"{costs}\n\n{scores}\n\nIn brackets: {found[0]['interval']}.{refit}"


def full() -> str:
    """Return a table per preset: recommenders down, metrics across, expected metrics where the truth is known."""
    parts = []
    for preset in _presets():
        metrics = [
            *_METRICS,
            *(
                name
                for name in ("expected_recall_at_10", "expected_ndcg_at_10")
                if any(name in body["metrics"] for body in preset["recommenders"].values())
            ),
        ]
        rows = [[name, *(_cell(preset, name, metric) for metric in metrics)] for name in preset["recommenders"]]
        parts.append(
            f"### {preset['preset']}\n\n`{command(preset['preset'])}`: {preset['users']:,} users, "
            f"{preset['items']:,} items, seeds {', '.join(map(str, preset['seeds']))}; "
            f"{_duration(preset['wall_seconds'])} and {preset['peak_memory_mb'] / 1000:.2f} GB "
            f"on {preset['cpus']} CPUs.\n\n" + _table(["recommender", *metrics], rows)
        )
    return "\n\n".join(parts)


def differences() -> str:
    """Return who is better than whom on which preset, by paired bootstrap."""
    return _differences(paired.METRICS)


def log_ranks() -> str:
    """Return the same in the mean of log2 of the target's rank, where the lower one is the better one."""
    return _differences([MEAN_LOG2_RANK])


def _differences(metrics: Sequence[str]) -> str:
    rows = [
        [
            answer.preset,
            answer.metric,
            f"{answer.one} - {answer.other}" + (", the best baseline" if answer.best else ""),
            f"{answer.found.difference:+.4f} [{answer.found.low:+.4f}, {answer.found.high:+.4f}]",
            "" if answer.relative is None else f"{100 * answer.relative:+.1f}%",
            f"{answer.found.detectable:.4f}",
            answer.verdict,
        ]
        for answer in paired.answers(metrics)
    ]
    head = [
        "preset",
        "metric",
        "difference of",
        "difference and 95% interval",
        "relative",
        "smallest detectable",
        "verdict",
    ]
    return _table(head, rows) if rows else ""


def pooled() -> str:
    """Return who is better than whom over all real data sets, by a random-effects estimate of relative gains."""
    rows = [
        [
            f"{answer.one} over {answer.other}",
            "; ".join(_share(share, named=answer.other == paired.BEST) for share in answer.shares),
            f"{_gain(found.difference)} [{_gain(found.low)}, {_gain(found.high)}]",
            "[{}, {}]".format(*map(_gain, answer.pooled.normal)),
            f"{answer.pooled.tau_squared:.4f}",
            f"{100 * answer.pooled.i_squared:.0f}%",
            _gain(found.detectable),
            answer.verdict,
        ]
        for answer in paired.pooled()
        for found in [answer.pooled.found]
    ]
    head = ["nDCG@10 of", "gain on each data set", "pooled gain and 95% interval", "normal interval", "tau²", "I²"]
    return _table([*head, "smallest detectable", f"verdict (claim: {paired.CLAIMED:+.0%})"], rows) if rows else ""


def _share(share: paired.Share, *, named: bool) -> str:
    return f"{share.preset} {_gain(share.effect)}" + (f" ({share.opponent})" if named else "")


def published() -> str:
    """Return what others report on the same data sets beside ours, with how far ours is."""
    measured = {preset["preset"]: preset["recommenders"] for preset in _presets()}
    rows = [
        [
            row.figure.preset,
            row.metric,
            row.figure.model,
            f"{row.published:.4f}",
            f"{row.ours} {row.mean:.4f} [{row.low:.4f}, {row.high:.4f}]",
            f"{100 * (row.mean / row.published - 1):+.1f}%" if row.published else "",
            f"[{row.source.title}]({row.source.url})",
            row.caveat,
        ]
        for row in publications.beside(measured)
    ]
    head = ["preset", "metric", "published model", "published", "ours", "ours is", "source", "caveat"]
    return _table(head, rows) if rows else ""


def claimed() -> str:
    """Return what the paper of MME-SID claims beside what was found here."""
    rows = [
        [
            ours.claim.what,
            ours.claim.published,
            ours.of,
            ours.found,
            f"`{ours.command}`",
        ]
        for ours in claims.beside()
    ]
    return _table(["claim", "the paper", "here, of", "found", "command"], rows) if rows else ""


def benchmarks() -> str:
    """Return the benchmarks, one row each; a ratio above 1 means that ours is better."""
    found = [Document(str(path)).read() for path in sorted(BENCHMARKS.glob("*.json"))]
    if not found:
        return ""
    return _table(
        ["claim", "ours", "theirs", "ratio", "peak memory ours / theirs", "command"],
        [
            [
                one["claim"],
                f"{_number(one['ours'])} {one['unit']}",
                "" if one.get("theirs") is None else f"{_number(one['theirs'])} {one['unit']}",
                "" if one.get("ratio") is None else f"{one['ratio']:.2f}",
                " / ".join(
                    "-" if one.get(name) is None else f"{one[name]:,.0f} MB"
                    for name in ("peak_memory_ours", "peak_memory_theirs")
                ),
                f"`{one['command']}`",
            ]
            for one in found
        ],
    )


def findings() -> str:
    """Return what each benchmark found, in a sentence, and under which conditions."""
    parts = []
    for path in sorted(BENCHMARKS.glob("*.json")):
        one = Document(str(path)).read()
        busy = f", load average {one['load_average']}" if "load_average" in one else ""
        told = f" {one['finding']}." if "finding" in one else ""
        parts.append(f"- **{one['claim']}.**{told} {one['machine']}{busy}, code `{one['commit']}` (`{path}`)")
    return "\n".join(parts)


def quantizers() -> str:
    """Return the audits of all methods of semantic IDs, one row per run, modality and method."""
    found = [Document(str(path)).read() for path in sorted(QUANTIZERS.glob("*.json"))]
    rows = []
    for one in found:
        for row in one["rows"]:
            collisions, every = row.get("collisions"), row.get("collisions_all")
            told = f"{100 * every:.2f}% of all" if collisions is None else f"{100 * collisions:.2f}%"
            rows.append(
                [
                    "" if one["run"] == "published" else one["run"],
                    row["modality"],
                    row["method"],
                    f"{row['items']:,.0f}",
                    row["codes"],
                    f"{100 * row['usage']:.1f}%",
                    told,
                    *(f"{row[name]:.4f}" if name in row else "" for name in ("recall", "tau", "tau_triples", "error")),
                    str(row.get("seeds", "")),
                ]
            )
    head = ["run", "modality", "method", "items", "codes", "lowest code usage", "collisions", "recall@10 of neighbours"]
    return _table([*head, "tau", "tau over triples", "reconstruction error", "seeds"], rows) if rows else ""


def ablations() -> str:
    """Return what each part of MME-SID is worth, one row per preset and part that is taken away."""
    rows = [
        [
            one["run"],
            row["row"],
            f"{row['mean']:.4f}",
            f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]" if "difference" in row else "",
            _optional(row.get("detectable"), 4),
            *(_optional(row[name], digits) for name, digits in (("effective_rank", 1), ("alive_share", 2))),
            _optional(row["tau_of_codes"], 4),
            str(row["seeds"]),
        ]
        for one in (Document(str(path)).read() for path in sorted(claims.ABLATIONS.glob("*.json")))
        for row in one["rows"]
    ]
    head = ["run", "MME-SID", "nDCG@10", "less the whole, 95% interval", "smallest detectable"]
    return (
        _table([*head, "effective rank of item tokens", "live dimensions", "tau of code vectors", "seeds"], rows)
        if rows
        else ""
    )


def _optional(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


MARKERS: dict[str, Callable[[], str]] = {
    "results": overview,
    "results-full": full,
    "differences": differences,
    "log-ranks": log_ranks,
    "pooled": pooled,
    "published": published,
    "claims": claimed,
    "benchmarks": benchmarks,
    "findings": findings,
    "quantizers": quantizers,
    "ablations": ablations,
}


def write(path: Path) -> str:
    """Write each table between its markers in `path`, such as `<!-- results:begin -->`, and return what was done.

    Raises:
        InputError: the file is absent or has none of the markers.
    """
    if not path.is_file():
        raise InputError(str(path), expected="a Markdown file", found="no such file", remedy="create it with markers")
    before = path.read_text()
    after = filled(before)
    if not any(_block(name).search(before) for name in MARKERS):
        raise InputError(
            str(path),
            expected="a line `<!-- results:begin -->` and a line `<!-- results:end -->`",
            found="no markers",
            remedy=f"add them where the table shall stand; the names are {', '.join(MARKERS)}",
        )
    path.write_text(after)
    return f"{path} is up to date." if after == before else f"{path} is written."


def filled(text: str) -> str:
    """Return Markdown `text` with every table between its markers renewed."""
    for name, make in MARKERS.items():
        if _block(name).search(text):
            table = f"\n{made}" if (made := make()) else ""
            text = _block(name).sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)
    return text


def command(preset: str) -> str:
    """Return what a reader types to repeat a preset's run."""
    return "make repro" if preset == "embedded" else f"sidflow preset apply {preset} --data DIR && dvc repro"


def _block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}:begin -->)\n.*?(<!-- {name}:end -->)", re.DOTALL)


def _presets() -> list[dict[str, Any]]:
    found = [Document(str(path)).read() for path in sorted(RESULTS.glob("*.json"))]
    return sorted(found, key=lambda preset: preset["preset"] != "embedded")


def _cell(preset: dict[str, Any], name: str, metric: str) -> str:
    value = preset["recommenders"].get(name, {"metrics": {}})["metrics"].get(metric)
    return "" if value is None else f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _gain(logarithm: float) -> str:
    gain = 100 * math.expm1(min(logarithm, 700.0))
    return f"{gain:+.1f}%" if gain < 1000 else "> +1000%"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
