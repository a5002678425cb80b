from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sidflow.backbones.models import Backbone
from sidflow.backbones.scratch import train_tokenizer
from sidflow.mme_sid.item_tokens import ItemInputs, ModalityInputs
from sidflow.sequences.histories import Histories

HIDDEN, ITEMS, CORE, CODE_DIM = 32, 14, 12, 8
STAGE_PARAMS = {  # of a run of both stages on a tiny catalogue
    "preset": "test",
    "seed": 4,
    "threads": 1,
    "rank": {"exclude_history": True},
    "recommenders": ["mme_sid", "anchored"],
    "modality": {name: {"source": "x"} for name in ("collaborative", "text", "image", "sound")},
    "backbone": {
        "kind": "scratch",
        "scratch": {
            "hidden": 16,
            "heads": 2,
            "layers": 1,
            "feedforward": 32,
            "vocabulary": 300,
            "block_tokens": 32,
            "loop": {"epochs": 1},
        },
    },
    "finetune": {
        "mme_sid": {"lora": {"rank": 2, "alpha": 32}, "batch_size": 16, "loop": {"epochs": 2, "patience": 0}},
        "anchored": {
            "anchor": "both",
            "anchoring": {"folds": 2},
            "lora": {"rank": 2, "alpha": 32},
            "batch_size": 16,
            "loop": {"epochs": 2, "patience": 0},
        },
    },
}


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(["a customer bought these products", "a red lamp ; a blue chair"], 400)


def tiny_model(family, vocabulary):
    torch.manual_seed(0)
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
    }
    if family == "llama":
        model = LlamaForCausalLM(LlamaConfig(**shape))
    elif family == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**shape))
    elif family == "mistral":
        model = MistralForCausalLM(MistralConfig(**shape, sliding_window=4))
    elif family == "gemma2":  # the first layer has a window, the second sees all
        config = Gemma2Config(**shape, head_dim=8, sliding_window=4, query_pre_attn_scalar=8)
        model = Gemma2ForCausalLM._from_config(config, attn_implementation="eager")
    else:
        model = Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=8))
    return model.requires_grad_(False).eval()


@pytest.fixture
def backbone(tokenizer):
    return Backbone(tiny_model("llama", len(tokenizer)), tokenizer)


def make_inputs(seed=0, items=ITEMS, core=CORE, code_dim=CODE_DIM):
    """Three modalities, the middle one with holes, of `items` items; 2 levels of 5 codes."""
    draw = np.random.default_rng(seed)
    modalities = {}
    for name, width in {"collaborative": 6, "text": 10, "image": 4}.items():
        present = np.ones(items, dtype=bool)
        if name == "text":
            present[[1, 5, items - 1]] = False
        raw = draw.normal(size=(items, width)).astype(np.float32) * present[:, None]
        codes = np.where(present[:, None], draw.integers(0, 5, (items, 2)), -1)
        modalities[name] = ModalityInputs(raw, present, codes, draw.normal(size=(2, 5, code_dim)).astype(np.float32))
    return ItemInputs(modalities, np.arange(core) ** 2)


def cyclic_histories(users=60, items=CORE, length=9):
    """Return users who walk around the catalogue: what comes next is obvious. Items' counts differ."""
    lap, starts = np.divmod(np.arange(users), items)
    starts = np.where(lap == 0, starts, starts**2 // items)
    rows = (starts[:, None] + np.arange(length)) % items
    offsets = np.arange(users + 1, dtype=np.int64) * length
    ends = np.full(users, length - 2, dtype=np.int64)
    return Histories(
        items=rows.ravel().astype(np.int32),
        offsets=offsets,
        train_end=ends,
        query_user=np.concatenate([np.arange(users), np.arange(users)]),
        query_end=np.concatenate([ends, ends + 1]),
        query_valid=np.arange(2 * users) < users,
        targets=np.concatenate([rows[:, -2], rows[:, -1]]).astype(np.int64),
    )


def write_workspace(folder, params):
    """Write what the backbone and finetune stages read, under `folder`."""
    from ruamel.yaml import YAML

    from sidflow.artifacts.catalog import ITEMS as ITEM_TABLE
    from sidflow.artifacts.features import MODALITY
    from sidflow.artifacts.semantic_ids import QUANTIZER, SEMANTIC_IDS
    from sidflow.artifacts.split import QUERIES, SEQUENCES, TARGETS

    inputs, past = make_inputs(), cyclic_histories()
    with (folder / "params.yaml").open("w") as handle:
        YAML().dump(params, handle)
    rows = [
        {
            "item_id": item,
            "item_key": f"k{item:02d}",
            "title": f"lamp number {item}" if item != 3 else "",
            "description": "It glows. It stands.",
            "brand": "",
            "categories": ["home"],
            "attributes": [],
            "in_core": item < CORE,
        }
        for item in range(ITEMS)
    ]
    structure = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))
    ITEM_TABLE.write(pl.DataFrame(rows, schema_overrides={"attributes": structure}))
    users = past.user_count
    lines = past.items.reshape(users, -1)
    SEQUENCES.write(
        pl.DataFrame(
            {
                "user_id": np.arange(users),
                "items": lines.tolist(),
                "timestamps": [list(range(lines.shape[1]))] * users,
                "train_end": past.train_end,
            }
        )
    )
    part = np.where(past.query_valid, "valid", "test")
    QUERIES.write(
        pl.DataFrame(
            {
                "query_id": np.arange(past.query_count),
                "user_id": past.query_user,
                "part": part.tolist(),
                "history_end": past.query_end,
            }
        )
    )
    TARGETS.write(pl.DataFrame({"query_id": np.arange(past.query_count), "item_id": past.targets, "tied": False}))
    tables, arrays, metadata = [], {}, {}
    for name, modality in inputs.modalities.items():
        MODALITY.write({"values": modality.raw, "present": modality.present}, {}, name=name)
        arrays[f"codebooks.{name}"] = modality.codebooks
        metadata[name] = {"codes": [5, 5]}
        own = np.flatnonzero(modality.present)
        tables.append(
            pl.DataFrame(
                {
                    "item_id": own,
                    "modality": [name] * len(own),
                    "codes": pl.Series(modality.codes[own].tolist(), dtype=pl.Array(pl.Int32, 2)),
                    "suffix": np.zeros(len(own), dtype=np.int32),
                }
            )
        )
    MODALITY.write({"values": np.zeros((ITEMS, 3), np.float32), "present": np.zeros(ITEMS, bool)}, {}, name="sound")
    QUANTIZER.write(arrays, {"modalities": metadata})
    SEMANTIC_IDS.write(pl.concat(tables))


@pytest.fixture(scope="session")
def tiny():
    return SimpleNamespace(
        inputs=make_inputs,
        histories=cyclic_histories,
        model=tiny_model,
        write=write_workspace,
        hidden=HIDDEN,
        params=STAGE_PARAMS,
    )


@pytest.fixture(scope="session")
def ran(tmp_path_factory, tiny):
    """The folder of a run of both stages, with a plain and an anchored model."""
    from stages import backbone, finetune

    folder = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SIDFLOW_CACHE", str(folder / "cache"))
        patch.setenv("SIDFLOW_DEVICE", "cpu")
        tiny.write(folder, STAGE_PARAMS)
        backbone.main()
        finetune.main("mme_sid")
        finetune.main("anchored")
    return folder


@pytest.fixture
def inside(ran, monkeypatch):
    """The same folder, as the current one."""
    monkeypatch.chdir(ran)
    return ran
