"""A small shop in which what comes next is never in doubt, and params of every neural recommender."""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import polars as pl
import torch
from ruamel.yaml import YAML
from scipy.sparse import csr_matrix

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.features import EMBEDDING, UNITS
from sidflow.artifacts.recommenders import FACTORS
from sidflow.artifacts.split import QUERIES, SEQUENCES, TARGETS
from sidflow.sequential.model import build_encoder
from sidflow.sequential.params import from_content

ROOT = Path(__file__).resolve().parents[3]
CYCLE, USERS = 12, 60


def stage_main(name):
    spec = importlib.util.spec_from_file_location(f"neural_{name}_stage", ROOT / "stages" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def quick(**more):
    return {
        "dimensions": 16,
        "max_length": 10,
        "dropout": 0.0,
        "item_dropout": 0.0,
        "batch_size": 16,
        "init_std": 0.1,
        "loop": {"epochs": 12, "patience": 0, "learning_rate": 0.01},
        **more,
    }


HYBRID = {"folds": 3, "window": 2, "last": 2, "content": ["view_text"], "dropout": 0.5}

SECTIONS = {
    "train_sequential": {
        "sasrec": quick(),
        "sampled": quick(architecture="sasrec", loss="sampled", negatives=8, negatives_power=0.5, logq=True),
        "esasrec": quick(architecture="sasrec", block="ligr", loss="sampled", negatives=8, logq=True),
        "gru4rec": quick(hidden=16),
        "bert4rec": quick(loop={"epochs": 30, "patience": 0, "learning_rate": 0.01}),
    },
    "train_multimodal": {
        "dmesr_sasrec": {"kind": "dmesr", "model": quick(loss="sampled", negatives=8), "dropout": 0.0, "scale": 0.1},
        "sasrec_features": {
            "kind": "features",
            "model": quick(blocks=2, positions="start"),
            "features": ["view_text", "view_image"],
            "dropout": 0.0,
        },
        "sasrec_hybrid": {"kind": "hybrid", "model": quick(skip_share=0.2), "hybrid": HYBRID},
        "gru4rec_hybrid": {
            "kind": "hybrid",
            "base": "gru4rec",
            "model": quick(loss="sampled", negatives=8, logq=True),
            "hybrid": HYBRID | {"content": []},
        },
        "bert4rec_hybrid": {"kind": "hybrid", "base": "bert4rec", "model": quick(), "hybrid": HYBRID},
        "content_hybrid": {"kind": "hybrid", "model": quick(), "hybrid": HYBRID | {"cooccurrence": False}},
        "dmesr_hybrid": {"kind": "dmesr", "model": quick(loss="sampled", negatives=8), "hybrid": HYBRID},
    },
}


def write_shop():
    """Write the artifacts and params that a stage reads, in the current folder.

    Users walk round a cycle of items, each from its own start.
    """
    count = CYCLE + 1  # the last item is one that nobody has
    rng = np.random.default_rng(0)
    walks = [
        [(start + step) % CYCLE for step in range(rng.integers(5, 10))] for start in rng.integers(CYCLE, size=USERS)
    ]
    walks += [[*range(CYCLE)] * 2]  # longer than max_length, and no query: it repeats itself
    SEQUENCES.write(
        pl.DataFrame(
            {
                "user_id": pl.Series(range(len(walks)), dtype=pl.Int32),
                "items": pl.Series(walks, dtype=pl.List(pl.Int32)),
                "timestamps": pl.Series([list(range(len(one))) for one in walks], dtype=pl.List(pl.Int64)),
                "train_end": pl.Series([len(one) - 2 for one in walks], dtype=pl.Int32),
            }
        )
    )
    asked = [
        (user, part, len(walks[user]) - back) for user in range(USERS) for part, back in (("valid", 2), ("test", 1))
    ]
    rows = [(query, user, part, end) for query, (user, part, end) in enumerate(asked)]
    QUERIES.write(pl.DataFrame(rows, schema=["query_id", "user_id", "part", "history_end"], orient="row"))
    targets = [(query, walks[user][end], False) for query, user, _, end in rows]
    TARGETS.write(pl.DataFrame(targets, schema=["query_id", "item_id", "tied"], orient="row"))
    text = [""] * count
    pair = pl.Struct({"name": pl.String, "value": pl.String})
    ITEMS.write(
        pl.DataFrame(
            {
                "item_id": range(count),
                "item_key": [f"i{item:02}" for item in range(count)],
                "title": text,
                "description": text,
                "brand": text,
                "categories": pl.Series([[]] * count, dtype=pl.List(pl.String)),
                "attributes": pl.Series([[]] * count, dtype=pl.List(pair)),
                "in_core": [True] * count,
            }
        )
    )
    for seed, name in enumerate(("view_text", "view_image", "view_joint")):
        values = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
        present = np.arange(count) != seed
        EMBEDDING.write({"values": values * present[:, None], "present": present}, {}, name=name)
    present = np.random.default_rng(9).random((count, 3)) < 0.8
    values = np.random.default_rng(8).normal(size=(count, 3, 5)).astype(np.float32) * present[..., None]
    UNITS.write({"values": values, "present": present}, {}, name="fine_text")
    with Path("params.yaml").open("w") as handle:
        YAML().dump(
            {"preset": "test", "seed": 3, "threads": 1, "split": {}, "rank": {"exclude_history": True}, **SECTIONS},
            handle,
        )


def edit_params(epochs, schedule="constant", **more):
    """Shorten every training to `epochs`, and set top-level values."""
    content = YAML(typ="safe").load(Path("params.yaml").read_text()) | more
    bases = [entry["model"] for entry in content["train_multimodal"].values()]
    for section in [*content["train_sequential"].values(), *bases]:
        section["loop"] |= {"epochs": epochs, "schedule": schedule}
    with Path("params.yaml").open("w") as handle:
        YAML().dump(content, handle)


def scores_of(model):
    """Return the scores of all queries, by the factors of recommender `model`."""
    arrays = FACTORS.read(model=model).arrays
    scores = arrays["query_states"] @ arrays["item_matrix"].T
    if "query_indptr" in arrays:
        left, right = (
            csr_matrix((arrays[f"{side}_values"], arrays[f"{side}_indices"], arrays[f"{side}_indptr"]))
            for side in ("query", "item")
        )
        left.resize(len(scores), len(arrays["item_indptr"]) - 1)
        right.resize(len(arrays["item_indptr"]) - 1, scores.shape[1])
        scores += (left @ right).toarray()
    return scores


def hashes(model):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path("artifacts/recommenders", model).iterdir())
    }


