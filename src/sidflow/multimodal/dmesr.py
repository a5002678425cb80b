"""DMESR: aligned views, fused both ways with the original text, in any base model's item embedding.

    F1 = mean over views of norm(c + Attn(c -> fine units)),  F2 = mean over units of norm(f + Attn(f -> views))
    item vector = free vector + W1 n(F1) + W2 n(F2)
    n(F) = (F - m) / sqrt(d)
    loss = the base model's loss + alignment_weight * InfoNCE(text view, image view)

m is the mean of F over items at the start: layer-normalised rows share most of their length, and item vectors that
share it drown an encoder whose masked positions have no item (BERT4Rec). sqrt(d) is that length: without it a step of
W1 and W2 moves item vectors several times as far as a step of the free ones does.

c and f are linear maps of content rows, which are centred and of mean squared length 1 as raw features are. W1 and W2
start as rotations, which keep the angles between items. Attn starts at zero: at first each side is what it is without
the other.

What an item lacks is masked. `fusion`, `mode`, `alignment_weight` and the four names switch off every part apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from sidflow.artifacts.features import UNITS, ItemRows, core_rows, read_dense_rows
from sidflow.core.errors import InputError, InvalidValue
from sidflow.multimodal.cross_attention import CrossAttention, mean_of_present
from sidflow.multimodal.features import CentredRows
from sidflow.multimodal.params import KIND, MultimodalParams
from sidflow.sequential.model import ContentPart, ItemEmbedding
from sidflow.sequential.params import SequenceParams
from sidflow.training.losses import info_nce

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Int


BLOCK = 2048  # items fused at a time where no gradient is needed


class DmesrParams(MultimodalParams):
    """DMESR: a base model whose item vectors also come from aligned and fused views of the item."""

    kind: Literal["dmesr"] = Field(default="dmesr", exclude=True, description=f"{KIND}: dmesr | features | hybrid")
    text_view: str | None = Field(
        default="view_text", description="embedding of a view that is aligned with the image view; null = none"
    )
    image_view: str | None = Field(
        default="view_image", description="embedding of a view that is aligned with the text view; null = none"
    )
    joint_view: str | None = Field(
        default="view_joint", description="embedding of a third view, not aligned; null = none"
    )
    fine: str | None = Field(
        default="fine_text", description="embedding with several vectors per item, of the original text; null = none"
    )
    fusion: Literal["both", "views", "units", "none"] = Field(
        default="both",
        description="both | views (F1 alone: views attend to units) | units (F2 alone) | none (neither side attends)",
    )
    mode: Literal["add", "concat", "replace"] = Field(
        default="add",
        description="add (content on top of a free vector) | concat (a linear map of both) | replace (content alone)",
    )
    scale: float = Field(
        default=1.0, gt=0, description="size of what each side brings at the start, in that of the free vectors"
    )
    heads: int = Field(default=2, ge=1, description="attention heads of both cross-attentions; divides dimensions")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="share dropped of what the cross-attentions bring in")
    alignment_weight: float = Field(default=0.1, ge=0, description="of InfoNCE beside the recommender's loss; 0 = none")
    temperature: float = Field(default=0.1, gt=0, description="of InfoNCE")
    alignment_items: int = Field(default=512, ge=2, description="items of a batch that are aligned, at most")

    @model_validator(mode="after")
    def _has_content(self) -> DmesrParams:
        views = any((self.text_view, self.image_view, self.joint_view))
        if not views and not self.fine:
            raise InvalidValue("`text_view`, `image_view`, `joint_view` or `fine` to name an embedding", "none")
        if self.fusion == "views" and not views:
            raise InvalidValue("a view with `fusion: views`, which reads what views take from the units", "none")
        if self.fusion == "units" and not self.fine:
            raise InvalidValue("`fine` with `fusion: units`, which reads what units take from the views", "null")
        return self


class Units(NamedTuple):
    """Up to u fine vectors an item."""

    values: Float32[np.ndarray, "n u d"]
    present: Bool[np.ndarray, "n u"]


class Content(NamedTuple):
    """The content that DMESR reads; a view, or the units, that no core item has are left out."""

    views: dict[str, ItemRows[np.ndarray]]  # of `text`, `image`, `joint`
    units: Units | None


def read_content(settings: DmesrParams, count: int) -> Content:
    """Read the embeddings that `settings` name, of the `count` core items.

    Raises:
        InputError: as of `read_dense_rows`, `fine` is not of units, or mode is `replace` and no item has content of a
            side that `fusion` keeps.
    """
    named = {"text": settings.text_view, "image": settings.image_view, "joint": settings.joint_view}
    views = read_dense_rows([name for name in named.values() if name is not None], count)
    coarse = {view: views[name] for view, name in named.items() if name in views}
    units = None if settings.fine is None else _read_units(settings.fine, count)
    has_side = (coarse and settings.fusion != "units") or (units is not None and settings.fusion != "views")
    if settings.mode == "replace" and not has_side:
        raise InputError(
            "artifacts/embeddings",
            expected="content to stand for items in mode `replace`",
            found="none for any core item",
            remedy="set `mode: add` in params.yaml, or give the catalogue texts or pictures",
        )
    return Content(coarse, units)


def _read_units(name: str, count: int) -> Units | None:
    values, present = core_rows(ItemRows(**UNITS.read(name=name).arrays), count, UNITS.at(name=name))
    used = present.any(axis=0)
    if used.all():
        return Units(values, present)
    return Units(values[:, used], present[:, used]) if used.any() else None


def check_heads(settings: DmesrParams, base: SequenceParams, where: str) -> None:
    """Check that DMESR's attention heads divide the base model's dimensions.

    Raises:
        InputError: they do not; `where` is the section of both.
    """
    if base.dimensions % settings.heads:
        raise InputError(
            f"{where}.model",
            expected=f"dimensions that are a multiple of heads ({settings.heads})",
            found=str(base.dimensions),
            remedy="change either in params.yaml",
        )


class Unattended(nn.Module):
    """What cross-attention is without the attention: layer norm, mean over the present vectors."""

    def __init__(self, dimensions: int) -> None:
        """Make it `dimensions` wide."""
        super().__init__()
        self.norm = nn.LayerNorm(dimensions)

    def forward(
        self, own: Float[Tensor, "k a d"], own_present: Bool[Tensor, "k a"], *_: Tensor
    ) -> Float[Tensor, "k d"]:
        """Return one vector an item, of its `own` side alone; zero where it has none."""
        return mean_of_present(self.norm(own), own_present)


class FusedSide(nn.Module):
    """One side of the fusion: W n(F), of items that have it; zero of the others."""

    mean: Tensor

    def __init__(self, dimensions: int, std: float, settings: DmesrParams) -> None:
        """Make it `dimensions` wide; `std` is the deviation of free item vectors at the start."""
        super().__init__()
        attends = settings.fusion != "none"
        self.fused = CrossAttention(dimensions, settings.heads, settings.dropout) if attends else Unattended(dimensions)
        self.out = nn.Linear(dimensions, dimensions, bias=False)
        self.length = dimensions**0.5  # of a layer-normalised row
        nn.init.orthogonal_(self.out.weight, gain=std * self.length * settings.scale)
        self.register_buffer("mean", torch.zeros(dimensions))

    def forward(
        self,
        own: Float[Tensor, "k a d"],
        own_present: Bool[Tensor, "k a"],
        other: Float[Tensor, "k c d"],
        other_present: Bool[Tensor, "k c"],
    ) -> Float[Tensor, "k d"]:
        """Return what this side brings to the item vectors."""
        fused = self.fused(own, own_present, other, other_present)
        return self.out((fused - self.mean * own_present.any(1, keepdim=True)) / self.length)

    @torch.no_grad()
    def centre(self, own: Tensor, own_present: Tensor, other: Tensor, other_present: Tensor) -> None:
        """Set m to the mean of F over those of these items that have this side."""
        self.fused.eval()
        has_side = own_present.any(1)
        if has_side.any():
            self.mean.copy_(self.fused(own, own_present, other, other_present)[has_side].mean(0))
        self.fused.train()


class DmesrItemEmbedding(ItemEmbedding):
    """Item vector = W1 n(F1) + W2 n(F2), plus a free vector by `mode`.

    The free vector is added as it is (`add`), through a linear map W0 that starts as the identity (`concat`), or not at
    all (`replace`). An item that has no content keeps its free vector, or zero.
    Source: DMESR (arXiv 2602.13715), as far as its abstract tells; all sizes and the pooling are ours.
    """

    def __init__(self, content: Content, count: int, dimensions: int, std: float, settings: DmesrParams) -> None:
        """Make the module over `count` items, drawn by the global generator.

        Args:
            content: of the items, a row each; it is shared, not copied.
            count: n, the core items.
            dimensions: of item vectors.
            std: standard deviation of the free vectors.
            settings: the rest.
        """
        super().__init__()
        self.count, self.dimensions, self.settings = count, dimensions, settings
        self.weight = nn.Parameter(torch.randn(count, dimensions) * std) if settings.mode != "replace" else None
        self.views = list(content.views)
        self.has_units = content.units is not None
        self.rows = nn.ModuleDict(
            {name: CentredRows(view.values, view.present) for name, view in content.views.items()}
        )
        if content.units is not None:
            self.rows["fine"] = CentredRows(*content.units)
        self.project = nn.ModuleDict()
        for name in self.rows:
            self.project[name] = nn.Linear(self._rows(name).values.shape[-1], dimensions)
        if self.views and settings.fusion != "units":
            self.view_side = FusedSide(dimensions, std, settings)
        if self.has_units and settings.fusion != "views":
            self.unit_side = FusedSide(dimensions, std, settings)
        self._centre()
        if settings.mode == "concat":
            self.out_free = nn.Linear(dimensions, dimensions, bias=False)
            nn.init.eye_(self.out_free.weight)

    @torch.no_grad()
    def _centre(self) -> None:
        """Subtract what evenly spread items have in common, at the start."""
        ids = torch.linspace(0, self.count - 1, min(self.count, BLOCK)).long()
        coarse, fine = self._coarse_vectors(ids), self._fine_vectors(ids)
        if hasattr(self, "view_side"):
            self.view_side.centre(*coarse, *fine)
        if hasattr(self, "unit_side"):
            self.unit_side.centre(*fine, *coarse)

    def _coarse_vectors(self, ids: Int[Tensor, " k"]) -> tuple[Float[Tensor, "k c d"], Bool[Tensor, "k c"]]:
        if not self.views:
            return self._no_vectors(ids)
        vectors, present = zip(*(self._projected(name, ids) for name in self.views), strict=True)
        return torch.stack(vectors, 1), torch.stack(present, 1)

    def _fine_vectors(self, ids: Int[Tensor, " k"]) -> tuple[Float[Tensor, "k u d"], Bool[Tensor, "k u"]]:
        return self._projected("fine", ids) if self.has_units else self._no_vectors(ids)

    def _projected(self, name: str, ids: Int[Tensor, " k"]) -> tuple[Float[Tensor, "k ... d"], Bool[Tensor, "k ..."]]:
        rows, present = self._rows(name)(ids)
        return self.project[name](rows), present

    def _rows(self, name: str) -> CentredRows:
        return cast("CentredRows", self.rows[name])

    def _no_vectors(self, ids: Int[Tensor, " k"]) -> tuple[Float[Tensor, "k 1 d"], Bool[Tensor, "k 1"]]:
        present = torch.zeros(len(ids), 1, dtype=torch.bool, device=ids.device)
        return torch.zeros(len(ids), 1, self.dimensions, device=ids.device), present

    def fuse(self, ids: Int[Tensor, " k"]) -> Float[Tensor, "k d"]:
        """Return W1 n(F1) + W2 n(F2) of the items `ids`, of no others."""
        coarse, fine = self._coarse_vectors(ids), self._fine_vectors(ids)
        total = torch.zeros(len(ids), self.dimensions, device=ids.device)
        if hasattr(self, "view_side"):
            total = total + self.view_side(*coarse, *fine)
        if hasattr(self, "unit_side"):
            total = total + self.unit_side(*fine, *coarse)
        return total

    def forward(self, ids: Int[Tensor, " k"] | None = None) -> Float[Tensor, "k d"]:
        """Return the vectors of the items `ids`, or of all (dear with gradients: large catalogues sample)."""
        if ids is None:
            ids = torch.arange(self.count, device=next(self.parameters()).device)
        parts = [ids] if torch.is_grad_enabled() else ids.split(BLOCK)
        vectors = torch.cat([self.fuse(part) for part in parts])
        if self.weight is None:
            return vectors
        free = functional.embedding(ids, self.weight)
        return vectors + (self.out_free(free) if self.settings.mode == "concat" else free)

    @torch.no_grad()
    def content(self) -> ContentPart | None:
        """Return W1 n(F1) + W2 n(F2) of all items, and which have one of these sides; None where no item has."""
        present = [self._rows(name).present for name in self.views] if hasattr(self, "view_side") else []
        present += [self._rows("fine").present.any(1)] if hasattr(self, "unit_side") else []
        if not present:
            return None
        blocks = torch.arange(self.count, device=present[0].device).split(BLOCK)
        return ContentPart(torch.cat([self.fuse(block) for block in blocks]), torch.stack(present).any(0))

    def auxiliary(self, batch: Callable[[], Int[Tensor, " k"]]) -> dict[str, tuple[float, Tensor]]:
        """Return the alignment of the text and image views of those items of `batch` that have both, as `align`."""
        if "text" not in self.views or "image" not in self.views or not self.settings.alignment_weight:
            return {}
        ids = batch()
        paired = ids[self._rows("text").present[ids] & self._rows("image").present[ids]]
        paired = paired[torch.randperm(len(paired), device=ids.device)[: self.settings.alignment_items]]
        text, image = (self._projected(name, paired)[0] for name in ("text", "image"))
        return {"align": (self.settings.alignment_weight, info_nce(text, image, self.settings.temperature))}
