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
from sidflow.contracts.artifacts.mme_sid import ANCHOR, COLD_ROWS, HEADS, PRIOR_PREFIX, adapter_folder
from sidflow.contracts.errors import InputError
from sidflow.contracts.factored import Factored, served_matrix
from sidflow.contracts.params import validate_params
from sidflow.hybrid.evidence import new_histories
from sidflow.hybrid.prior import ScorePrior, prior_from_arrays
from sidflow.llm.adapter import load_adapter
from sidflow.llm.backbones import load_backbone
from sidflow.llm.cold import ColdRows
from sidflow.llm.model import encode
from sidflow.llm.params import FinetuneParams
from sidflow.llm.prompt import tokenize_prompt
from sidflow.llm.reader import PromptedBackbone
from sidflow.sequences.windows import recent_windows
from sidflow.training.weights import weights_from_arrays

if TYPE_CHECKING:
    from jaxtyping import Float


class HistoryEncoder:
    """The saved language model with its adapter, and every item's token."""

    def __init__(self, name: str, device: torch.device | None = None) -> None:
        """Read backbone/ and recommenders/<name>."""
        self.name, where = name, device or torch.device("cpu")
        self.params = validate_params(
            SUMMARY.read(model=name)["params"], FinetuneParams, str(SUMMARY.at(model=name)), "`dvc repro finetune`"
        )
        model, tokenizer = load_backbone(BACKBONE.read(), self.params.weights)
        tuned = load_adapter(model, adapter_folder(name))
        prompt = tokenize_prompt(tokenizer, self.params.prompt)
        self.backbone = PromptedBackbone(tuned, prompt, self.params.readout).to(where).eval()
        self.tokens = torch.from_numpy(ITEM_TABLE.read(model=name).arrays["values"]).to(where)
        self.item_matrix = served_matrix(FACTORS.read(model=name))
        self.prior = saved_prior(name, self.params, len(self.item_matrix))
        if self.prior is not None:
            self.prior.to(where).eval()

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
        factored = Factored(self.states(histories), matrix)
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
            wrong = [item for item in history if not 0 <= item < len(self.tokens)]
            if wrong or not len(history):
                raise InputError(
                    "history",
                    expected=f"item ids in [0, {len(self.tokens)}), at least one",
                    found=f"{wrong or 'none'}",
                    remedy="see `sidflow show item` for what the catalogue holds",
                )
        slices = new_histories(histories)
        states = encode(self.backbone, self.tokens, recent_windows(histories, self.params.max_length))
        return (states if self.prior is None else self.prior.query_states(states, slices)).cpu().numpy()


def saved_prior(name: str, params: FinetuneParams, items: int) -> ScorePrior | None:
    """Return the score prior of recommenders/<name> with its learned weights; None where it has none."""
    if params.hybrid is None:
        return None
    prior = prior_from_arrays(ANCHOR.read(model=name).arrays, items, params.hybrid)
    weights_from_arrays(prior, HEADS.read(model=name).arrays, PRIOR_PREFIX)
    return prior
