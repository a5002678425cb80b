"""MM-RQ-VAE: one residual-quantized autoencoder per modality, trained together.

Source: MME-SID (arXiv 2509.02017), stage 1. Deviations are knobs: see `QuantizeParams`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from sidflow.semantic_ids.params import QuantizeParams
from sidflow.semantic_ids.residual_quantizer import ResidualQuantizer
from sidflow.training.checkpoint import module_key
from sidflow.training.losses import info_nce, mmd

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


class ModalityTensors(NamedTuple):
    """One normalised modality and the codes it gets."""

    values: Float[Tensor, "n d"]
    present: Bool[Tensor, " n"]
    codes: list[int]  # per level


class QuantizedItems(NamedTuple):
    """The quantized vectors of a batch's items in one modality."""

    items: Int[Tensor, " b"]
    vectors: Float[Tensor, "b c"]


class Tower(nn.Module):
    """An MLP with ReLU between its layers and none at the end, optionally with a parallel linear map (`skip`)."""

    def __init__(self, widths: list[int], skip: bool) -> None:
        """Build layers widths[0] -> ... -> widths[-1]; with `skip` the last one starts at zero."""
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        for layer in self.layers:
            nn.init.xavier_normal_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.skip = nn.Linear(widths[0], widths[-1], bias=False) if skip else None
        if skip:
            nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "b d_in"]) -> Float[Tensor, "b d_out"]:
        """Return the outputs."""
        hidden = x
        for layer in self.layers[:-1]:
            hidden = torch.relu(layer(hidden))
        output = self.layers[-1](hidden)
        return output if self.skip is None else output + self.skip(x)


class RQVAE(nn.Module):
    """Encoder, residual quantizer and decoder of one modality."""

    def __init__(self, width: int, codes: list[int], params: QuantizeParams) -> None:
        """Build for inputs of `width` with `codes` codes per level."""
        super().__init__()
        skip = params.skip == "pca"
        self.encoder = Tower([width, *params.hidden, params.code_dim], skip)
        self.decoder = Tower([params.code_dim, *reversed(params.hidden), width], skip)
        self.quantizer = ResidualQuantizer(codes, params.code_dim, params.gradient)

    def initialise_skips_with_pca(self, x: Float[Tensor, "n d"]) -> None:
        """Set the skips to the projection onto the principal components of centred `x`, and back.

        With a code dimension below that of `x` this is the best linear autoencoder; further code dimensions start at 0.
        """
        encoder, decoder = self.encoder.skip, self.decoder.skip
        assert encoder is not None and decoder is not None
        gram = (x.double().T @ x.double()).cpu()
        vectors = torch.linalg.eigh(gram)[1].flip(1)  # [d, d], largest first
        strongest = vectors.abs().argmax(0)
        signs = torch.sign(vectors[strongest, torch.arange(len(vectors))])
        vectors = vectors * signs  # a sign that does not depend on LAPACK
        used = min(encoder.out_features, len(vectors))
        with torch.no_grad():
            encoder.weight.zero_()
            encoder.weight[:used] = vectors[:, :used].T.to(encoder.weight)
            decoder.weight.copy_(encoder.weight.T)


