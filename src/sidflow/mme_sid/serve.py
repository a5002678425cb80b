"""The fine-tuned model from its artifacts: states and scores of new histories, and export to one merged checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import PeftModel
from safetensors.numpy import save_file
from torch.nn import functional

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.features import ITEM_TABLE
from sidflow.artifacts.recommenders import (
    ANCHOR,
    BACKBONE,
    COLD_ROWS,
    FACTORS,
    HEADS,
    PRIOR_PREFIX,
    SUMMARY,
    ScoreFactors,
    adapter_folder,
    served_matrix,
)
from sidflow.backbones.adapter import load_adapter
from sidflow.backbones.models import (
    BACKBONE_KEY,
    load_backbone,
    record_written_files,
    require_backbone,
)
from sidflow.backbones.prompted_backbone import PromptedBackbone, tokenize_prompt
from sidflow.core.disk import check_folder_target
from sidflow.core.errors import InputError
from sidflow.core.files import atomic_folder
from sidflow.core.params import validate_params
from sidflow.hybrid.prior import ScorePrior, prior_from_arrays
from sidflow.mme_sid.fusion import ColdRows
from sidflow.mme_sid.model import encode
from sidflow.mme_sid.params import FinetuneParams
from sidflow.models.loading import without_library_output
from sidflow.sequences.slices import new_histories
from sidflow.sequences.windows import recent_windows
from sidflow.training.checkpoint import weights_from_arrays

if TYPE_CHECKING:
    from jaxtyping import Float
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


# Files of a merged checkpoint, and how its scores are made, in words.
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


def load_tuned(
    name: str, params: FinetuneParams, weights: str
) -> tuple[PeftModel | PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the language model of recommender `name` with its adapter, and its tokenizer.

    Raises:
        InputError: the backbone is not the one that it was trained on, or the adapter is absent.
    """
    record = BACKBONE.read()
    require_backbone(record, HEADS.read(model=name).metadata.get(BACKBONE_KEY), f"finetune@{name}")
    model, tokenizer = load_backbone(record, weights)
    return load_adapter(model, adapter_folder(name), params.lora), tokenizer


class HistoryEncoder:
    """The saved language model with its adapter, and every item's token."""

    def __init__(self, name: str, device: torch.device | None = None) -> None:
        """Read backbone/ and recommenders/<name>."""
        self.name, target_device = name, device or torch.device("cpu")
        self.params = validate_params(
            SUMMARY.read(model=name)["params"], FinetuneParams, str(SUMMARY.at(model=name)), "`dvc repro finetune`"
        )
        tuned, tokenizer = load_tuned(name, self.params, self.params.weights)
        prompt = tokenize_prompt(tokenizer, self.params.prompt)
        self.backbone = PromptedBackbone(tuned, prompt, self.params.readout).to(target_device).eval()
        self.tokens = torch.from_numpy(ITEM_TABLE.read(model=name).arrays["values"]).to(target_device)
        self.item_matrix = served_matrix(FACTORS.read(model=name))
        self.prior = load_prior(name, self.params, len(self.item_matrix))
        if self.prior is not None:
            self.prior.to(target_device).eval()

    @cached_property
    def cold(self) -> ColdRows:
        """The rows of the items outside the core."""
        arrays = COLD_ROWS.read(model=self.name).arrays
        return ColdRows(arrays["values"], arrays["present"])

    def scores(self, histories: Sequence[Sequence[int]]) -> Float[np.ndarray, "q n"]:
        """Return each history's score of every core item; `histories` as in `states`."""
        scores = self.states(histories) @ self.item_matrix.T
        if self.prior is not None:
            scores += self.prior.cooccurrence_scores(new_histories(histories)).toarray()
        return scores

    def factors(self, histories: Sequence[Sequence[int]], cold: bool = False) -> dict[str, np.ndarray]:
        """Return the arrays of a FACTORS artifact whose queries are `histories` (as in `states`).

        Its items are those of the core or, with `cold`, of the whole catalogue. An item outside the core that has no
        row (see `cold.present`) stands there with zeros, and is not to be ranked.
        """
        matrix = np.concatenate([self.item_matrix, self.cold.values]) if cold else self.item_matrix
        factored = ScoreFactors(self.states(histories), matrix)
        if self.prior is not None and self.prior.counts is not None:
            factored = factored.plus(self.prior.cooccurrence_scores(new_histories(histories)))
        return factored.arrays()

    @torch.no_grad()
    def states(self, histories: Sequence[Sequence[int]]) -> Float[np.ndarray, "q h"]:
        """Return the query state of each history: its inner products with `item_matrix` are the scores.

        Co-occurrence scores of a hybrid come on top, as in `scores`.

        Args:
            histories: item ids, oldest first, at least one each; core or not.

        Raises:
            InputError: a history is empty or has an id that the catalogue does not.
        """
        for history in histories:
            unknown = [item for item in history if not 0 <= item < len(self.tokens)]
            if unknown or not len(history):
                raise InputError(
                    "history",
                    expected=f"item ids in [0, {len(self.tokens)}), at least one",
                    found=f"{unknown or 'none'}",
                    remedy="see `sidflow show item` for what the catalogue holds",
                )
        slices = new_histories(histories)
        states = encode(self.backbone, self.tokens, recent_windows(histories, self.params.max_length))
        return (states if self.prior is None else self.prior.query_states(states, slices)).cpu().numpy()


