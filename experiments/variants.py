"""A preset against the one that it extends, recommender by recommender and query by query: what its changes add.

Both are recorded on the same data and split, with the same seeds; a preset with a trained model so stands beside the
one without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.results import SETTINGS, extended_preset, preset_names, read_runs, values_per_seed
from experiments.runs import Run
from sidflow.core.errors import InputError
from sidflow.evaluation.compare import paired_bootstrap
from sidflow.evaluation.statistics import Pair, PairedComparison

_OWN: str = "own"
_EXTENDED: str = "extended"


class VariantAnswer(NamedTuple):
    """A recommender of a preset against the same one of the preset that it extends."""

    preset: str
    extended: str
    commits: tuple[str, str]  # of the code that made the runs of each
    seeds: tuple[int, ...]  # that both have
    recommender: str
    comparison: PairedComparison


def answers(metric: str) -> list[VariantAnswer]:
    """Return what recommenders gain in `metric` over the extended preset, corrected for their number within a preset.

    Seeds are averaged per query first. What both presets have with the same ranks is left out.
    """
    extended = {preset: base for preset in preset_names() if (base := extended_preset(preset)) is not None}
    return [answer for preset, base in extended.items() for answer in _answers_of_preset(preset, base, metric)]


def _answers_of_preset(preset: str, extended: str, metric: str) -> list[VariantAnswer]:
    own, other = read_runs(preset), read_runs(extended)
    seeds = tuple(run.record["seed"] for run in own if any(run.record["seed"] == one.record["seed"] for one in other))
    own, other = ([run for run in runs if run.record["seed"] in seeds] for runs in (own, other))
    if not seeds:
        return []
    _require_same_queries(preset, own, extended, other)
    columns: dict[tuple[str, str], np.ndarray] = {}
    for name in (column.removesuffix(".rank") for column in own[0].ranks.columns if column.endswith(".rank")):
        one, base = values_per_seed(own, name, metric), values_per_seed(other, name, metric)
        if one is None or base is None or np.array_equal(one, base, equal_nan=True):
            continue
        columns[_OWN, name], columns[_EXTENDED, name] = one.mean(axis=0), base.mean(axis=0)
    if not columns:
        return []
    present = ~np.isnan(np.stack(list(columns.values()))).any(axis=0)
    users = own[0].ranks["user_id"].to_numpy()[present]
    bootstrap = paired_bootstrap({column: values[present] for column, values in columns.items()}, users, SETTINGS)
    pairs = {name: Pair((_OWN, name), (_EXTENDED, name)) for side, name in columns if side == _OWN}
    comparisons = bootstrap.compare(pairs, SETTINGS.claimed_gain)
    commits = str(own[0].record["commit"]), str(other[0].record["commit"])  # all seeds of a preset have one
    return [
        VariantAnswer(preset, extended, commits, seeds, name, comparison) for name, comparison in comparisons.items()
    ]


def _require_same_queries(preset: str, own: Sequence[Run], extended: str, other: Sequence[Run]) -> None:
    keys = ["query_id", "user_id", "candidates"]
    if not own[0].ranks.select(keys).equals(other[0].ranks.select(keys)):
        raise InputError(
            f"experiments/results/presets/{preset}",
            expected=f"the queries of {extended}",
            found="others",
            remedy=f"record {preset} and {extended} again, of one split",
        )
