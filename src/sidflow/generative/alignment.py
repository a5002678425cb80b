"""LC-Rec's alignment tasks: an ID from its title, a title from its ID, the next title from a history of IDs.

They teach a language model what the ID tokens mean. Each is trained beside the next ID, on some rows of words and ID
tokens a step.

Source: LC-Rec (arXiv 2311.09049), section 3.3: explicit index-language alignment, and asymmetric item prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sidflow.generative.language_model import LanguageIdModel
from sidflow.generative.objective import IdLosses
from sidflow.generative.params import LanguageParams
from sidflow.generative.ranking import CandidateTree
from sidflow.generative.vocabulary import ItemIds
from sidflow.sequences.windows import SeededBatch, Windows

if TYPE_CHECKING:
    from jaxtyping import Float, Int

BEFORE_TITLE, BEFORE_ID = "The product called ", " has the ID "
BEFORE_ITS_ID, BEFORE_ITS_TITLE = "The product with the ID ", " is called "
BEFORE_NEXT_TITLE = " The product bought next is called "


class Wording(NamedTuple):
    """Texts as word tokens."""

    titles: list[list[int]]  # of every item, the end token at the end
    before_title: list[int]
    before_id: list[int]
    before_its_id: list[int]
    before_its_title: list[int]
    before_next_title: list[int]


class Row(NamedTuple):
    """A row of words and ID tokens, by their rows in the model's tables."""

    tokens: list[int]
    start: int  # from here on tokens are predicted


class AlignedLosses(IdLosses):
    """The loss of the next ID and of the alignment tasks."""

    model: LanguageIdModel

    def __init__(
        self,
        model: LanguageIdModel,
        windows: Windows,
        ids: ItemIds,
        candidates: CandidateTree,
        params: LanguageParams,
        titles: Sequence[str],
    ) -> None:
        """Tokenise the `titles` of all items; the rest is as in `IdLosses`.

        Raises:
            InputError: the model has too few positions for the longest title.
        """
        super().__init__(model, windows, ids, candidates, params.normalise)
        self.params = params.alignment
        self.wording = word_tokens(model, titles)
        self.with_id = torch.from_numpy(ids.present[: candidates.count]).nonzero()[:, 0]
        self.rows_of_ids = (torch.from_numpy(ids.tokens) + model.words).tolist()
        self.instruction = model.reader.instruction[0].tolist()
        self._require_positions()

    def _require_positions(self) -> None:
        """Check that the longest row of each task fits into the model's positions."""
        params, titles = self.params, self.wording.titles
        item = max(range(len(titles)), key=lambda item: len(titles[item]))
        history = (int(self.windows.lengths.max()) - 1) * self.tree.levels
        lengths = (
            bool(params.id_from_title) * len(self.id_row(item).tokens),
            bool(params.title_from_id) * len(self.title_row(item).tokens),
            bool(params.next_title)
            * (len(self.instruction) + history + len(self.wording.before_next_title) + len(titles[item])),
        )
        self.model.reader.require_positions(
            max(lengths) - len(self.instruction),
            "the longest row of the alignment tasks",
            "set generate.*.alignment.title_words lower, or use another backbone",
        )

    def forward(self, batch: SeededBatch) -> dict[str, Tensor]:
        """Return the weighted sum as `loss`, and each task's own loss by its name."""
        params = self.params
        losses = {"next_id": super().forward(batch.rows)["loss"]}
        total = losses["next_id"]
        draw = torch.Generator().manual_seed(batch.seed)
        items = self.with_id[torch.randint(len(self.with_id), (params.samples,), generator=draw)]
        if params.id_from_title:
            losses["id_from_title"] = self._id_loss(items)
            total = total + params.id_from_title * losses["id_from_title"]
        if params.title_from_id:
            losses["title_from_id"] = self._word_loss([self.title_row(item) for item in items.tolist()])
            total = total + params.title_from_id * losses["title_from_id"]
        if params.next_title:
            chosen = batch.rows.cpu()[torch.randperm(len(batch.rows), generator=draw)[: params.samples]]
            losses["next_title"] = self._word_loss([self.next_title_row(window) for window in chosen.tolist()])
            total = total + params.next_title * losses["next_title"]
        return {"loss": total, **losses}

    def id_row(self, item: int) -> Row:
        """Return a title, then the item's ID."""
        words = self.wording
        before = [*self._begin, *words.before_title, *words.titles[item][:-1], *words.before_id]
        return Row(before + self.rows_of_ids[item], len(before))

    def title_row(self, item: int) -> Row:
        """Return the item's ID, then its title."""
        words = self.wording
        before = [*self._begin, *words.before_its_id, *self.rows_of_ids[item], *words.before_its_title]
        return Row(before + words.titles[item], len(before))

    def next_title_row(self, window: int) -> Row:
        """Return the IDs of a training window but for its last item, then that item's title."""
        start, length = int(self.windows.starts[window]), int(self.windows.lengths[window])
        items = self.windows.items[start : start + length].tolist()
        history = [token for item in items[:-1] for token in self.rows_of_ids[item]]
        before = [*self.instruction, *history, *self.wording.before_next_title]
        return Row(before + self.wording.titles[items[-1]], len(before))

    @property
    def _begin(self) -> list[int]:
        """The token that the instruction begins with, where it is the model's begin token."""
        begin = self.model.tokenizer.bos_token_id
        return self.instruction[:1] if begin is not None and self.instruction[0] == begin else []

    def _id_loss(self, items: Int[Tensor, " m"]) -> Float[Tensor, ""]:
        rows = [self.id_row(item) for item in items.tolist()]
        starts = torch.tensor([row.start for row in rows], device=self.tokens.device)
        states = self._states(rows)
        places = starts[:, None] - 1 + torch.arange(self.tree.levels, device=starts.device)
        chosen = states.gather(1, places[..., None].expand(-1, -1, states.shape[2]))
        return self.mean_loss(chosen, items.to(starts.device))

    def _word_loss(self, rows: list[Row]) -> Float[Tensor, ""]:
        states = self._states(rows)
        tokens = _padded([row.tokens for row in rows], states.device)
        lengths = torch.tensor([len(row.tokens) for row in rows], device=states.device)[:, None]
        starts = torch.tensor([row.start for row in rows], device=states.device)[:, None]
        place = torch.arange(1, tokens.shape[1], device=states.device)
        counted = (place >= starts) & (place < lengths)
        return functional.cross_entropy(self.model.vocabulary_logits(states[:, :-1][counted]), tokens[:, 1:][counted])

    def _states(self, rows: list[Row]) -> Float[Tensor, "b t d"]:
        return self.model.mixed_states(_padded([row.tokens for row in rows], self.tokens.device))


def word_tokens(model: LanguageIdModel, titles: Sequence[str]) -> Wording:
    """Return titles and the words around them as tokens of the model."""
    tokenizer = model.tokenizer
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return [list(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]  # type: ignore[union-attr]

    around = encode([BEFORE_TITLE, BEFORE_ID, BEFORE_ITS_ID, BEFORE_ITS_TITLE, BEFORE_NEXT_TITLE])
    return Wording([[*tokens, int(end)] for tokens in encode(titles)], *around)  # type: ignore[arg-type]


def _padded(rows: list[list[int]], device: torch.device) -> Int[Tensor, "b t"]:
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True).to(device)
