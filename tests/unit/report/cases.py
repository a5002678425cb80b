"""What the report page shows, made of small evaluations."""

import io

import numpy as np
import polars as pl
from PIL import Image

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.features import SEMANTICS
from sidflow.artifacts.semantic_ids import SEMANTIC_IDS
from sidflow.cli.ablations import DIAGNOSTICS
from sidflow.evaluation.compare import build_leaderboard, slice_intervals
from sidflow.evaluation.evaluate import EvaluationInputs, evaluate
from sidflow.evaluation.params import CompareParams, EvaluateParams
from sidflow.evaluation.slices import ContentPresence, slice_masks
from sidflow.report.data import RankedLists, ReportData, best_method_and_baseline
from sidflow.sequences.histories import Histories

NASTY = '<img src=x onerror=alert(1)> & "co"'
USERS, CORE = 12, 24
CUTS = EvaluateParams(head_share=0.25, tail_share=0.4, short_history=3, long_history=4)


def _jpeg(colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 100), (colour, 90, 90)).save(buffer, "JPEG")
    return buffer.getvalue()


def _histories() -> Histories:
    generator = np.random.default_rng(0)
    flat = np.concatenate([generator.permutation(CORE)[:6] for _ in range(USERS)]).astype(np.int32)
    offsets, user = np.arange(USERS + 1) * 6, np.repeat(np.arange(USERS), 2)
    end = np.tile([3, 4, 4, 5], USERS // 2)
    return Histories(
        flat,
        offsets,
        np.tile([3, 4], USERS // 2),
        user,
        end,
        np.tile([True, False], USERS),
        flat[offsets[user] + end].astype(int),
    )


def _truth(histories: Histories) -> pl.DataFrame:
    chances = np.random.default_rng(2).dirichlet(np.ones(CORE), histories.query_count).astype(np.float32)
    keys = {"user_id": histories.query_user.astype(np.int32), "position": histories.query_end.astype(np.int32)}
    return pl.DataFrame(keys).with_columns(pl.Series("probabilities", chances, dtype=pl.Array(pl.Float32, CORE)))


def report_data(
    rich: bool = True, names: tuple[str, ...] = ("popularity", "sasrec", "mme_sid", "oracle")
) -> ReportData:
    histories, generator = _histories(), np.random.default_rng(1)
    content = ContentPresence(*(np.arange(CORE) % 3 > lacking for lacking in (-1, 0)))
    evaluations, lists = {}, {}
    for name in names:
        top = np.array([generator.permutation(CORE)[:20] for _ in range(histories.query_count)], dtype=np.int32)
        ranks = generator.integers(1, 19, histories.query_count)
        candidates = np.full(len(ranks), CORE - 5, dtype=np.int32)
        lists[name] = RankedLists(name, top, ranks.astype(np.int32), candidates)
        frame = dict.fromkeys(("rank", "sampled_rank"), ranks) | {"candidates": candidates}
        matrix = generator.normal(size=(CORE, 4)).astype(np.float32)
        evaluations[name] = evaluate(
            EvaluationInputs(
                histories=histories,
                tied=np.zeros(histories.query_count, dtype=bool),
                ranks=pl.DataFrame({"query_id": np.arange(len(ranks)), **frame}).cast(pl.Int32),
                top=pl.DataFrame({"items": pl.Series(top, dtype=pl.Array(pl.Int32, 20))}),
                truth=_truth(histories) if rich else pl.DataFrame(),
                content=content,
                item_matrix=matrix,
                item_table=matrix if rich else None,
                present=np.ones(CORE, dtype=bool) if rich else None,
                summary={},
            ),
            CUTS,
        )
    tables, bootstrap = {name: one.per_query for name, one in evaluations.items()}, CompareParams(draws=200)
    board = build_leaderboard(tables, bootstrap)
    masks = slice_masks(histories, histories.training_counts(CORE), content, CUTS)
    item = list(range(CORE))
    items = pl.DataFrame(
        {
            "item_id": item,
            "item_key": [f"k{i}" for i in item],
            "title": [NASTY if rich and i % 2 else "" for i in item],
            "description": [""] * CORE,
            "brand": [""] * CORE,
            "categories": [[]] * CORE,
            "attributes": [[]] * CORE,
            "in_core": [True] * CORE,
        },
        schema_overrides={name: ITEMS.empty().schema[name] for name in ("item_id", "categories", "attributes")},
    )
    ids = pl.DataFrame(
        [(i, modality, [i % 3, i % 2], 0) for i in item for modality in ("text", "image")],
        schema={"item_id": pl.Int32, "modality": pl.String, "codes": pl.Array(pl.Int32, 2), "suffix": pl.Int32},
        orient="row",
    )
    semantics = pl.DataFrame(
        [(i, "text", NASTY, NASTY, False) for i in item],
        schema={"item_id": pl.Int32, "view": pl.String, "text": pl.String, "writer": pl.String, "by_mllm": pl.Boolean},
        orient="row",
    )
    curve = [{"epoch": str(e), "loss": str(3 / e), "valid_ndcg_at_10": str(0.1 * e)} for e in (1, 2, 3)]
    return ReportData(
        preset=NASTY if rich else "bare",
        slice_cuts=CUTS.model_dump(),
        ingest={"users": USERS, "items_core": CORE, "density": 0.5, "source": NASTY},
        split={"users": USERS},
        leaderboard=board,
        metrics={name: one.metrics for name, one in evaluations.items()},
        slices={
            n: [{k: "" if v is None else str(v) for k, v in row.items()} for row in one.slices]
            for n, one in evaluations.items()
        },
        slice_intervals=slice_intervals(tables, masks, bootstrap),
        spectra={n: [{k: str(v) for k, v in row.items()} for row in one.spectrum] for n, one in evaluations.items()},
        curves={name: curve if rich else [] for name in names},
        summaries={name: {"best_epoch": 2} if rich else {} for name in names},
        quantizer_curves=curve if rich else [],
        quantizer_summary={"best_epoch": 2},
        items=items,
        pictures={i: _jpeg(i) for i in item[::2]} | {3: b"no picture"} if rich else {},
        semantics=semantics if rich else SEMANTICS.empty(),
        semantic_ids=ids if rich else SEMANTIC_IDS.empty(2),
        audit={
            "items_text": CORE,
            "items_distinct_text": 20,
            "collision_rate_text": 0.125,
            "collision_rate_distinct_text": 0.1,
            "collision_rate_resolved_text": 0.125,
            "collision_items_text": 3,
            "collision_groups_text": 1,
            "neighbour_recall_at_10_text": 0.7125,
            "reference_neighbour_recall_at_10_text": 0.6375,
        }
        if rich
        else {},
        user_keys=[NASTY if rich else f"u{u}" for u in range(USERS)],
        histories=histories,
        ablations={
            "metric": "ndcg_at_10",
            "commit": "0123456789abcdef",
            "rows": [
                {"row": "whole", "seeds": 3, "mean": 0.2, **dict.fromkeys(DIAGNOSTICS, 0.5)},
                {
                    "row": NASTY,
                    "seeds": 3,
                    "mean": 0.1,
                    "difference": -0.1,
                    "low": -0.12,
                    "high": -0.08,
                    "detectable": 0.0321,
                }
                | dict.fromkeys(DIAGNOSTICS),
            ],
        }
        if rich
        else None,
        ranked_lists=[lists[name] for name in best_method_and_baseline(board) if name is not None],
    )
