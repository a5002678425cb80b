"""Item content as embeddings, and item vectors that raw features are projected into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from sidflow.artifacts.features import ItemRows
from sidflow.multimodal.params import KIND, MultimodalParams
from sidflow.sequential.model import ContentPart, ItemEmbedding
from sidflow.training.checkpoint import module_key

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Int


BLOCK = 65_536  # rows whose mean is taken at a time


class FeaturesParams(MultimodalParams):
    """A base model whose item vectors also get raw features: the opponent of multimodal methods."""

    kind: Literal["features"] = Field(
        default="features", exclude=True, description=f"{KIND}: dmesr | features | hybrid"
    )
    features: tuple[str, ...] = Field(
        default=("text", "image"),
        min_length=1,
        description="embeddings, each projected and added to a free vector per item",
    )
    dropout: float = Field(
        default=0.2, ge=0, lt=1, description="share dropped of the features, before they are projected"
    )
    scale: float = Field(
        default=1.0, gt=0, description="size of what each feature brings at the start, in that of the free vectors"
    )


class FeatureItemEmbedding(ItemEmbedding):
    """Item vector = free vector + the sum over features of W_f x_f.

    Rows x_f are centred over the items that have them and share one scale, so that their differences count and not
    what all have in common. An item that lacks a feature gets nothing from it: zero, the mean of those that have it.
    """

    def __init__(
        self,
        features: Mapping[str, ItemRows[np.ndarray]],
        count: int,
        dimensions: int,
        std: float,
        settings: FeaturesParams,
    ) -> None:
        """Make the module over `count` items, drawn by the global generator.

        Args:
            features: by name, each with a row an item; a feature that no item has is left out before.
            count: n, the core items.
            dimensions: of item vectors.
            std: standard deviation of the free vectors.
            settings: the rest.
        """
        super().__init__()
        self.count = count
        self.weight = nn.Parameter(torch.randn(count, dimensions) * std)
        self.dropout = nn.Dropout(settings.dropout)
        self.project = nn.ModuleDict()
        for name, feature in features.items():
            key = module_key(name)
            rows, present = CentredRows(
                feature.values, feature.present
            )()  # once: a full softmax reads all of them in every step
            self.register_buffer(f"{key}_rows", rows, persistent=False)
            self.register_buffer(f"{key}_present", present.clone(), persistent=False)
            project = nn.Linear(feature.values.shape[1], dimensions, bias=False)
            nn.init.normal_(project.weight, std=std * settings.scale)
            self.project[key] = project

    def forward(self, ids: Int[Tensor, " k"] | None = None) -> Float[Tensor, "k d"]:
        """Return the vectors of the items `ids`, or of all."""
        vectors = self.weight if ids is None else functional.embedding(ids, self.weight)
        for key, project in self.project.items():
            rows = self.get_buffer(f"{key}_rows")
            vectors = vectors + project(self.dropout(rows if ids is None else rows[ids]))
        return vectors

    @torch.no_grad()
    def content(self) -> ContentPart | None:
        """Return the sum over features of W_f x_f of all items; None where no item has a feature."""
        if not self.project:
            return None
        parts = [project(self.get_buffer(f"{key}_rows")) for key, project in self.project.items()]
        present = torch.stack([self.get_buffer(f"{key}_present") for key in self.project]).any(0)
        return ContentPart(torch.stack(parts).sum(0), present)


class CentredRows(nn.Module):
    """Content rows less the mean of those present, of mean squared length 1; absent rows are zero.

    The values are shared, and centred where they are looked up.
    """

    values: Tensor
    present: Tensor
    mean: Tensor
    length: Tensor

    def __init__(self, values: Float32[np.ndarray, "n ... d"], present: Bool[np.ndarray, "n ..."]) -> None:
        """Take the mean and the length of the present rows. They and the values are no part of the state."""
        super().__init__()
        values, present = np.require(values, requirements="W"), np.require(present, requirements="W")
        rows, mask = values.reshape(-1, values.shape[-1]), present.reshape(-1)
        blocks = [slice(start, start + BLOCK) for start in range(0, len(rows), BLOCK)]  # no copy of all
        count = max(int(mask.sum()), 1)
        sums = np.stack([rows[block][mask[block]].sum(0, dtype=np.float64) for block in blocks])
        mean = (sums.sum(0) / count).astype(np.float32)
        squares = sum(np.square(rows[block][mask[block]] - mean).sum(dtype=np.float64) for block in blocks)
        length = np.array(max((squares / count) ** 0.5, 1e-12), dtype=np.float32)
        buffers = {"values": values, "present": present, "mean": mean, "length": length}
        for name, array in buffers.items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def forward(self, ids: Int[Tensor, " k"] | None = None) -> tuple[Float[Tensor, "k ... d"], Bool[Tensor, "k ..."]]:
        """Return the rows of the items `ids`, or of all, and which are present."""
        values, present = (self.values, self.present) if ids is None else (self.values[ids], self.present[ids])
        return (values - self.mean) / self.length * present[..., None], present
