"""From artifacts to artifacts: learning, bytes, resume, and new histories from the written weights."""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from ruamel.yaml import YAML

from sidflow.contracts import histories
from sidflow.contracts.artifacts.embeddings import EMBEDDING, ITEM_TABLE, UNITS
from sidflow.contracts.artifacts.factors import CURVES, FACTORS, SUMMARY
from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.artifacts.queries import QUERIES
from sidflow.contracts.artifacts.sequences import SEQUENCES
from sidflow.contracts.artifacts.targets import TARGETS
from sidflow.contracts.errors import InputError
from sidflow.recommenders.neural import encoding, features, params
from sidflow.training.checkpoint import Checkpoint

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


SECTIONS = {
    "train": {
        "sasrec": quick(),
        "sampled": quick(architecture="sasrec", loss="sampled", negatives=8, negatives_power=0.5, logq=True),
        "esasrec": quick(architecture="sasrec", block="ligr", loss="sampled", negatives=8, logq=True),
        "gru4rec": quick(hidden=16),
        "bert4rec": quick(loop={"epochs": 30, "patience": 0, "learning_rate": 0.01}),
    },
    "enhance": {
        "dmesr_sasrec": {"model": quick(loss="sampled", negatives=8), "dropout": 0.0},
    },
    "featured": {
        "sasrec_features": {"model": quick(), "features": ["view_text", "view_image"], "dropout": 0.0},
    },
}


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Users walk round a cycle of items, each from its own start: what comes next is never in doubt."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SIDFLOW_DEVICE", "cpu")
    monkeypatch.setattr("sidflow.contracts.trace._touched", {"reads": set(), "writes": set(), "params": set()})
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
        YAML().dump({"preset": "test", "seed": 3, "threads": 1, **SECTIONS}, handle)
    return tmp_path


def recall_at_one(model):
    """Recall@1 of the test queries, history excluded."""
    factors, known = FACTORS.read(model=model).arrays, histories.load()
    scores = factors["query_states"] @ factors["item_matrix"].T
    scores[known.seen(scores.shape[1]).toarray()] = -np.inf
    return (scores.argmax(1) == known.targets)[~known.query_valid].mean()


@pytest.mark.parametrize(
    ("stage", "model"),
    [(stage, model) for stage, models in SECTIONS.items() for model in models],
)
def test_the_obvious_is_learned_and_everything_written(shop, stage, model):
    stage_main(stage)(model)
    assert recall_at_one(model) > 0.95
    summary, curves = SUMMARY.read(model=model), CURVES.read(model=model)
    assert summary["epochs"] == len(curves) and 1 <= summary["best_epoch"] <= len(curves)
    assert float(curves[summary["best_epoch"] - 1]["valid_ndcg_at_10"]) == summary["best_valid_ndcg_at_10"]
    assert summary["device"] == "cpu" and summary["threads"] == 1 and summary["seed"] == 3
    table, factors = ITEM_TABLE.read(model=model).arrays, FACTORS.read(model=model).arrays
    assert table["present"].tolist() == [True] * CYCLE + [False]
    assert np.array_equal(table["values"][:CYCLE], factors["item_matrix"][:CYCLE]) and not table["values"][CYCLE].any()
    known = histories.load()
    again = encoding.load(model).encode([known.history(query) for query in range(known.queries)])
    np.testing.assert_allclose(again, factors["query_states"], rtol=1e-4, atol=1e-5)
    assert not list((shop / "cache").rglob("*.safetensors"))


def edit_params(epochs, **more):
    """Shorten every training to `epochs`, and set top-level values."""
    content = YAML(typ="safe").load(Path("params.yaml").read_text()) | more
    built = [content["enhance"]["dmesr_sasrec"], content["featured"]["sasrec_features"]]
    for section in [*content["train"].values(), *(one["model"] for one in built)]:
        section["loop"]["epochs"] = epochs
    with Path("params.yaml").open("w") as handle:
        YAML().dump(content, handle)


def hashes(model):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path("artifacts/recommenders", model).iterdir())
    }


@pytest.mark.parametrize(
    ("stage", "model"),
    [
        ("train", "sampled"),
        ("train", "gru4rec"),
        ("train", "bert4rec"),
        ("enhance", "dmesr_sasrec"),
        ("featured", "sasrec_features"),
    ],
)
def test_killed_and_resumed_it_ends_in_the_same_bytes(shop, monkeypatch, stage, model):
    edit_params(epochs=3)
    main = stage_main(stage)
    main(model)
    expected = hashes(model)
    monkeypatch.setenv("SIDFLOW_CHECKPOINT_SECONDS", "0.000001")
    saves = []

    def save(self, snapshot, whole=Checkpoint.save):
        whole(self, snapshot)
        saves.append(snapshot.values["steps"])
        if len(saves) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save)
    with pytest.raises(KeyboardInterrupt):
        main(model)
    torch.manual_seed(99)
    main(model)
    assert saves[7] == saves[6] + 1
    assert hashes(model) == expected


def test_the_seed_matters(shop):
    edit_params(epochs=1)
    main = stage_main("train")
    main("gru4rec")
    first = hashes("gru4rec")
    edit_params(epochs=1, seed=4)
    main("gru4rec")
    assert hashes("gru4rec")["factors.safetensors"] != first["factors.safetensors"]


def test_params_are_strict(shop):
    assert isinstance(params.load("sampled"), params.SasrecParams)
    with pytest.raises(InputError, match=r"train\.nobody"):
        params.load("nobody")
    with pytest.raises(InputError, match="architecture"):
        params.from_content({}, "nobody", "here")
    with pytest.raises(InputError, match="multiple of `heads`"):
        params.from_content({"dimensions": 6, "heads": 4}, "sasrec", "here")
    with pytest.raises(InputError, match="hidden"):
        params.from_content({"hidden": 4}, "sasrec", "here")
    with pytest.raises(InputError, match=r"`pre_norm: true` with `block: ligr`"):
        params.from_content({"block": "ligr", "pre_norm": False}, "sasrec", "here")
    chosen, base = features.load("sasrec_features")
    assert chosen.features == ("view_text", "view_image") and base.architecture == chosen.base == "sasrec"
    with pytest.raises(InputError, match=r"here\.model.*hidden"):
        features.with_base(features.FeaturesParams(model={"hidden": 4}), "here")
    settings, base = params.load_dmesr("dmesr_sasrec")
    assert settings.base == base.architecture == "sasrec" and base.loss == "sampled"


def test_nothing_to_train_on_is_one_line(shop, capsys):
    frame = SEQUENCES.read()
    SEQUENCES.write(frame.with_columns(pl.lit(1, dtype=pl.Int32).alias("train_end")))
    with pytest.raises(SystemExit) as stopped:
        stage_main("train")("sasrec")
    assert stopped.value.code == 2 and "two training items" in capsys.readouterr().err
