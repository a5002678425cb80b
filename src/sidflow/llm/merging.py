"""A fine-tuned MME-SID as one checkpoint: the language model with its adapter folded in, and what it is asked with."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from peft import PeftModel
from safetensors.numpy import save_file

from sidflow.contracts.artifacts.backbone import BACKBONE
from sidflow.contracts.artifacts.embeddings import ITEM_TABLE
from sidflow.contracts.artifacts.factors import FACTORS, SUMMARY
from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.artifacts.mme_sid import adapter_folder
from sidflow.contracts.errors import InputError
from sidflow.contracts.params import check
from sidflow.llm import adapter, backbones, prompt
from sidflow.llm.params import FinetuneParams
from sidflow.llm.quiet import quiet
from sidflow.llm.saving import announce

TABLES = "sidflow.safetensors"  # item_tokens [n, h], item_matrix [core, h]
SETTINGS = "sidflow.json"


def merge(name: str, folder: Path) -> None:
    """Write recommenders/<name> to `folder`, which any transformers program loads without peft or sidflow.

    The folder has the language model with its adapter folded in (safetensors), its tokenizer, `sidflow.safetensors`
    with every item's token and every candidate's row, and `sidflow.json`: the token ids around the item tokens, the
    readout, the longest history, the items' keys in the order of the rows. The state at the read position times
    `item_matrix` is the score. A 4-bit backbone is merged in bf16.

    Raises:
        InputError: the folder exists and is not empty, artifacts are absent, or the model is anchored: its scores need
            counts that are no inner product.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(str(folder), expected="a new or an empty folder", found="files", remedy="name another folder")
    summary = SUMMARY.read(model=name)
    params = check(summary["params"], FinetuneParams, str(SUMMARY.at(model=name)), "`dvc repro finetune`")
    if params.anchor != "none":
        raise InputError(
            f"recommender {name}",
            expected="scores that are inner products of states and item rows",
            found=f"anchor: {params.anchor}",
            remedy="merge one with `anchor: none`; `sidflow recommend` serves anchored ones",
        )
    about = BACKBONE.read()
    model, tokenizer = backbones.load(about, "bf16" if params.weights == "nf4" else params.weights)
    tuned = adapter.load(model, adapter_folder(name))
    words = prompt.render(tokenizer, params.prompt)
    tables = {
        "item_tokens": ITEM_TABLE.read(model=name).arrays["values"],
        "item_matrix": FACTORS.read(model=name).arrays["item_matrix"],
    }
    keys = ITEMS.read(columns=["item_id", "item_key"]).sort("item_id")["item_key"].to_list()
    settings = {
        "recommender": name,
        "backbone": summary["backbone"],
        "before": words.before,
        "after": words.after,
        "readout": params.readout,
        "max_length": params.max_length,
        "item_keys": keys,
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        made = Path(temporary) / "made"
        with quiet():
            merged = tuned.merge_and_unload() if isinstance(tuned, PeftModel) else tuned  # type: ignore[operator]
            merged.save_pretrained(made, safe_serialization=True)
            tokenizer.save_pretrained(made)
        save_file(tables, made / TABLES)
        (made / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")
        announce(made)
        made.replace(folder)
