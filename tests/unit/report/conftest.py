"""A page on which no number can stand for another, and the artifacts that it was written from."""

import polars as pl
import pytest
from tests.unit.report.cases import CORE, report_data
from tests.unit.report.reading import RECOMMENDERS, parse

from sidflow.artifacts.evaluation import EVENT_PAIRS, ITEM_ORDERS
from sidflow.report.data import ReportParams
from sidflow.report.page import render_page

MODALITIES = ("image", "text")
AUDITED = ("neighbour_recall_at_10", "tau", "tau_triples", "collision_rate_distinct", "reconstruction_error")


def _curve(index, epochs):
    """One figure falls, one rises; both differ from those of every other recommender."""
    return [
        {
            "epoch": str(epoch),
            "loss": str(3 / epoch + index),
            "valid_ndcg_at_10": str(0.0625 * epoch + index / 8),
            "valid_recall_at_20": str(0.5 / epoch + index / 4),
        }
        for epoch in range(1, epochs + 1)
    ]


def _quantizer_curve():
    return [
        {"epoch": str(epoch), "loss": str(7 / epoch), "all_objective": str(9.5 - epoch**2), "all_tau": str(epoch / 16)}
        for epoch in (1, 2, 3, 4, 5)
    ]


def _semantic_ids():
    """Codes of another frequency at each level of each modality; items 4, 5, ... share their codes with others."""
    codes = {
        "image": [[min(item // 2, 4), min(item, 6)] for item in range(CORE)],
        "text": [[min(item, 3), item % 5] for item in range(CORE)],
    }
    rows = [
        (item, modality, codes[modality][item], item // 8 + 2 * (modality == "text"))
        for item in range(CORE)
        for modality in MODALITIES
    ]
    types = {"item_id": pl.Int32, "modality": pl.String, "codes": pl.Array(pl.Int32, 2), "suffix": pl.Int32}
    return pl.DataFrame(rows, schema=types, orient="row")


def _audit():
    audit = {"levels": 2, "collision_rate": 0.34375}
    for place, modality in enumerate(MODALITIES):
        audit |= {
            f"items_{modality}": 1240 + place,
            f"items_distinct_{modality}": 1130 + place,
            f"collision_items_{modality}": 310 + place,
            f"collision_groups_{modality}": 87 + place,
            f"collision_rate_{modality}": 0.25 + place / 16,
            f"collision_rate_resolved_{modality}": 0.0625 + place / 8,
        }
        for column, name in enumerate(AUDITED):
            audit |= {f"{name}_{modality}": 0.111 + column / 10 + place / 200}
            audit |= {f"reference_{name}_{modality}": 0.133 + column / 10 + place / 200}
    return audit


def _order():
    names = [f"{pairs}_ascending_{order}" for pairs in EVENT_PAIRS for order in ITEM_ORDERS]
    shares = {name: 0.2 + place / 50 for place, name in enumerate(names)}
    return shares | {f"{name}_shuffled": 0.013 + share for name, share in shares.items()}


def _ablations():
    rows = [{"row": "whole", "seeds": 3, "mean": 0.25, "effective_rank": 7.25, "alive_share": 0.5, "tau_of_codes": 0.5}]
    for place, name in enumerate(("no fusion", "no codes"), start=1):
        difference = (-1) ** place * 0.0625 * place
        rows.append(
            {"row": name, "seeds": 3 + place, "mean": 0.25 + difference, "difference": difference}
            | {"low": difference - 0.03125, "high": difference + 0.046875, "detectable": 0.0321 * place}
            | {"effective_rank": 7.25 + place, "alive_share": 0.5 + place / 8, "tau_of_codes": 0.5 - place / 16}
        )
    return {"metric": "ndcg_at_10", "commit": "0123456789abcdef", "rows": rows}


def _views():
    """Text views have words and a category that is named; of joint views no attribute is judged."""
    text = {"views": 90, "failed": 3, "repaired": 2, "asked_again": 4, "repeated": 6, "words": 9.5}
    joint = {"views": 81, "repeated": 7, "words": 12.25}
    truth = {"category": (60, 51, 0.75), "pattern": (40, 31, 0.625)}
    report = {f"text_{name}": value for name, value in text.items()}
    report |= {f"joint_{name}": value for name, value in joint.items()}
    for name, (items, named, accuracy) in truth.items():
        report |= {f"text_{name}_items": items, f"text_{name}_said": named, f"text_{name}_accuracy": accuracy}
    return report | {"joint_category_items": 0}


def _embeddings():
    columns = ("items", "vectors", "width", "effective_rank", "mean_cosine", "duplicates", "norm_spread")
    shares = {("cooccurrence", "pictures"): 0.13, ("cooccurrence", "tfidf"): 0.14, ("pictures", "tfidf"): 0.58}
    agreement = {name: {} for name in ("cooccurrence", "tfidf", "pictures")}
    for (one, other), value in shares.items():
        agreement[one][other] = agreement[other][one] = value
    return {
        "neighbours": 7,
        "encoders": {
            "tfidf": dict(zip(columns, (21, 22, 64, 31.25, 0.125, 3, 0.5), strict=True)),
            "pictures": dict(zip(columns, (11, 12, 9876, None, -0.25, 0, 0.0625), strict=True)),
        },
        "agreement": agreement,
        "gallery": [
            {"item": 3, "nearest": {"cooccurrence": [5], "tfidf": [7, 4], "pictures": []}},
            {"item": 9, "nearest": {}},
            {"item": 12, "nearest": {"pictures": [1, 2, 8]}},
        ],
    }


def _generated():
    """Two recommenders that generate IDs: other beams, other rankings, and one without a share of new items."""
    return {
        "sasrec": {
            "items": 43,
            "items_with_id": 38,
            "id_collision_rate": 0.1875,
            "beam_recall_of_exact_top_10": {"100": 0.9375, "20": 0.8125},
            "audit_exact": {"valid_ndcg_at_10": 0.2109, "valid_recall_at_10": 0.3906},
            "audit_beam": {"valid_ndcg_at_10": 0.1914, "valid_recall_at_10": 0.3516},
            "new_items": {"items": 6},
            "ranking": "beam",
        },
        "mme_sid": {
            "items": 40,
            "items_with_id": 37,
            "id_collision_rate": 0.125,
            "beam_recall_of_exact_top_10": {"5": 0.625, "20": 0.75},
            "audit_exact": {},
            "audit_beam": {},
            "new_items": {"items": 5, "share_of_top_10": 0.0625},
            "ranking": "exact",
        },
    }


def page_settings():
    return ReportParams(users=4, history=3, recommendations=10)


def distinct_data():
    made = report_data()
    for place, metrics in enumerate(made.metrics[name] for name in RECOMMENDERS):
        assert isinstance(metrics, dict)
        metrics |= {"item_table_effective_rank": 3 + place / 10, "item_table_isotropy": 0.5 + place / 20}
        metrics |= {"item_table_alive_share": 0.25 + place / 10, "item_table_mean_cosine": 0.125 - place / 10}
        metrics |= {"item_table_information_abundance": 2 + place / 10}
    whole = made.metrics["oracle"]
    assert isinstance(whole, dict)
    whole["item_table_alive_share"] = 1  # an integer is written with decimals, too
    own = made.metrics["mme_sid"]
    assert isinstance(own, dict)
    own["ndcg_at_10_by_id"] = 0.4375
    trained = {name: {"best_epoch": 2 + place % 2} for place, name in enumerate(RECOMMENDERS)}
    sizes = {"users": 1234567, "items_core": 24, "interactions": 98765, "items_with_picture": 21}
    figures = {"core_items_with_text": 23, "density": 0.0273436, "drift": -0.5, "rare": 0.00001234, "source": "a.csv"}
    titles = pl.when(pl.col("title") == "").then(pl.lit("")).otherwise(pl.format("title {}", "item_id"))
    return made._replace(
        preset="shop 58",
        user_keys=[f"u{user}" for user in range(len(made.user_keys))],
        items=made.items.with_columns(title=titles),
        semantics=made.semantics.with_columns(text=pl.format("view {}", "item_id"), writer=pl.lit("writer 36")),
        ingest=sizes | figures | {"unknown": None, "example": "", "pairs_count": 345} | _order(),
        split={"queries_test": 4321, "targets_tied_test": 17, "tie_rate": 0.25},
        curves={name: _curve(place, 3 + place) for place, name in enumerate(RECOMMENDERS)},
        summaries={name: summary | _generated().get(name, {}) for name, summary in trained.items()},
        quantizer_curves=_quantizer_curve(),
        quantizer_summary={"best_epoch": 4, "method": "mm-rq-vae"},
        semantic_ids=_semantic_ids(),
        audit=_audit(),
        ablations=_ablations(),
        describe=_views(),
        embeddings=_embeddings(),
        leaderboard={**made.leaderboard, "users": 34567, "queries": 45678},
    )


@pytest.fixture(scope="package")
def data():
    return distinct_data()


@pytest.fixture
def page(data):
    return parse(render_page(data, page_settings()))
