"""Tables of docs/results: what recommenders reach, against one another and against what others publish."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sidflow.commands import claims, paired
from sidflow.commands import published as publications
from sidflow.commands.tables import markdown
from sidflow.contracts.documents import Document
from sidflow.evaluation.comparison import MEAN_LOG2_RANK

FOLDER = Path("docs/results")
_METRICS = ("recall_at_10", "ndcg_at_10", "mrr_at_10", "recall_at_20", "ndcg_at_20")


def overview() -> str:
    """Return the runs, one row a preset, and nDCG@10 with intervals: recommenders down, presets across."""
    found = _presets()
    if not found:
        return ""
    costs = markdown.table(
        ["preset", "command", "users", "items", "seeds", "wall time", "peak memory", "CPUs", "code"],
        [
            [
                preset["preset"],
                f"`{command(preset['preset'])}`",
                f"{preset['users']:,}",
                f"{preset['items']:,}",
                ", ".join(map(str, preset["seeds"])),
                markdown.duration(preset["wall_seconds"]),
                f"{preset['peak_memory_mb'] / 1000:.2f} GB",
                str(preset["cpus"]),
                f"`{preset['commit'][:8]}`",
            ]
            for preset in found
        ],
    )
    names = list(dict.fromkeys(name for preset in found for name in preset["recommenders"]))
    scores = markdown.table(
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
            f"{markdown.duration(preset['wall_seconds'])} and {preset['peak_memory_mb'] / 1000:.2f} GB "
            f"on {preset['cpus']} CPUs.\n\n" + markdown.table(["recommender", *metrics], rows)
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
            markdown.difference(answer.found.difference, answer.found.low, answer.found.high),
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
    return markdown.table(head, rows)


def pooled() -> str:
    """Return who is better than whom over all real data sets, by a random-effects estimate of relative gains."""
    rows = [
        [
            f"{answer.one} over {answer.other}",
            "; ".join(_share(share, named=answer.other == paired.BEST) for share in answer.shares),
            f"{markdown.gain(found.difference)} [{markdown.gain(found.low)}, {markdown.gain(found.high)}]",
            "[{}, {}]".format(*map(markdown.gain, answer.pooled.normal)),
            f"{answer.pooled.tau_squared:.4f}",
            f"{100 * answer.pooled.i_squared:.0f}%",
            markdown.gain(found.detectable),
            answer.verdict,
        ]
        for answer in paired.pooled()
        for found in [answer.pooled.found]
    ]
    head = ["nDCG@10 of", "gain on each data set", "pooled gain and 95% interval", "normal interval", "tau²", "I²"]
    return markdown.table([*head, "smallest detectable", f"verdict (claim: {paired.CLAIMED:+.0%})"], rows)


def _share(share: paired.Share, *, named: bool) -> str:
    return f"{share.preset} {markdown.gain(share.effect)}" + (f" ({share.opponent})" if named else "")


def published() -> str:
    """Return what others report on the same data sets beside ours, with how far ours is."""
    measured = {preset["preset"]: preset["recommenders"] for preset in _presets()}
    rows = [
        [
            row.figure.preset,
            row.metric,
            row.figure.model,
            f"{row.published:.4f}",
            f"{row.ours} {markdown.estimate(row.mean, row.low, row.high)}",
            f"{100 * (row.mean / row.published - 1):+.1f}%" if row.published else "",
            f"[{row.source.title}]({row.source.url})",
            row.caveat,
        ]
        for row in publications.beside(measured)
    ]
    head = ["preset", "metric", "published model", "published", "ours", "ours is", "source", "caveat"]
    return markdown.table(head, rows)


def claimed() -> str:
    """Return what the paper of MME-SID claims beside what was found here."""
    rows = [
        [ours.claim.what, ours.claim.published, ours.of, ours.found, f"`{ours.command}`"] for ours in claims.beside()
    ]
    return markdown.table(["claim", "the paper", "here, of", "found", "command"], rows)


def command(preset: str) -> str:
    """Return what a reader types to repeat a preset's run."""
    return "make repro" if preset == "embedded" else f"sidflow preset apply {preset} --data DIR && dvc repro"


def _presets() -> list[dict[str, Any]]:
    found = [Document(str(path)).read() for path in sorted(FOLDER.glob("*.json"))]
    return sorted(found, key=lambda preset: preset["preset"] != "embedded")


def _cell(preset: dict[str, Any], name: str, metric: str) -> str:
    value = preset["recommenders"].get(name, {"metrics": {}})["metrics"].get(metric)
    return "" if value is None else markdown.estimate(value["mean"], value["low"], value["high"])
