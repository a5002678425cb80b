"""What the page shows, read once; the key figures and the plot tables that DVC compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from pydantic import Field

from sidflow.artifacts.catalog import IMAGES, ITEMS, USERS
from sidflow.artifacts.evaluation import (
    ABLATIONS,
    INGEST,
    LEADERBOARD,
    METRICS,
    SINGULAR_VALUES_PLOT,
    SLICES,
    SLICES_PLOT,
    SPECTRUM,
    SPLIT,
    TARGET_RANKS,
    TOP,
    VALIDATION_PLOT,
)
from sidflow.artifacts.features import DESCRIBE_REPORT, EMBED_REPORT, SEMANTICS
from sidflow.artifacts.recommenders import CURVES, SUMMARY
from sidflow.artifacts.semantic_ids import QUANTIZER_CURVES, QUANTIZER_SUMMARY, SEMANTIC_ID_AUDIT, SEMANTIC_IDS
from sidflow.core.documents import Curve
from sidflow.core.params import Params
from sidflow.sequences.histories import Histories, load_histories

Rows = list[dict[str, str]]

COLUMNS: dict[Curve, tuple[str, ...]] = {
    VALIDATION_PLOT: ("recommender", "epoch", "valid_ndcg_at_10"),
    SLICES_PLOT: ("recommender", "slice", "ndcg_at_10"),
    SINGULAR_VALUES_PLOT: ("recommender", "dimension", "singular_value"),
}
OF_RECOMMENDERS = ("valid_ndcg_at_10", "ndcg_at_10", "recall_at_10", "coverage_at_10")
_DATA_NAMES = {"users": "users", "items_core": "items", "interactions": "interactions"}
_ORDER_NAMES = [  # shares of neighbours that ascend by something other than time
    f"{pairs}_ascending_{order}" for pairs in ("pairs", "last_pairs") for order in ("key", "first_seen", "popularity")
]
_SPLIT_NAMES = {  # how many queries the metrics average, and counts of what would bias them
    "queries_test": "test_queries",
    "targets_in_history_test": "test_targets_in_history",
    "targets_tied_test": "test_targets_tied",
    "sequences_in_training_test": "test_sequences_in_training",
    "duplicated_sequences": "duplicated_sequences",
}
_DECIMALS = 4


class ReportParams(Params):
    """How much of the catalogue the page shows."""

    users: int = Field(default=4, ge=0, le=50, description="users whose histories and recommendations are shown")
    history: int = Field(default=8, ge=1, le=50, description="last items of a history that are shown")
    recommendations: int = Field(default=10, ge=1, le=20, description="items of a list that are shown")
    items: int = Field(default=6, ge=0, le=50, description="items shown with their semantics and semantic IDs")
    thumbnail: int = Field(default=120, ge=16, le=512, description="pixels of the longer side")
    quality: int = Field(default=80, ge=10, le=95, description="JPEG quality")
    quantizer: str = Field(
        default="artifacts/quantizer", description="read for its curves; another artifact where no semantic IDs are"
    )
    codes: str = Field(
        default="artifacts/semantic_ids", description="read for codes; another artifact where no semantic IDs are"
    )


class RankedLists(NamedTuple):
    """The list of one recommender for every query, and the rank of the query's target."""

    name: str
    top: np.ndarray  # int32 [q, K]
    rank: np.ndarray  # int32 [q]
    candidates: np.ndarray  # int32 [q]; a larger rank is that of no candidate


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
    slice_intervals: Mapping[str, Mapping] = {}  # of nDCG@10, by recommender and slice: `mean`, `low`, `high`
    embeddings: Mapping = {}  # the audit of the encoders
    describe: Mapping = {}  # how the writing of views went


