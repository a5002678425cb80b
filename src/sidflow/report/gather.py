"""What the page is made of, read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from sidflow.contracts import histories
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
from sidflow.contracts.histories import Histories

Rows = list[dict[str, str]]


class Lists(NamedTuple):
    """What one recommender shows to every query."""

    name: str
    top: np.ndarray  # int32 [q, K]
    rank: np.ndarray  # int32 [q]


class Gathered(NamedTuple):
    """All artifacts that the page shows."""

    preset: str
    cuts: Mapping[str, float]  # where slices are cut, as `evaluate` was told
    ingest: Mapping[str, object]
    split: Mapping[str, object]
    leaderboard: Mapping
    metrics: Mapping[str, Mapping]  # of each recommender, in the order of params
    slices: Mapping[str, Rows]
    spectra: Mapping[str, Rows]
    curves: Mapping[str, Rows]
    summaries: Mapping[str, Mapping]  # of their trainings
    quantizer_curves: Rows
    quantizer_summary: Mapping
    items: pl.DataFrame
    pictures: Mapping[int, bytes]
    semantics: pl.DataFrame
    semantic_ids: pl.DataFrame
    audit: Mapping[str, object]
    user_keys: Sequence[str]
    histories: Histories
    shown: Sequence[Lists]  # the method and the best baseline, where there are such
    ablations: Mapping | None  # of this preset, where somebody ran them


def gather(preset: str, recommenders: Sequence[str], cuts: Mapping[str, float]) -> Gathered:
    """Read what the page shows; of recommenders, only those that params name.

    Raises:
        InputError: an artifact is absent or broken.
    """
    leaderboard = LEADERBOARD.read()
    images = IMAGES.read(columns=["item_id", "picture"])
    return Gathered(
        preset=preset,
        cuts=cuts,
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
        histories=histories.load(),
        shown=[_lists(name) for name in stars(leaderboard) if name is not None],
        ablations=_ablations(preset),
    )


def stars(leaderboard: Mapping) -> tuple[str | None, str | None]:
    """Return the method and the baseline that are best on validation; their lists are shown."""
    primary = f"valid_{leaderboard['primary']}"
    methods = {name: one for name, one in leaderboard["recommenders"].items() if one["kind"] == "method"}
    best = max(methods, key=lambda name: (methods[name][primary], name)) if methods else None
    return best, leaderboard["best_baseline"]


def _ablations(preset: str) -> Mapping | None:
    found = ABLATIONS.read() if ABLATIONS.at().is_file() else None
    return found if found and found["preset"] == preset else None


def _lists(name: str) -> Lists:
    return Lists(name, TOP.read(model=name)["items"].to_numpy(), TARGET_RANKS.read(model=name)["rank"].to_numpy())
