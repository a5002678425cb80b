"""A fine-tuned MME-SID as one checkpoint: the language model with its adapter folded in, and what it is asked with."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel
from safetensors.numpy import save_file
from torch.nn import functional

from sidflow.contracts.artifacts.backbone import BACKBONE
from sidflow.contracts.artifacts.embeddings import ITEM_TABLE
from sidflow.contracts.artifacts.factors import FACTORS, SUMMARY
from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.artifacts.mme_sid import COLD_ROWS, adapter_folder
from sidflow.contracts.errors import InputError
from sidflow.contracts.factored import served_matrix
from sidflow.contracts.params import validate_params
from sidflow.hybrid.prior import ScorePrior
from sidflow.llm.adapter import load_adapter
from sidflow.llm.backbones import load_backbone
from sidflow.llm.params import FinetuneParams
from sidflow.llm.prompt import tokenize_prompt
from sidflow.llm.quiet import without_library_output
from sidflow.llm.saving import record_written_files
from sidflow.llm.serving import saved_prior

TABLES = "sidflow.safetensors"
SETTINGS = "sidflow.json"
READING = {
    "last_item": "State: the last hidden state of [before; item_tokens of the history's last max_length items], at "
    "the end.",
    "response": "State: the last hidden state of [before; item_tokens of the history's last max_length items; after], "
    "at the end.",
}
PLAIN = (
    "Score of item i: state . item_matrix[i].",
    "Rows are items in the order of item_keys: item_tokens has all of them, item_matrix the first ones, which are the "
    "candidates that training knew, cold_rows the others; where cold_present is false such an item has no row.",
)
HYBRID = (
    "Query: [own * state; for each modality of content, in order: sum over s = 1 ... last of content[modality][s - 1] "
    "* the tensor content.MODALITY at the item s steps back], as far as the history goes.",
    "Score of item i: query . item_matrix[i] + cooccurrence.weight * ln(1 + K[i] / cooccurrence.epsilon).",
    "K[i]: sum over s = 1 ... last of cooccurrence.recency[s - 1] * relation[item s steps back, i]; relation is CSR "
    "(relation_indptr, relation_indices, relation_values) over the rows of item_matrix; other items say nothing, and "
    "nothing is said of them.",
    PLAIN[1],
)


def merge(name: str, folder: Path) -> None:
    """Write recommenders/<name> to `folder`, which any transformers program loads without peft or sidflow.

    The folder has the language model with its adapter folded in (safetensors), its tokenizer, `sidflow.safetensors`
    with every item's token and row, and `sidflow.json`: the token ids around the item tokens, the readout, the longest
    history, the items' keys in the order of the rows, and in words how scores are made of all that. Of a hybrid
    they hold the counts and the weights of its score prior too. A 4-bit backbone is merged in bf16.

    Raises:
        InputError: the folder exists and is not empty, or artifacts are absent.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(str(folder), expected="a new or an empty folder", found="files", remedy="name another folder")
    summary = SUMMARY.read(model=name)
    params = validate_params(summary["params"], FinetuneParams, str(SUMMARY.at(model=name)), "`dvc repro finetune`")
    about = BACKBONE.read()
    model, tokenizer = load_backbone(about, "bf16" if params.weights == "nf4" else params.weights)
    tuned = load_adapter(model, adapter_folder(name))
    prompt = tokenize_prompt(tokenizer, params.prompt)
    cold = COLD_ROWS.read(model=name).arrays
    tables = {
        "item_tokens": ITEM_TABLE.read(model=name).arrays["values"],
        "item_matrix": served_matrix(FACTORS.read(model=name)),
        "cold_rows": cold["values"],
        "cold_present": cold["present"],
    }
    keys = ITEMS.read(columns=["item_id", "item_key"]).sort("item_id")["item_key"].to_list()
    prior = saved_prior(name, params, len(tables["item_matrix"]))
    settings = {
        "recommender": name,
        "backbone": summary["backbone"],
        "before": prompt.instruction,
        "after": prompt.marker,
        "readout": params.readout,
        "max_length": params.max_length,
        "scores": [READING[params.readout], *(HYBRID if prior else PLAIN)],
        "anchor": _prior_weights(prior) if prior else None,
        "item_keys": keys,
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        made = Path(temporary) / "made"
        with without_library_output():
            merged = tuned.merge_and_unload() if isinstance(tuned, PeftModel) else tuned  # type: ignore[operator]
            merged.save_pretrained(made, safe_serialization=True)
            tokenizer.save_pretrained(made)
        save_file(tables | (prior.arrays() if prior else {}), made / TABLES)
        (made / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")
        record_written_files(made)
        made.replace(folder)


def _prior_weights(prior: ScorePrior) -> dict[str, Any]:
    """Return the weights by the names that `HYBRID` uses."""
    weights: dict[str, Any] = {
        "last": prior.params.last,
        "own": prior.own.item(),
        "content": {name: functional.softplus(raw).tolist() for name, raw in prior.content_raw.items()},
        "cooccurrence": None,
    }
    if prior.counts is not None:
        weights["cooccurrence"] = {
            "weight": functional.softplus(prior.cooccurrence_raw).item(),
            "epsilon": functional.softplus(prior.epsilon_raw).item(),
            "recency": np.asarray(prior.counts.recency, dtype=np.float64).tolist(),
        }
    return weights
