"""Tables of experiments/results/presets: what recommenders reach, against one another and against published figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import variants
from experiments.claims import results_beside_claims
from experiments.paired import (
    BEST_BASELINE,
    METRICS,
    DataSetEffect,
    PooledAnswer,
    answer_pooled_questions,
    answer_questions,
)
from experiments.published import results_beside_figures
from experiments.results import BY_ID_SUFFIX, FOLDER, MINIONEREC_FOLDER, SAMPLED, SETTINGS, independent_presets
from experiments.tables.markdown import (
    difference_cells,
    format_duration,
    format_estimate,
    format_log_ratio,
    format_short_estimate,
    markdown_table,
)
from sidflow.core.documents import Document
from sidflow.evaluation.metrics import MEAN_LOG2_RANK
from sidflow.evaluation.statistics import format_relative

_METRICS = ("recall_at_10", "ndcg_at_10", "mrr_at_10", "recall_at_20", "ndcg_at_20")
_COSTS = {  # heads of the columns, and their names in the records
    "train s": "train_seconds",
    "with inputs s": "seconds_with_inputs",
    "peak MB": "peak_memory_mb",
    "users/s": "users_per_second",
}
_BY_ID = f"ndcg_at_10{BY_ID_SUFFIX}"
_EXPECTED = ("expected_recall_at_10", "expected_ndcg_at_10")


def results_overview_table() -> str:
    """Return nDCG@10 with the half-width of its interval: recommenders down, independent presets across.

    A note has the level of the intervals and each preset's number of seeds.
    """
    independent = independent_presets()
    presets = [preset for preset in _preset_results() if preset["preset"] in independent]
    if not presets:
        return ""
    names = list(dict.fromkeys(name for preset in presets for name in preset["recommenders"]))
    table = markdown_table(
        ["nDCG@10", *(preset["preset"] for preset in presets)],
        [[name, *(_short_metric_cell(preset, name, "ndcg_at_10") for preset in presets)] for name in names],
    )
    refit = " All are refitted on train + validation before the test." if presets[0].get("refit") else ""
    by_seeds: dict[int, list[str]] = {}
    for preset in presets:
        by_seeds.setdefault(len(preset["seeds"]), []).append(preset["preset"])
    seeds = "; ".join(f"{count} of {', '.join(names)}" for count, names in sorted(by_seeds.items(), reverse=True))
    return f"{table}\n\nMean ± half the width of its interval ({presets[0]['interval']}). Seeds: {seeds}.{refit}"


def costs_table() -> str:
    """Return size, seeds, time and memory of each preset's runs, one row per preset."""
    rows = [
        [
            preset["preset"],
            f"`{repro_command(preset['preset'])}`",
            f"{preset['users']:,}",
            f"{preset['items']:,}",
            ", ".join(map(str, preset["seeds"])),
            format_duration(preset["wall_seconds"]),
            f"{preset['peak_memory_mb'] / 1000:.2f} GB",
            str(preset["cpus"]),
            f"`{preset['commit'][:8]}`",
        ]
        for preset in _preset_results()
    ]
    head = ["preset", "command", "users", "items", "seeds", "wall time", "peak memory", "CPUs", "code"]
    return markdown_table(head, rows)


def results_full_table() -> str:
    """Return a table per preset: recommenders down, metrics across, and what each costs.

    Expected metrics stand where there is a truth, metrics among sampled negatives and costs where the record has them,
    nDCG@10 by ID where items share IDs.
    """
    parts = []
    for preset in _preset_results():
        recommenders = preset["recommenders"]
        optional = (*SAMPLED, *_EXPECTED)
        further = [name for name in optional if any(name in one["metrics"] for one in recommenders.values())]
        by_id = any(_BY_ID in one["metrics"] for one in recommenders.values())
        after = _METRICS.index("ndcg_at_10") + 1
        metrics = [*_METRICS[:after], *([_BY_ID] if by_id else []), *_METRICS[after:], *further]
        costs = _COSTS if any("costs" in one for one in recommenders.values()) else {}
        rows = [
            [
                name,
                *(_metric_cell(preset, name, metric) for metric in metrics),
                *(_cost_cell(one.get("costs", {}).get(cost)) for cost in costs.values()),
            ]
            for name, one in recommenders.items()
        ]
        parts.append(
            f"### {preset['preset']}\n\n`{repro_command(preset['preset'])}`: {preset['users']:,} users, "
            f"{preset['items']:,} items, seeds {', '.join(map(str, preset['seeds']))}; "
            f"{format_duration(preset['wall_seconds'])} and {preset['peak_memory_mb'] / 1000:.2f} GB "
            f"on {preset['cpus']} CPUs.\n\n" + markdown_table(["recommender", *metrics, *costs], rows)
        )
    return "\n\n".join(parts)


def differences_table() -> str:
    """Return the paired comparisons of recommenders on each preset, in nDCG@10."""
    return _comparisons_table(METRICS)


def log_rank_differences_table() -> str:
    """Return the paired comparisons in the mean of log2 of the target's rank, of which lower is better."""
    return _comparisons_table([MEAN_LOG2_RANK])


def pooled_table() -> str:
    """Return the pooled relative gains over all real data sets, by a random-effects estimate."""
    return pooled_answers_table(answer_pooled_questions(), SETTINGS.claimed_gain)


