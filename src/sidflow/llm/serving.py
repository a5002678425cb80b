"""New histories through the fine-tuned model, from its artifacts alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from sidflow.contracts.artifacts.backbone import BACKBONE
from sidflow.contracts.artifacts.embeddings import ITEM_TABLE
from sidflow.contracts.artifacts.factors import FACTORS, SUMMARY
from sidflow.contracts.artifacts.mme_sid import ANCHOR, COLD_ROWS, HEADS, adapter_folder
from sidflow.contracts.errors import InputError
from sidflow.contracts.factored import Factored, served_matrix
from sidflow.contracts.params import check
from sidflow.llm import anchor
from sidflow.llm.adapter import load_adapter
from sidflow.llm.backbones import load_backbone
from sidflow.llm.cold import ColdRows
from sidflow.llm.evidence import Ends
from sidflow.llm.model import encode
from sidflow.llm.params import FinetuneParams
from sidflow.llm.prompt import tokenize_prompt
from sidflow.llm.reader import PromptedBackbone
from sidflow.training.weights import from_arrays

if TYPE_CHECKING:
    from jaxtyping import Float


class HistoryEncoder:
    """The saved language model with its adapter, and every item's token."""

    def __init__(self, name: str, device: torch.device | None = None) -> None:
        """Read backbone/ and recommenders/<name>."""
        self.name, where = name, device or torch.device("cpu")
        self.params = check(
            SUMMARY.read(model=name)["params"], FinetuneParams, str(SUMMARY.at(model=name)), "`dvc repro finetune`"
        )
        model, tokenizer = load_backbone(BACKBONE.read(), self.params.weights)
        tuned = load_adapter(model, adapter_folder(name))
        prompt = tokenize_prompt(tokenizer, self.params.prompt)
        self.backbone = PromptedBackbone(tuned, prompt, self.params.readout).to(where).eval()
        self.tokens = torch.from_numpy(ITEM_TABLE.read(model=name).arrays["values"]).to(where)
        self.item_matrix = served_matrix(FACTORS.read(model=name))
        self.anchor = saved_anchor(name, self.params, len(self.item_matrix))
        if self.anchor is not None:
            self.anchor.to(where).eval()

    @cached_property
    def cold(self) -> ColdRows:
        """The rows of the items outside the core."""
        arrays = COLD_ROWS.read(model=self.name).arrays
        return ColdRows(arrays["values"], arrays["present"])

    def scores(self, histories: Sequence[Sequence[int]]) -> Float[np.ndarray, "q n"]:
        """Return each history's score of every core item; `histories` as in `states`."""
        scores = self.states(histories) @ self.item_matrix.T
        if self.anchor is not None:
            scores += self.anchor.added(_flat(histories)).toarray()
        return scores

    def factors(self, histories: Sequence[Sequence[int]], cold: bool = False) -> dict[str, np.ndarray]:
        """Return the arrays of a FACTORS artifact whose queries are `histories` (as in `states`).

        Its items are those of the core or, with `cold`, of the whole catalogue. An item outside the core that has no
        row (see `cold.present`) stands there with zeros, and is not to be ranked.
        """
        matrix = np.concatenate([self.item_matrix, self.cold.values]) if cold else self.item_matrix
        found = Factored(self.states(histories), matrix)
        if self.anchor is not None and self.anchor.counts is not None:
            found = found.plus(self.anchor.added(_flat(histories)))
        return found.arrays()

    @torch.no_grad()
    def states(self, histories: Sequence[Sequence[int]]) -> Float[np.ndarray, "q h"]:
        """Return the query state of each history: its inner products with `item_matrix` are the scores.

        With co-occurrence in the anchor, its evidence comes on top, as in `scores`.

        Args:
            histories: item ids, oldest first, at least one each; core or not.

        Raises:
            InputError: a history is empty or has an id that the catalogue does not.
        """
        for history in histories:
            wrong = [item for item in history if not 0 <= item < len(self.tokens)]
            if wrong or not len(history):
                raise InputError(
                    "history",
                    expected=f"item ids in [0, {len(self.tokens)}), at least one",
                    found=f"{wrong or 'none'}",
                    remedy="see `sidflow show item` for what the catalogue holds",
                )
        ends = _flat(histories)
        lengths = np.minimum(ends.end - ends.begin, self.params.max_length)
        states = encode(self.backbone, self.tokens, ends.items, ends.end - lengths, lengths)
        return (states if self.anchor is None else self.anchor.states(states, ends)).cpu().numpy()


def saved_anchor(name: str, params: FinetuneParams, core: int) -> anchor.Anchor | None:
    """Return the anchor of recommenders/<name> with its learned weights; None where it has none."""
    if params.anchor == "none":
        return None
    found = anchor.load(ANCHOR.read(model=name).arrays, core, params)
    from_arrays(found, HEADS.read(model=name).arrays, "anchor.")
    return found


def _flat(histories: Sequence[Sequence[int]]) -> Ends:
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    items = [np.asarray(history, dtype=np.int64) for history in histories]
    end = np.cumsum(lengths)
    return Ends(np.concatenate(items) if items else np.zeros(0, dtype=np.int64), end - lengths, end)