class MMRQVAE(nn.Module):
    """All modalities' RQ-VAEs, with their data as buffers that no checkpoint keeps."""

    def __init__(self, modalities: dict[str, ModalityTensors], params: QuantizeParams) -> None:
        """Build from the modalities that some item has; the global generator draws the weights."""
        super().__init__()
        self.params = params
        self.names = list(modalities)
        self.autoencoders = nn.ModuleDict(
            {
                module_key(name): RQVAE(modality.values.shape[1], modality.codes, params)
                for name, modality in modalities.items()
            }
        )
        for name, modality in modalities.items():
            self.register_buffer(f"values_{name}", modality.values, persistent=False)
            self.register_buffer(f"present_{name}", modality.present, persistent=False)

    def values(self, name: str) -> Float[Tensor, "n d"]:
        """Return the normalised vectors of modality `name`, absent rows zero."""
        return getattr(self, f"values_{name}")

    def present(self, name: str) -> Bool[Tensor, " n"]:
        """Return which items have modality `name`."""
        return getattr(self, f"present_{name}")

    @property
    def device(self) -> torch.device:
        """Where the data lies."""
        return self.values(self.names[0]).device

    def autoencoder(self, name: str) -> RQVAE:
        """Return the RQ-VAE of modality `name`."""
        autoencoder = self.autoencoders[module_key(name)]
        assert isinstance(autoencoder, RQVAE)
        return autoencoder

    def initialise(self, generator: torch.Generator) -> None:
        """Set the towers' skips and fill the codebooks, modality by modality."""
        for name in self.names:
            autoencoder = self.autoencoder(name)
            if autoencoder.encoder.skip is not None:
                autoencoder.initialise_skips_with_pca(self.values(name)[self.present(name)])
            if self.params.initialisation == "random":
                autoencoder.quantizer.initialise_uniformly(generator)
            else:
                self.fit_codebooks(name, generator)

    def fit_codebooks(self, name: str, generator: torch.Generator, first_level: int = 0) -> None:
        """Fill the codebooks of `name` from `first_level` on by k-means on the encoder's output for present items."""
        autoencoder = self.autoencoder(name)
        with torch.no_grad():
            z = autoencoder.encoder(self.values(name)[self.present(name)])
        balanced = self.params.initialisation == "balanced-kmeans"
        autoencoder.quantizer.initialise_with_kmeans(z, generator, balanced, first_level)

    def forward(self, rows: Int[Tensor, " b"]) -> dict[str, Float[Tensor, ""]]:
        """Return `losses`; in training accelerate puts autocast around this method."""
        return self.losses(rows)

    def losses(self, rows: Int[Tensor, " b"]) -> dict[str, Float[Tensor, ""]]:
        """Return the losses of a batch of item ids; `loss` is what is minimised.

        Source: MME-SID, stage 1: reconstruction, codebook, commitment and alignment losses, summed over modalities.
        """
        params, quantized = self.params, {}
        rows = rows.to(self.device)
        zero = torch.zeros((), device=self.device)
        epsilons = params.epsilons() if self.training else None  # IDs are assigned without balancing
        losses: dict[str, Tensor] = dict.fromkeys(
            ("reconstruction_mse", "reconstruction_mmd", "codebook", "commitment", "alignment"), zero
        )
        for name in self.names:
            autoencoder, items = self.autoencoder(name), rows[self.present(name)[rows]]
            if not len(items):
                continue
            x = self.values(name)[items]
            output = autoencoder.quantizer(
                autoencoder.encoder(x), epsilons, params.sinkhorn_iterations, self._revival_threshold(autoencoder)
            )
            decoded = autoencoder.decoder(output.values)
            if params.reconstruction != "mmd":
                losses["reconstruction_mse"] = losses["reconstruction_mse"] + functional.mse_loss(decoded, x)
            if params.reconstruction != "mse":
                term = mmd(decoded, x, params.mmd_bandwidths, params.mmd_estimator)
                losses["reconstruction_mmd"] = losses["reconstruction_mmd"] + term
            losses["codebook"] = losses["codebook"] + output.codebook_loss
            losses["commitment"] = losses["commitment"] + output.commitment_loss
            quantized[name] = QuantizedItems(items, output.values)
        losses["alignment"] = self._alignment(quantized, zero)
        losses["loss"] = (
            self.objective(losses)
            + params.codebook_weight * losses["codebook"]
            + params.commitment_weight * losses["commitment"]
        )
        return losses

    def objective(self, losses: dict[str, Tensor]) -> Float[Tensor, ""]:
        """Return the weighted reconstruction and alignment losses, without codebook and commitment losses."""
        return (
            self.params.mse_weight * losses["reconstruction_mse"]
            + self.params.mmd_weight * losses["reconstruction_mmd"]
            + self.params.alignment_weight * losses["alignment"]
        )

    def _revival_threshold(self, autoencoder: RQVAE) -> float:
        """Return the share of fair use below which codes are revived in this step; 0 = in this step none is."""
        if not self.training or not self.params.revive_below:
            return 0.0
        due = autoencoder.quantizer.next_step() % self.params.revive_every == 0
        return self.params.revive_below if due else 0.0

    def _alignment(self, quantized: dict[str, QuantizedItems], zero: Tensor) -> Float[Tensor, ""]:
        """Return the loss that aligns the anchor with each other modality, over the batch's items that have both."""
        params, total = self.params, zero
        anchor = params.alignment_anchor
        if params.alignment == "none" or anchor not in quantized:
            return total
        for name in quantized:
            if name != anchor:
                a = self._vectors_of_items_with(name, quantized[anchor])
                b = self._vectors_of_items_with(anchor, quantized[name])
                total = total + (
                    info_nce(a, b, params.temperature)
                    if params.alignment == "infonce"
                    else mmd(a, b, params.mmd_bandwidths, params.mmd_estimator)
                )
        return total

    def _vectors_of_items_with(self, name: str, quantized: QuantizedItems) -> Float[Tensor, "b c"]:
        """Return the quantized vectors of those items that also have modality `name`."""
        return quantized.vectors[self.present(name)[quantized.items]]
