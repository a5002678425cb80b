"""New histories through the fine-tuned model, from its artifacts alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from sidflow.contracts.artifacts.backbone import BACKBONE
from sidflow.contracts.artifacts.embeddings import ITEM_TABLE
from sidflow.contracts.artifacts.factors import SUMMARY
from sidflow.contracts.artifacts.mme_sid import ADAPTER
from sidflow.contracts.errors import InputError
from sidflow.contracts.params import check
from sidflow.llm import adapter, backbones, prompt
from sidflow.llm.model import encode
from sidflow.llm.params import FinetuneParams
from sidflow.llm.reader import Reader
from sidflow.llm.results import NAME

if TYPE_CHECKING:
    from jaxtyping import Float


class HistoryEncoder:
    """The saved language model with its adapter, and every item's token."""

    def __init__(self, device: torch.device | None = None) -> None:
        """Read backbone/ and recommenders/mme_sid."""
        where = device or torch.device("cpu")
        self.params = check(
            SUMMARY.read(model=NAME)["params"], FinetuneParams, str(SUMMARY.at(model=NAME)), "`dvc repro finetune`"
        )
        model, tokenizer = backbones.load(BACKBONE.read(), self.params.weights)
        tuned = adapter.load(model, ADAPTER)
        words = prompt.render(tokenizer, self.params.prompt)
        self.reader = Reader(tuned, words, self.params.readout).to(where).eval()
        self.tokens = torch.from_numpy(ITEM_TABLE.read(model=NAME).arrays["values"]).to(where)

    def states(self, histories: Sequence[Sequence[int]]) -> Float[np.ndarray, "q h"]:
        """Return the query state of each history: its inner product with factors' `item_matrix` is the score.

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
        kept = [np.asarray(history, dtype=np.int64)[-self.params.max_length :] for history in histories]
        lengths = np.array([len(history) for history in kept], dtype=np.int64)
        items = np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        return encode(self.reader, self.tokens, items, starts, lengths).cpu().numpy()
