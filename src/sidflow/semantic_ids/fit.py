"""From modalities to a trained quantizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from sidflow.artifacts.semantic_ids import MODALITIES_KEY, ORDER_KEY, QUANTIZER
from sidflow.core.errors import InputError
from sidflow.core.stage import print_progress
from sidflow.semantic_ids.codec import Codec
from sidflow.semantic_ids.inputs import (
    ModalityVectors,
    codes_per_level,
    normalise,
    quantized_components,
    usable_modalities,
)
from sidflow.semantic_ids.mm_rq_vae import MMRQVAE, ModalityTensors
from sidflow.semantic_ids.params import QuantizeParams
from sidflow.semantic_ids.refinement import distinct_rows, refine_codebooks, resolve_collisions
from sidflow.semantic_ids.residual_quantizer import ResidualQuantizer
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.devices import full_precision
from sidflow.training.loop import FitResult, fit


class TrainedQuantizer(NamedTuple):
    """A quantizer as the artifact stores it, and the course of its training."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, object]
    curves: list[dict[str, float]]  # one row an epoch
    best_epoch: int  # from 0; -1 for a method that does not train


class QuantizerTask:
    """The training of an `MMRQVAE`, as a task of `sidflow.training.loop.fit`."""

    def __init__(self, module: MMRQVAE, params: QuantizeParams) -> None:
        """Train `module` over all items that have a modality."""
        self.module: nn.Module = module
        self.quantizer, self.params = module, params
        any_present = torch.stack([module.present(name) for name in module.names]).any(0)
        self.items = torch.nonzero(any_present)[:, 0].cpu()

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[torch.Tensor]:
        """Return item ids: `passes` shuffles of all, cut into batches of nearly equal size."""
        batches: list[torch.Tensor] = []
        for _ in range(self.params.passes):
            order = self.items[torch.randperm(len(self.items), generator=generator)]
            batches += order.tensor_split(self._batch_count())
        return batches

    def validate(self) -> Mapping[str, float]:
        """Return metrics over all items with nearest codes, in full precision; the first decides, lower is better.

        The first is reconstruction and alignment losses as weighted in training, plus the collision rate, mean over
        modalities. No item is held out: those that are trained on are those that get IDs.
        """
        with full_precision(self.quantizer.device):
            return self._metrics()

    def _metrics(self) -> dict[str, float]:
        objective, item_count = 0.0, 0
        for rows in self.items.tensor_split(self._batch_count()):
            objective += float(self.quantizer.objective(self.quantizer.losses(rows))) * len(rows)
            item_count += len(rows)
        collision_rates, usage = [], []
        for name in self.quantizer.names:
            autoencoder = self.quantizer.autoencoder(name)
            codes = autoencoder.quantizer(
                autoencoder.encoder(self.quantizer.values(name)[self.quantizer.present(name)])
            ).codes
            collision_rates.append(_collision_rate(codes))
            counts = [len(codebook) for codebook in autoencoder.quantizer.codebooks]
            usage += [len(codes[:, level].unique()) / count for level, count in enumerate(counts)]
        rate = float(np.mean(collision_rates))
        return {
            "all_objective": objective / item_count + rate,
            "all_collision_rate": rate,
            "all_code_usage_lowest": min(usage),
        }

    def _batch_count(self) -> int:
        return -(-len(self.items) // self.params.batch_size)


def train_quantizer(
    modalities: Mapping[str, ModalityVectors],
    params: QuantizeParams,
    seed: int,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
) -> TrainedQuantizer:
    """Return a quantizer trained on every modality that some item has.

    Args:
        modalities: by name, in the order of params; rows are the same items in all.
        params: section `quantize`.
        seed: draws initial code vectors, batches and revived codes.
        device: where the training runs.
        checkpoint: see `sidflow.training.loop.fit`.

    Raises:
        InputError: no modality has an item, modalities differ in their number of items, there are fewer distinct
            items than codes, or the modality that the others are aligned to has no item.
    """
    usable = usable_modalities(modalities)
    _check_alignment_anchor(usable, params)
    projections = {}
    for name, modality in usable.items():
        if params.components is not None and params.components < modality.values.shape[1]:
            usable[name], projections[f"projection.{name}"] = quantized_components(modality, params.components)
    normalised = {name: normalise(modality) for name, modality in usable.items()}
    codes = {
        name: codes_per_level(modality.values[modality.present], params.codes, params.levels, name)
        for name, modality in usable.items()
    }
    tensors = {}
    for name, modality in usable.items():
        values, present = torch.from_numpy(normalised[name].values), torch.from_numpy(modality.present)
        tensors[name] = ModalityTensors(values, present, codes[name])
        items, width = int(present.sum()), values.shape[1]
        print_progress(f"quantize: {name}, {items} items, {width} dimensions, codes per level {codes[name]}")
    generator = torch.Generator().manual_seed(seed)
    if params.method == "rq-kmeans":
        arrays, curves, best_epoch = _fit_residual_kmeans(tensors, params, generator, device), [], -1
    else:
        arrays, training = _fit_mm_rq_vae(tensors, params, seed, generator, device, checkpoint)
        curves, best_epoch = training.curves, training.best_epoch
    for name, modality in normalised.items():
        arrays |= {f"mean.{name}": modality.mean, f"scale.{name}": modality.scale}
    arrays |= projections
    metadata: dict[str, object] = {
        "method": params.method,
        MODALITIES_KEY: {name: {"codes": codes[name], "items": int(usable[name].present.sum())} for name in usable},
        ORDER_KEY: list(usable),
        "absent": sorted(set(modalities) - set(usable)),
    }
    return TrainedQuantizer(arrays, metadata, curves, best_epoch)


def load_frozen_quantizer(path: str, modalities: Mapping[str, ModalityVectors]) -> TrainedQuantizer:
    """Return an earlier quantizer unchanged, for items that it was not trained on.

    Args:
        path: a quantizer.safetensors.
        modalities: those that it will quantize.

    Raises:
        InputError: no such file, or it lacks a modality that some item has, or was trained on another width.
    """
    quantizer = QUANTIZER.read_from(Path(path))
    for name, modality in usable_modalities(modalities).items():
        width = Codec(quantizer, name).width if f"mean.{name}" in quantizer.arrays else None
        if width != modality.values.shape[1]:
            raise InputError(
                path,
                expected=f"the modality `{name}` in {modality.values.shape[1]} dimensions",
                found="none such" if width is None else f"{width} dimensions",
                remedy="embed with the encoders of that quantizer, or set quantize.frozen_from to null and train",
            )
    metadata = {key: value for key, value in quantizer.metadata.items() if key not in ("schema", "version")}
    return TrainedQuantizer(quantizer.arrays, metadata, [], -1)


def effective_params(params: QuantizeParams) -> QuantizeParams:
    """Return the params in force: `rq-vae` and `rq-kmeans` are plain, as published.

    Neither refines codebooks nor resolves collisions, and `rq-vae` has neither MMD nor alignment.
    """
    if params.method == "mm-rq-vae":
        return params
    single_modality = {"alignment": "none", "reconstruction": "mse"} if params.method == "rq-vae" else {}
    return params.model_copy(update={"refine_steps": 0, "separate_steps": 0, **single_modality})


def quantizer_summary(
    trained: TrainedQuantizer, params: QuantizeParams, seed: int, threads: int, device: torch.device
) -> dict[str, object]:
    """Return the summary of a training: params in force, shapes, best epoch, seed, threads, device."""
    best = trained.curves[trained.best_epoch] if trained.curves else {}
    return {
        **trained.metadata,
        "params": effective_params(params).model_dump(mode="json"),
        "shapes": {key: list(array.shape) for key, array in trained.arrays.items() if key.startswith("codebooks.")},
        "epochs": len(trained.curves),
        "best_epoch": trained.best_epoch + 1,
        "best": dict(best),
        "seed": seed,
        "threads": threads,
        "device": str(device),
    }


def _check_alignment_anchor(usable: Mapping[str, ModalityVectors], params: QuantizeParams) -> None:
    """Refuse an anchor that no item has; one modality alone is not aligned, whatever the anchor.

    Raises:
        InputError: there are several modalities, and the anchor is none of them.
    """
    aligned = params.method == "mm-rq-vae" and params.alignment != "none"
    if aligned and len(usable) > 1 and params.alignment_anchor not in usable:
        raise InputError(
            "params.yaml:quantize.alignment_anchor",
            expected=f"one of the modalities that some item has: {list(usable)}",
            found=repr(params.alignment_anchor),
            remedy="name one of them, or set quantize.alignment to none",
        )


def _fit_mm_rq_vae(
    modalities: dict[str, ModalityTensors],
    params: QuantizeParams,
    seed: int,
    generator: torch.Generator,
    device: torch.device,
    checkpoint: Checkpoint | None,
) -> tuple[dict[str, np.ndarray], FitResult]:
    """Return the arrays of a trained MM-RQ-VAE, and the course of its training."""
    params = effective_params(params)
    module = MMRQVAE(modalities, params).to(device)
    module.initialise(generator)
    task = QuantizerTask(module, params)
    training = fit(
        "quantize", task, params.loop, seed=seed, device=device, checkpoint=checkpoint, higher_is_better=False
    )
    arrays: dict[str, np.ndarray] = {}
    for name in module.names:
        if params.refit != "none":
            module.fit_codebooks(name, generator, first_level=params.levels - 1 if params.refit == "last" else 0)
        autoencoder = module.autoencoder(name)
        _finish_codebooks(module, name, params)
        arrays[f"codebooks.{name}"] = _stack_codebooks(autoencoder.quantizer)
        for side, tower in (("encoder", autoencoder.encoder), ("decoder", autoencoder.decoder)):
            for key, tensor in tower.state_dict().items():
                arrays[f"{side}.{name}.{key.removeprefix('layers.')}"] = tensor.detach().cpu().numpy()
    return arrays, training


def _finish_codebooks(module: MMRQVAE, name: str, params: QuantizeParams) -> None:
    """Refine the codebooks of a modality, then resolve collisions between its distinct items."""
    autoencoder = module.autoencoder(name)
    with torch.no_grad():
        z = autoencoder.encoder(distinct_rows(module.values(name)[module.present(name)]))
    refine_codebooks(autoencoder.quantizer, z, params.refine_steps)
    colliding = resolve_collisions(autoencoder.quantizer, z, params.separate_steps, params.separate_weight)
    print_progress(f"quantize: {name}, {colliding} of {len(z)} distinct items share all codes with another")


def _fit_residual_kmeans(
    modalities: dict[str, ModalityTensors], params: QuantizeParams, generator: torch.Generator, device: torch.device
) -> dict[str, np.ndarray]:
    """Return the codebooks of residual k-means on the normalised vectors themselves."""
    arrays = {}
    for name, modality in modalities.items():
        quantizer = ResidualQuantizer(modality.codes, modality.values.shape[1]).to(device)
        values = modality.values[modality.present].to(device)
        quantizer.initialise_with_kmeans(values, generator, params.initialisation == "balanced-kmeans")
        arrays[f"codebooks.{name}"] = _stack_codebooks(quantizer)
    return arrays


def _stack_codebooks(quantizer: ResidualQuantizer) -> np.ndarray:
    """Return [l, k, d] float32, with rows of zeros where a level has fewer codes than another."""
    codebooks = [codebook.detach().cpu().numpy() for codebook in quantizer.codebooks]
    stacked = np.zeros((len(codebooks), max(map(len, codebooks)), codebooks[0].shape[1]), dtype=np.float32)
    for level, codebook in enumerate(codebooks):
        stacked[level, : len(codebook)] = codebook
    return stacked


def _collision_rate(codes: torch.Tensor) -> float:
    """Return the share of rows [n, l] whose codes another row has too."""
    _, counts = codes.unique(dim=0, return_counts=True)
    return float(counts[counts > 1].sum()) / max(1, len(codes))