def load_prior(name: str, params: FinetuneParams, items: int) -> ScorePrior | None:
    """Return the score prior of recommenders/<name> with its learned weights; None where it has none."""
    if params.hybrid is None:
        return None
    prior = prior_from_arrays(ANCHOR.read(model=name).arrays, items, params.hybrid)
    weights_from_arrays(prior, HEADS.read(model=name).arrays, PRIOR_PREFIX)
    return prior


def merge(name: str, folder: Path) -> None:
    """Write recommenders/<name> to `folder`, which any transformers program loads without peft or sidflow.

    The folder has the language model with its adapter folded in (safetensors), its tokenizer, `sidflow.safetensors`
    with every item's token and row, and `sidflow.json`: the token ids around the item tokens, the readout, the longest
    history, the items' keys in the order of the rows, and in words how scores are made of all that. Of a hybrid
    they hold the counts and the weights of its score prior too. A 4-bit backbone is merged in bf16.

    Raises:
        InputError: the folder exists and is not empty, or artifacts are absent.
    """
    check_folder_target(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(str(folder), expected="a new or an empty folder", found="files", remedy="name another folder")
    summary = SUMMARY.read(model=name)
    params = validate_params(summary["params"], FinetuneParams, str(SUMMARY.at(model=name)), "`dvc repro finetune`")
    tuned, tokenizer = load_tuned(name, params, "bf16" if params.weights == "nf4" else params.weights)
    prompt = tokenize_prompt(tokenizer, params.prompt)
    cold = COLD_ROWS.read(model=name).arrays
    tables = {
        "item_tokens": ITEM_TABLE.read(model=name).arrays["values"],
        "item_matrix": served_matrix(FACTORS.read(model=name)),
        "cold_rows": cold["values"],
        "cold_present": cold["present"],
    }
    keys = ITEMS.read(columns=["item_id", "item_key"]).sort("item_id")["item_key"].to_list()
    prior = load_prior(name, params, len(tables["item_matrix"]))
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
    with atomic_folder(folder) as output:
        with without_library_output():
            merged = tuned.merge_and_unload() if isinstance(tuned, PeftModel) else tuned  # type: ignore[operator]
            merged.save_pretrained(output, safe_serialization=True)
            tokenizer.save_pretrained(output)
        save_file(tables | (prior.arrays() if prior else {}), output / TABLES)
        (output / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")
        record_written_files(output)


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
