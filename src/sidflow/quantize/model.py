"""MM-RQ-VAE: one residual-quantized autoencoder per modality, trained together.

Source: MME-SID (arXiv 2509.02017), stage 1; deviations are params, see params.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from sidflow.losses.contrastive import info_nce
from sidflow.losses.mmd import mmd
from sidflow.quantize.params import QuantizeParams
from sidflow.quantize.residual import ResidualQuantizer
from sidflow.quantize.towers import Tower, start_as_principal_components

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


class Content(NamedTuple):
    """One modality, normalised: what its autoencoder sees."""

    values: Float[Tensor, "n d"]
    present: Bool[Tensor, " n"]
    codes: list[int]  # per level


class Autoencoder(nn.Module):
    """Encoder, residual quantizer and decoder of one modality."""

    def __init__(self, width: int, codes: list[int], params: QuantizeParams) -> None:
        """Build the towers for inputs of `width`."""
        super().__init__()
        skip = params.skip == "pca"
        self.encoder = Tower([width, *params.hidden, params.code_dim], skip)
        self.decoder = Tower([params.code_dim, *reversed(params.hidden), width], skip)
        self.quantizer = ResidualQuantizer(codes, params.code_dim, params.gradient)


class MultiModalQuantizer(nn.Module):
    """All modalities' autoencoders, with their data as buffers that no checkpoint keeps."""

    def __init__(self, contents: dict[str, Content], params: QuantizeParams) -> None:
        """Build from the modalities that some item has; the global generator draws the weights."""
        super().__init__()
        self.params = params
        self.names = list(contents)
        self.autoencoders = nn.ModuleDict(
            {name: Autoencoder(content.values.shape[1], content.codes, params) for name, content in contents.items()}
        )
        for name, content in contents.items():
            self.register_buffer(f"values_{name}", content.values, persistent=False)
            self.register_buffer(f"present_{name}", content.present, persistent=False)

    def content(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the normalised values and the presence mask of modality `name`."""
        return getattr(self, f"values_{name}"), getattr(self, f"present_{name}")

    def autoencoder(self, name: str) -> Autoencoder:
        """Return the autoencoder of modality `name`."""
        found = self.autoencoders[name]
        assert isinstance(found, Autoencoder)
        return found

    def start(self, generator: torch.Generator) -> None:
        """Set the towers' linear parts and fill the codebooks, modality by modality."""
        for name in self.names:
            values, present = self.content(name)
            own = self.autoencoder(name)
            if own.encoder.skip is not None:
                start_as_principal_components(own.encoder, own.decoder, values[present])
            if self.params.initialisation == "random":
                own.quantizer.randomise(generator)
            else:
                self.refit(name, generator, balanced=self.params.initialisation == "balanced-kmeans")

    def refit(self, name: str, generator: torch.Generator, balanced: bool = False, first: int = 0) -> None:
        """Fill the codebooks of `name` from level `first` on by k-means on the encoder's present output."""
        values, present = self.content(name)
        with torch.no_grad():
            z = self.autoencoder(name).encoder(values[present])
        self.autoencoder(name).quantizer.initialise(z, generator, balanced, first)

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the losses of a batch of item ids; `loss` is what is minimised."""
        params, quantized = self.params, {}
        device = self.content(self.names[0])[0].device
        rows = rows.to(device)
        zero = torch.zeros((), device=device)
        epsilons = params.epsilons() if self.training else None  # IDs are assigned without balancing
        losses: dict[str, Tensor] = dict.fromkeys(
            ("reconstruction_mse", "reconstruction_mmd", "codebook", "commitment", "alignment"), zero
        )
        for name in self.names:
            values, present = self.content(name)
            own, here = self.autoencoder(name), rows[present[rows]]
            if not len(here):
                continue
            x = values[here]
            found = own.quantizer(own.encoder(x), epsilons, params.sinkhorn_iterations, self._revival(own))
            decoded = own.decoder(found.values)
            if params.reconstruction != "mmd":
                losses["reconstruction_mse"] = losses["reconstruction_mse"] + functional.mse_loss(decoded, x)
            if params.reconstruction != "mse":
                term = mmd(decoded, x, params.mmd_bandwidths, params.mmd_estimator)
                losses["reconstruction_mmd"] = losses["reconstruction_mmd"] + term
            losses["codebook"] = losses["codebook"] + found.codebook
            losses["commitment"] = losses["commitment"] + found.commitment
            quantized[name] = (here, found.values)
        losses["alignment"] = self._alignment(rows, quantized, zero)
        losses["loss"] = (
            self.wanted(losses)
            + params.codebook_weight * losses["codebook"]
            + params.commitment_weight * losses["commitment"]
        )
        return losses

    def wanted(self, losses: dict[str, Tensor]) -> Tensor:
        """Return the weighted losses but for those that only hold codebooks and encoders together."""
        return (
            self.params.mse_weight * losses["reconstruction_mse"]
            + self.params.mmd_weight * losses["reconstruction_mmd"]
            + self.params.alignment_weight * losses["alignment"]
        )

    def _revival(self, own: Autoencoder) -> float:
        if not self.training or not self.params.revive_below:
            return 0.0
        return self.params.revive_below if own.quantizer.next_step() % self.params.revive_every == 0 else 0.0

    def _alignment(self, rows: Tensor, quantized: dict[str, tuple[Tensor, Tensor]], zero: Tensor) -> Tensor:
        """Align the anchor with each other modality over the batch's items that have both."""
        params, total = self.params, zero
        anchor = params.alignment_anchor
        if params.alignment == "none" or anchor not in quantized:
            return total
        for name in quantized:
            if name != anchor:
                a, b = (
                    _matching(quantized[one], self.content(other)[1]) for one, other in ((anchor, name), (name, anchor))
                )
                total = total + (
                    info_nce(a, b, params.temperature)
                    if params.alignment == "infonce"
                    else mmd(a, b, params.mmd_bandwidths, params.mmd_estimator)
                )
        return total


def _matching(quantized: tuple[Tensor, Tensor], present_in_other: Tensor) -> Tensor:
    items, values = quantized
    return values[present_in_other[items]]