def pooled_answers_table(answers: Sequence[PooledAnswer], claimed_gain: float) -> str:
    """Return pooled relative gains, a row each; verdicts are held against `claimed_gain`."""
    rows = [
        [
            f"{answer.one} over {answer.other}",
            "; ".join(_effect_cell(effect, named=answer.other == BEST_BASELINE) for effect in answer.effects),
            f"{format_log_ratio(pooled.difference)} [{format_log_ratio(pooled.low)}, {format_log_ratio(pooled.high)}]",
            "[{}, {}]".format(*map(format_log_ratio, pooled.normal)),
            f"{pooled.tau_squared:.4f}",
            f"{100 * pooled.i_squared:.0f}%",
            format_log_ratio(pooled.detectable),
            answer.verdict,
        ]
        for answer in answers
        for pooled in [answer.pooled]
    ]
    head = ["nDCG@10 of", "gain on each data set", "pooled gain and 95% interval", "normal interval", "tau²", "I²"]
    return markdown_table([*head, "smallest detectable", f"verdict (claim: {claimed_gain:+.0%})"], rows)


def published_table() -> str:
    """Return published figures of leave-one-out beside ours on the same data sets; ours empty where not run."""
    return _figures_table("leave_one_out", FOLDER)


def published_minionerec_table() -> str:
    """Return published figures of MiniOneRec's protocol beside ours of that protocol; ours empty where not run."""
    return _figures_table("minionerec", MINIONEREC_FOLDER)


def _figures_table(protocol: str, folder: Path) -> str:
    results = {preset["preset"]: preset["recommenders"] for preset in _preset_results(folder)}
    rows = [
        [
            row.figure.preset,
            row.metric,
            row.figure.model,
            f"{row.published:.4f}",
            f"{ours.recommender} {format_estimate(ours.mean, ours.low, ours.high)}" if (ours := row.ours) else "",
            format_relative(ours.mean / row.published - 1) if ours and row.published else "",
            row.protocol,
            f"[{row.source.title}]({row.source.url})",
            row.caveat,
        ]
        for row in results_beside_figures(results, protocol)
    ]
    head = ["preset", "metric", "published model", "published", "ours", "ours is", "protocol", "source", "caveat"]
    return markdown_table(head, rows)


def claims_table() -> str:
    """Return the claims of the MME-SID paper beside our results."""
    rows = [
        [row.claim.what, row.claim.published, row.subject, row.result, f"`{row.command}`"]
        for row in results_beside_claims()
    ]
    return markdown_table(["claim", "the paper", "here, of", "result", "command"], rows)


def repro_command(preset: str) -> str:
    """Return the command that repeats a preset's run."""
    if preset == "embedded":
        return "make repro"
    data = "" if preset.startswith("embedded-") else " --data DIR"  # the project's own catalogue
    return f"sidflow preset apply {preset}{data} && dvc repro"


def _comparisons_table(metrics: Sequence[str]) -> str:
    rows = [
        [
            answer.preset,
            answer.metric,
            f"{answer.one} - {answer.other}" + (", the best baseline" if answer.other_is_best_baseline else ""),
            *difference_cells(answer.comparison),
        ]
        for answer in answer_questions(metrics)
    ]
    head = ["preset", "metric", "difference of", "difference and 95% interval", "relative", "smallest detectable"]
    return markdown_table([*head, "verdict"], rows)


def variants_table() -> str:
    """Return what presets add to the recommenders of the preset that they extend: paired differences."""
    expected = {(one.preset, one.recommender): one.comparison for one in variants.answers(f"expected_{METRICS[0]}")}
    rows = [
        [
            answer.preset,
            answer.extended,
            _code_cell(*answer.commits),
            ", ".join(map(str, answer.seeds)),
            answer.recommender,
            *difference_cells(answer.comparison),
            *difference_cells(expected.get((answer.preset, answer.recommender))),
        ]
        for answer in variants.answers(METRICS[0])
    ]
    parts = ("difference and 95% interval", "relative", "smallest detectable", "verdict")
    head = ["preset", "against", "code", "seeds", "recommender", *(f"nDCG@10: {part}" for part in parts)]
    return markdown_table([*head, *(f"expected: {part}" for part in parts)], rows)


def _code_cell(own: str, extended: str) -> str:
    return "the same" if own == extended else f"`{own[:8]}`, not `{extended[:8]}`"


def _effect_cell(effect: DataSetEffect, *, named: bool) -> str:
    if not effect.is_pooled:
        return f"{effect.preset}: the same ranks, not pooled"
    return f"{effect.preset} {format_log_ratio(effect.effect)}" + (f" ({effect.opponent})" if named else "")


def _preset_results(folder: Path = FOLDER) -> list[dict[str, Any]]:
    results = [Document(str(path)).read() for path in sorted(folder.glob("*.json"))]
    return sorted(results, key=lambda preset: preset["preset"] != "embedded")


def _metric_cell(preset: dict[str, Any], name: str, metric: str) -> str:
    value = preset["recommenders"].get(name, {"metrics": {}})["metrics"].get(metric)
    return "" if value is None else format_estimate(value["mean"], value["low"], value["high"])


def _cost_cell(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _short_metric_cell(preset: dict[str, Any], name: str, metric: str) -> str:
    value = preset["recommenders"].get(name, {"metrics": {}})["metrics"].get(metric)
    if value is None:
        return ""
    by_id = preset["recommenders"][name]["metrics"].get(metric + BY_ID_SUFFIX)
    cell = format_short_estimate(value["mean"], value["low"], value["high"])
    return cell if by_id is None else f"{cell} (by ID {by_id['mean']:.4f})"
