"""All that the page shows, read once from the artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from sidflow.contracts.artifacts.evaluations import LEADERBOARD, METRICS, SLICES, SPECTRUM
from sidflow.contracts.artifacts.factors import CURVES, SUMMARY
from sidflow.contracts.artifacts.images import IMAGES
from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.artifacts.quantizer import QUANTIZER_CURVES, QUANTIZER_SUMMARY
from sidflow.contracts.artifacts.rankings import TARGET_RANKS, TOP
from sidflow.contracts.artifacts.reports import ABLATIONS, INGEST, SPLIT
from sidflow.contracts.artifacts.semantic_ids import SEMANTIC_ID_AUDIT, SEMANTIC_IDS
from sidflow.contracts.artifacts.semantics import SEMANTICS
from sidflow.contracts.artifacts.users import USERS
from sidflow.contracts.histories import Histories, load_histories

Rows = list[dict[str, str]]


class RankedLists(NamedTuple):
    """The list of one recommender for every query, and the rank of the query's target."""

    name: str
    top: np.ndarray  # int32 [q, K]
    rank: np.ndarray  # int32 [q]


class ReportData(NamedTuple):
    """The artifacts that the page shows."""

    preset: str
    slice_cuts: Mapping[str, float]  # thresholds of the slices, from the params of `evaluate`
    ingest: Mapping[str, object]
    split: Mapping[str, object]
    leaderboard: Mapping
    metrics: Mapping[str, Mapping]  # by recommender, in the order of params; so are the next four
    slices: Mapping[str, Rows]
    spectra: Mapping[str, Rows]
    curves: Mapping[str, Rows]
    summaries: Mapping[str, Mapping]  # of the trainings
    quantizer_curves: Rows
    quantizer_summary: Mapping
    items: pl.DataFrame
    pictures: Mapping[int, bytes]
    semantics: pl.DataFrame
    semantic_ids: pl.DataFrame
    audit: Mapping[str, object]
    user_keys: Sequence[str]
    histories: Histories
    ranked_lists: Sequence[RankedLists]  # of the best method and the best baseline, where they exist
    ablations: Mapping | None  # of this preset, where `sidflow ablations` has run


def read_report_data(preset: str, recommenders: Sequence[str], slice_cuts: Mapping[str, float]) -> ReportData:
    """Return what the page shows of these recommenders.

    Raises:
        InputError: an artifact is absent or broken.
    """
    leaderboard = LEADERBOARD.read()
    images = IMAGES.read(columns=["item_id", "picture"])
    return ReportData(
        preset=preset,
        slice_cuts=slice_cuts,
        ingest=INGEST.read(),
        split=SPLIT.read(),
        leaderboard=leaderboard,
        metrics={name: METRICS.read(model=name) for name in recommenders},
        slices={name: SLICES.read(model=name) for name in recommenders},
        spectra={name: SPECTRUM.read(model=name) for name in recommenders},
        curves={name: CURVES.read(model=name) for name in recommenders},
        summaries={name: SUMMARY.read(model=name) for name in recommenders},
        quantizer_curves=QUANTIZER_CURVES.read(),
        quantizer_summary=QUANTIZER_SUMMARY.read(),
        items=ITEMS.read(),
        pictures=dict(images.iter_rows()),
        semantics=SEMANTICS.read(),
        semantic_ids=SEMANTIC_IDS.read(),
        audit=SEMANTIC_ID_AUDIT.read(),
        user_keys=USERS.read()["user_key"].to_list(),
        histories=load_histories(),
        ranked_lists=[_ranked_lists(name) for name in best_method_and_baseline(leaderboard) if name is not None],
        ablations=_ablations(preset),
    )


def best_method_and_baseline(leaderboard: Mapping) -> tuple[str | None, str | None]:
    """Return the method and the baseline that are best on validation: the page compares their lists."""
    primary = f"valid_{leaderboard['primary']}"
    methods = {name: entry for name, entry in leaderboard["recommenders"].items() if entry["kind"] == "method"}
    best = max(methods, key=lambda name: (methods[name][primary], name)) if methods else None
    return best, leaderboard["best_baseline"]


def _ablations(preset: str) -> Mapping | None:
    table = ABLATIONS.read() if ABLATIONS.at().is_file() else None
    return table if table and table["preset"] == preset else None


def _ranked_lists(name: str) -> RankedLists:
    return RankedLists(name, TOP.read(model=name)["items"].to_numpy(), TARGET_RANKS.read(model=name)["rank"].to_numpy())