VARIANTS = [
    ("sasrec", {}),
    ("sasrec", {"pre_norm": False, "positions": "end"}),
    ("sasrec", {"positions": "none", "heads": 1, "blocks": 1}),
    ("sasrec", {"positions": "relative"}),
    ("sasrec", {"block": "ligr", "feedforward": 2}),
    ("sasrec", {"block": "ligr", "positions": "end", "blocks": 1}),
    ("gru4rec", {}),
    ("gru4rec", {"layers": 2, "hidden": 8}),
    ("bert4rec", {}),
    ("bert4rec", {"positions": "start", "pre_norm": False}),
    ("bert4rec", {"positions": "relative", "feedforward": 1}),
    ("bert4rec", {"block": "ligr"}),
]
CAUSAL = [variant for variant in VARIANTS if variant[0] != "bert4rec"]
TABLE_ITEMS = 30


def settings_of(name, extra, **more):
    return from_content({"dimensions": 16, "max_length": 12, "init_std": 0.5, **extra, **more}, name, "test")


def encoder_of(name, extra):
    torch.manual_seed(5)
    return build_encoder(settings_of(name, extra)).eval()


def table():
    return torch.randn(TABLE_ITEMS, 16, generator=torch.Generator().manual_seed(2))


def enter_shop(folder, monkeypatch):
    """Write a small shop into `folder`, and make it the current one."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SIDFLOW_CACHE", str(folder / "cache"))
    monkeypatch.setenv("SIDFLOW_DEVICE", "cpu")
    monkeypatch.setattr("sidflow.core.files._touched", {"reads": set(), "writes": set(), "params": set()})
    write_shop()
