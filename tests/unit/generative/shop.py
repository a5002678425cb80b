"""The stage as DVC runs it, in a shop where what comes next is never in doubt."""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import polars as pl
from ruamel.yaml import YAML
from tests.unit.generative.cases import TINY
from tests.unit.sequential.cases import CYCLE, enter_shop

from sidflow.artifacts.recommenders import FACTORS
from sidflow.artifacts.semantic_ids import QUANTIZER, SEMANTIC_IDS
from sidflow.generative.serve import GenerativeRecommender
from sidflow.ranking.rank import RankParams, rank_targets
from sidflow.sequences.histories import load_histories

ROOT = Path(__file__).resolve().parents[3]
COUNT = CYCLE + 1
SETTINGS = {
    **TINY,
    "max_length": 10,
    "batch_size": 16,
    "validate_beam": 10,
    "beam": 20,
    "audit_on": 5,
    "validate_on": 20,
}
LOOP = {"epochs": 40, "patience": 0, "learning_rate": 0.01, "schedule": "constant", "warmup_steps": 0}


def stage_main(name="generate"):
    spec = importlib.util.spec_from_file_location(f"{name}_stage", ROOT / "stages" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def write_codebooks(counts, seed=0):
    """Write a quantizer of the modality `text` with `counts` codes a level, drawn from `seed`."""
    drawn = np.random.default_rng(seed).normal(size=(len(counts), max(counts), 2)).astype(np.float32)
    QUANTIZER.write({"codebooks.text": drawn}, {"modalities": {"text": {"codes": list(counts)}}, "order": ["text"]})


def write_ids(codes, absent=(COUNT - 1,)):
    """Write the IDs of all items but the last one, which nobody has."""
    rows = [item for item in range(len(codes)) if item not in absent]
    seen: dict = {}
    suffixes = []
    for item in rows:
        suffixes.append(seen.get(tuple(codes[item]), 0))
        seen[tuple(codes[item])] = suffixes[-1] + 1
    SEMANTIC_IDS.write(
        pl.DataFrame(
            {
                "item_id": rows,
                "modality": ["text"] * len(rows),
                "codes": pl.Series([list(codes[item]) for item in rows], dtype=pl.Array(pl.Int32, 2)),
                "suffix": suffixes,
            }
        )
    )
    write_codebooks([4, 4])


def write_params(**entries):
    content = YAML(typ="safe").load(Path("params.yaml").read_text())
    entries = {
        name: {key: value for key, value in {**SETTINGS, "loop": LOOP, **entry}.items() if value is not None}
        for name, entry in entries.items()
    }
    with Path("params.yaml").open("w") as handle:
        YAML().dump(content | {"generate": entries, "recommenders": list(entries)}, handle)


def enter_shop_with_ids(folder, monkeypatch):
    """Write a small shop with IDs into `folder`, and make it the current one."""
    enter_shop(folder, monkeypatch)
    write_ids([(item % 4, item // 4) for item in range(COUNT)])


def served_with_beam(name, beam, monkeypatch):
    """Let `recommend` serve a trained recommender with a narrow beam, and return it."""
    recommender = GenerativeRecommender(name)
    recommender.params = recommender.params.model_copy(update={"beam": beam})
    monkeypatch.setattr("sidflow.generative.serve.GenerativeRecommender", lambda *_: recommender)
    monkeypatch.setattr("sidflow.serving.recommendations.load_runtime", dict)
    return recommender


def hashes(model):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path("artifacts/recommenders", model).iterdir())
    }


def ranking_of(model):
    return rank_targets(FACTORS.read(model=model).arrays, load_histories(), COUNT, RankParams(negatives=5))
