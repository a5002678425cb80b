"""A trained recommender that generates IDs, ready for any history and for items that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from scipy.sparse import csr_matrix

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.recommenders import BACKBONE, WEIGHTS, adapter_folder
from sidflow.artifacts.semantic_ids import QUANTIZER, code_counts, codebook_digest, quantized_modalities
from sidflow.backbones.models import BACKBONE_KEY, require_backbone
from sidflow.core.errors import InputError
from sidflow.generative.fit import CODEBOOKS_KEY, make_model
from sidflow.generative.language_model import load_language_model
from sidflow.generative.params import LanguageParams, generative_entry
from sidflow.generative.ranking import CandidateTree, Decoder, beam_factors
from sidflow.generative.vocabulary import load_item_ids
from sidflow.sequences.windows import recent_windows
from sidflow.training.checkpoint import weights_from_arrays

if TYPE_CHECKING:
    from jaxtyping import Bool


def one_row(items: Sequence[int], count: int) -> csr_matrix:
    """Return which of `count` items are among `items`, bool CSR [1, count]."""
    row = np.zeros((1, count), dtype=bool)
    row[0, [item for item in items if item < count]] = True
    return csr_matrix(row)


class GenerativeRecommender:
    """The weights of a recommender, and the IDs of the catalogue as it is now.

    An item whose ID was added later, from frozen codebooks, is read and generated as all others are.
    """

    def __init__(self, name: str, device: torch.device | None = None) -> None:
        """Read recommenders/<name> and the semantic IDs.

        Raises:
            InputError: they are absent or broken, or IDs have other levels or codebooks than it was trained on.
        """
        file, where = WEIGHTS.read(model=name), str(WEIGHTS.at(model=name))
        self.params = generative_entry(name, file.metadata["params"], where)
        items, quantizer = ITEMS.read(columns=["item_id", "in_core"]), QUANTIZER.read()
        counts = {modality: code_counts(quantizer, modality) for modality in quantized_modalities(quantizer)}
        if file.metadata.get(CODEBOOKS_KEY) != codebook_digest(quantizer, self.params.ids.modalities):
            raise InputError(
                str(QUANTIZER.at()),
                expected=f"the codebooks whose semantic IDs {name} was trained on",
                found="others",
                remedy=f"run `dvc repro generate@{name}`",
            )
        sizes = cast("list[int]", file.metadata["sizes"])
        self.ids = load_item_ids(items.height, counts, self.params.ids, sizes)
        self.core = int(items["in_core"].sum())
        self.device = device or torch.device("cpu")
        if isinstance(self.params, LanguageParams):
            record, folder = BACKBONE.read(), adapter_folder(name)
            require_backbone(record, file.metadata.get(BACKBONE_KEY), f"generate@{name}")
            self.model = load_language_model(record, folder, self.ids.vocabulary, self.params)
        else:
            self.model = make_model(self.ids, self.params)
            weights_from_arrays(self.model, file.arrays, "")
        self.model.to(self.device).eval()
        self._decoders: dict[int, Decoder] = {}

    def answer(
        self, history: Sequence[int], include_cold: bool = False, excluded: Sequence[int] = (), at_least: int = 0
    ) -> tuple[dict[str, np.ndarray], Bool[np.ndarray, " n"]]:
        """Return the scores of the items that a beam generates after `history`, and which these are.

        Args:
            history: item ids, oldest first.
            include_cold: generate items outside the core as well.
            excluded: item ids that are not to be listed. An ID that they share with another item is still generated.
            at_least: how many items are to be listed, if so many are left; a narrower beam is widened.

        Returns:
            Arrays of a FACTORS artifact over the core items, or over all; and which items are on the list.
        """
        count = len(self.ids.codes) if include_cold else self.core
        if count not in self._decoders:
            candidates = CandidateTree(self.ids, count, self.device)
            self._decoders[count] = Decoder.of(self.model, self.ids, candidates, self.params.normalise)
        decoder = self._decoders[count]
        windows = recent_windows([np.asarray(history, dtype=np.int64)], self.params.max_length)
        leaves = decoder.candidates.excluded_leaves(one_row(excluded, count))
        width = max(self.params.beam, min(at_least, decoder.candidates.tree.leaves))
        factors = beam_factors(decoder.beams(windows, width, leaves), decoder.candidates)
        return factors.arrays(), factors.scores(np.arange(1))[0] > 0