def read_report_data(
    preset: str,
    recommenders: Sequence[str],
    slice_cuts: Mapping[str, float],
    slice_intervals: Mapping[str, Mapping],
    *,
    semantic_ids: bool = True,
) -> ReportData:
    """Return what the page shows of these recommenders.

    Args:
        preset: its name.
        recommenders: their names, in the order of params.
        slice_cuts: thresholds of the slices.
        slice_intervals: as ReportData has them.
        semantic_ids: whether there are any to read.

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
        quantizer_curves=QUANTIZER_CURVES.read() if semantic_ids else [],
        quantizer_summary=QUANTIZER_SUMMARY.read() if semantic_ids else {},
        items=ITEMS.read(),
        pictures=dict(images.iter_rows()),
        semantics=SEMANTICS.read(),
        semantic_ids=SEMANTIC_IDS.read() if semantic_ids else SEMANTIC_IDS.empty(),
        audit=SEMANTIC_ID_AUDIT.read() if semantic_ids else {},
        user_keys=USERS.read()["user_key"].to_list(),
        histories=load_histories(),
        ranked_lists=[_ranked_lists(name) for name in best_method_and_baseline(leaderboard) if name is not None],
        ablations=_ablations(preset),
        slice_intervals=slice_intervals,
        embeddings=EMBED_REPORT.read(),
        describe=DESCRIBE_REPORT.read(),
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
    ranks = TARGET_RANKS.read(model=name)
    rank, candidates = (ranks[column].to_numpy() for column in ("rank", "candidates"))
    return RankedLists(name, TOP.read(model=name)["items"].to_numpy(), rank, candidates)


def key_figures(data: ReportData) -> dict[str, object]:
    """Return flat figures named `owner.figure`: of the data, the views, the semantic IDs and each recommender.

    A method's `gain` is relative, over the baseline that validation chose, in the primary metric.
    """
    figures = _prefixed("data", {new: data.ingest[old] for old, new in _DATA_NAMES.items()})
    figures |= _prefixed("data", {name: data.ingest[name] for name in _ORDER_NAMES if name in data.ingest})
    figures |= _prefixed("data", {new: data.split[old] for old, new in _SPLIT_NAMES.items()})
    accuracies = {name: figure for name, figure in data.describe.items() if name.endswith("_accuracy")}
    figures |= _prefixed("describe", accuracies)  # of views, where the truth is known
    figures |= _prefixed("semantic_ids", {name: data.audit[name] for name in data.audit if _is_key_figure(name)})
    for name, metrics in data.metrics.items():
        figures |= _prefixed(name, {metric: metrics[metric] for metric in OF_RECOMMENDERS if metric in metrics})
    board = data.leaderboard
    for name, differences in board["differences"].items():
        gain = differences.get(board["primary"], {}).get("relative")
        if board["recommenders"][name]["kind"] == "method" and gain is not None:
            figures |= _prefixed(name, {"gain": gain})
    return figures


def _is_key_figure(name: str) -> bool:
    """Return whether a figure of the audit is the collision rate of all modalities, or tau over histories of one."""
    return name == "collision_rate" or (name.startswith("tau_") and not name.startswith(("tau_anchors", "tau_triples")))


def _prefixed(owner: str, figures: Mapping[str, object]) -> dict[str, object]:
    return {
        f"{owner}.{name}": round(value, _DECIMALS) if isinstance(value, float) else value
        for name, value in figures.items()
    }


def write_plots(curves: Mapping[str, Rows], slices: Mapping[str, Rows], spectra: Mapping[str, Rows]) -> None:
    """Write the plot tables, recommenders in the order of the mappings.

    Args:
        curves: each recommender's training curve; empty for one that is not trained by epochs.
        slices: each recommender's metrics by slice.
        spectra: the singular values of each recommender's matrices. The item matrix is plotted, of recommenders that
            are trained by epochs: those of counts are larger by orders of magnitude.
    """
    matrices = {
        name: [row for row in spectra[name] if row["matrix"] == "item_matrix"] for name in curves if curves[name]
    }
    sources = (curves, slices, matrices)
    for (plot, columns), tables in zip(COLUMNS.items(), sources, strict=True):
        rows = [{**row, "recommender": name} for name, table in tables.items() for row in table]
        plot.write([row for row in rows if all(row.get(column) for column in columns)], columns)
