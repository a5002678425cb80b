"""From modalities to a trained quantizer: normalise, build, train, refit, hand over as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from sidflow.contracts.artifacts.quantizer import MODALITIES, ORDER, QUANTIZER
from sidflow.contracts.errors import InputError
from sidflow.contracts.running import say
from sidflow.quantize.model import Content, MultiModalQuantizer
from sidflow.quantize.params import QuantizeParams
from sidflow.quantize.refinement import refine
from sidflow.quantize.residual import ResidualQuantizer
from sidflow.quantize.separation import first_of_each, separate
from sidflow.quantize.sizes import codes_per_level
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.device import full_precision
from sidflow.training.loop import Fit, fit


class Modality(NamedTuple):
    """A modality as the pipeline has it: absent rows are zero."""

    values: np.ndarray  # float32 [n, d]
    present: np.ndarray  # bool [n]


class Trained(NamedTuple):
    """What the stage writes."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, object]
    curves: list[dict[str, float]]
    best_epoch: int  # from 0; -1 for a method that does not train


class Normalised(NamedTuple):
    """A modality moved to mean zero and a mean variance of one per dimension; distances keep their proportions."""

    values: np.ndarray  # float32 [n, d], absent rows zero
    mean: np.ndarray  # float32 [d]
    scale: np.ndarray  # float32 [1]


def normalise(modality: Modality) -> Normalised:
    """Return `modality` normalised over its present rows."""
    rows = modality.values[modality.present].astype(np.float64)
    mean = rows.mean(axis=0).astype(np.float32)
    spread = float(np.sqrt(np.square(rows - mean).mean()))
    scale = np.float32(spread if spread > 0 else 1.0)
    values = (modality.values - mean) / scale * modality.present[:, None]
    return Normalised(values.astype(np.float32), mean, np.array([scale]))


class Task:
    """The training of a `MultiModalQuantizer`, for `fit`."""

    def __init__(self, module: MultiModalQuantizer, params: QuantizeParams) -> None:
        """Train `module` over all items that have a modality."""
        self.module: nn.Module = module
        self.quantizer, self.params = module, params
        some = torch.stack([module.content(name)[1] for name in module.names]).any(0)
        self.items = torch.nonzero(some)[:, 0].cpu()

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[torch.Tensor]:
        """Return item ids: `passes` shuffles of all, cut into batches of nearly equal size."""
        batches: list[torch.Tensor] = []
        for _ in range(self.params.passes):
            order = self.items[torch.randperm(len(self.items), generator=generator)]
            batches += order.tensor_split(self._count())
        return batches

    def validate(self) -> Mapping[str, float]:
        """Return figures on all items with nearest codes; the first, lower is better, ends the training.

        It is what is wanted of the IDs: reconstruction and alignment losses as weighted in training, plus the share
        of items whose codes another item has too, mean over modalities. No item is held out: what is fitted are
        the very items that get IDs, and in the precision in which they get them.
        """
        with full_precision(self.quantizer.content(self.quantizer.names[0])[0].device):
            return self._figures()

    def _figures(self) -> dict[str, float]:
        wanted, seen = 0.0, 0
        for rows in self.items.tensor_split(self._count()):
            wanted += float(self.quantizer.wanted(self.quantizer(rows))) * len(rows)
            seen += len(rows)
        collisions, usage = [], []
        for name in self.quantizer.names:
            values, present = self.quantizer.content(name)
            own = self.quantizer.autoencoder(name)
            codes = own.quantizer(own.encoder(values[present])).codes
            collisions.append(_collision_rate(codes))
            usage += [len(codes[:, level].unique()) / size for level, size in enumerate(_sizes(own.quantizer))]
        rate = float(np.mean(collisions))
        return {"all_objective": wanted / seen + rate, "all_collision_rate": rate, "all_code_usage_lowest": min(usage)}

    def _count(self) -> int:
        return -(-len(self.items) // self.params.batch_size)


def train(
    modalities: Mapping[str, Modality],
    params: QuantizeParams,
    seed: int,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train the quantizer of every modality that some item has.

    Args:
        modalities: by name, in the order of params; rows are the same items in all.
        params: how.
        seed: draws starts, batches and revivals.
        device: where.
        checkpoint: see `sidflow.training.loop.fit`.

    Raises:
        InputError: no modality has an item, widths of masks differ, there are fewer distinct items than codes, or
            several modalities are to be aligned to one that is not there.
    """
    usable = _usable(modalities)
    _check_anchor(usable, params)
    normalised = {name: normalise(modality) for name, modality in usable.items()}
    codes = {
        name: codes_per_level(modality.values[modality.present], params.codes, params.levels, name)
        for name, modality in usable.items()
    }
    contents = {
        name: Content(torch.from_numpy(normalised[name].values), torch.from_numpy(modality.present), codes[name])
        for name, modality in usable.items()
    }
    for name, content in contents.items():
        items, width = int(content.present.sum()), content.values.shape[1]
        say(f"quantize: {name}, {items} items, {width} dimensions, codes per level {content.codes}")
    generator = torch.Generator().manual_seed(seed)
    if params.method == "rq-kmeans":
        arrays, curves, best = _residual_kmeans(contents, params, generator, device), [], -1
    else:
        arrays, fitted = _autoencoders(contents, params, seed, generator, device, checkpoint)
        curves, best = fitted.curves, fitted.best_epoch
    for name, found in normalised.items():
        arrays |= {f"mean.{name}": found.mean, f"scale.{name}": found.scale}
    metadata: dict[str, object] = {
        "method": params.method,
        MODALITIES: {name: {"codes": codes[name], "items": int(usable[name].present.sum())} for name in usable},
        ORDER: list(usable),
        "absent": sorted(set(modalities) - set(usable)),
    }
    return Trained(arrays, metadata, curves, best)


def frozen(path: str, modalities: Mapping[str, Modality]) -> Trained:
    """Return an earlier quantizer as it is, for items that it was not trained on.

    Raises:
        InputError: no such file, or it lacks a modality that some item has, or knows it in another width.
    """
    quantizer = QUANTIZER.read_from(Path(path))
    for name, modality in _usable(modalities).items():
        known = quantizer.arrays.get(f"mean.{name}")
        if known is None or len(known) != modality.values.shape[1]:
            raise InputError(
                path,
                expected=f"the modality `{name}` in {modality.values.shape[1]} dimensions",
                found="none such" if known is None else f"{len(known)} dimensions",
                remedy="embed with the encoders of that quantizer, or set quantize.frozen_from to null and train",
            )
    kept = {key: value for key, value in quantizer.metadata.items() if key not in ("schema", "version")}
    return Trained(quantizer.arrays, kept, [], -1)


def effective(params: QuantizeParams) -> QuantizeParams:
    """Return the params in force: published methods neither refine nor part, `rq-vae` has neither MMD nor alignment."""
    if params.method == "mm-rq-vae":
        return params
    alone = {"alignment": "none", "reconstruction": "mse"} if params.method == "rq-vae" else {}
    return params.model_copy(update={"refine_steps": 0, "separate_steps": 0, **alone})


def _usable(modalities: Mapping[str, Modality]) -> dict[str, Modality]:
    sizes = {name: len(modality.present) for name, modality in modalities.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(
            "artifacts/modalities",
            expected="the same items in every modality",
            found=f"rows {sizes}",
            remedy="run `dvc repro quantize`, which makes them from one catalogue",
        )
    usable = {name: modality for name, modality in modalities.items() if modality.present.any()}
    if not usable:
        raise InputError(
            "artifacts/modalities",
            expected="an item with a vector in at least one modality",
            found=f"none in {list(modalities)}",
            remedy="name other sources under `modality` in params.yaml",
        )
    return usable


def _check_anchor(usable: Mapping[str, Modality], params: QuantizeParams) -> None:
    """Refuse an anchor that is not there; one modality alone has nothing to be aligned to, whatever the anchor."""
    aligned = params.method == "mm-rq-vae" and params.alignment != "none"
    if aligned and len(usable) > 1 and params.alignment_anchor not in usable:
        raise InputError(
            "params.yaml:quantize.alignment_anchor",
            expected=f"one of the modalities that some item has: {list(usable)}",
            found=repr(params.alignment_anchor),
            remedy="name one of them, or set quantize.alignment to none",
        )


def _autoencoders(
    contents: dict[str, Content],
    params: QuantizeParams,
    seed: int,
    generator: torch.Generator,
    device: torch.device,
    checkpoint: Checkpoint | None,
) -> tuple[dict[str, np.ndarray], Fit]:
    params = effective(params)
    module = MultiModalQuantizer(contents, params).to(device)
    module.start(generator)
    task = Task(module, params)
    fitted = fit("quantize", task, params.loop, seed=seed, device=device, checkpoint=checkpoint, higher_is_better=False)
    arrays: dict[str, np.ndarray] = {}
    balanced = params.initialisation == "balanced-kmeans"
    for name in module.names:
        if params.refit != "none":
            first = params.levels - 1 if params.refit == "last" else 0
            module.refit(name, generator, balanced=balanced, first=first)
        own = module.autoencoder(name)
        _finish(module, name, params)
        arrays[f"codebooks.{name}"] = _padded(own.quantizer)
        for side, tower in (("encoder", own.encoder), ("decoder", own.decoder)):
            for key, tensor in tower.state_dict().items():
                arrays[f"{side}.{name}.{key.removeprefix('layers.')}"] = tensor.detach().cpu().numpy()
    return arrays, fitted


def _finish(module: MultiModalQuantizer, name: str, params: QuantizeParams) -> None:
    """Refine the code vectors of a modality together, then part what still shares all codes."""
    values, present = module.content(name)
    own = module.autoencoder(name)
    with torch.no_grad():
        z = own.encoder(first_of_each(values[present]))
    refine(own.quantizer, z, params.refine_steps)
    left = separate(own.quantizer, z, params.separate_steps, params.separate_weight)
    say(f"quantize: {name}, {left} of {len(z)} distinct items share all codes with another")


def _residual_kmeans(
    contents: dict[str, Content], params: QuantizeParams, generator: torch.Generator, device: torch.device
) -> dict[str, np.ndarray]:
    arrays = {}
    for name, content in contents.items():
        quantizer = ResidualQuantizer(content.codes, content.values.shape[1]).to(device)
        values = content.values[content.present].to(device)
        quantizer.initialise(values, generator, params.initialisation == "balanced-kmeans")
        arrays[f"codebooks.{name}"] = _padded(quantizer)
    return arrays


def _sizes(quantizer: ResidualQuantizer) -> list[int]:
    return [len(codebook) for codebook in quantizer.codebooks]


def _padded(quantizer: ResidualQuantizer) -> np.ndarray:
    sizes = _sizes(quantizer)
    padded = np.zeros((len(sizes), max(sizes), quantizer.codebooks[0].shape[1]), dtype=np.float32)
    for level, codebook in enumerate(quantizer.codebooks):
        padded[level, : len(codebook)] = codebook.detach().cpu().numpy()
    return padded


def _collision_rate(codes: torch.Tensor) -> float:
    _, counts = codes.unique(dim=0, return_counts=True)
    return float(counts[counts > 1].sum()) / max(1, len(codes))


def summary(
    trained: Trained, params: QuantizeParams, seed: int, threads: int, device: torch.device
) -> dict[str, object]:
    """Return what a reader wants to know of a training: params as used, sizes, best epoch, device."""
    best = trained.curves[trained.best_epoch] if trained.curves else {}
    return {
        **trained.metadata,
        "params": effective(params).model_dump(mode="json"),
        "shapes": {key: list(array.shape) for key, array in trained.arrays.items() if key.startswith("codebooks.")},
        "epochs": len(trained.curves),
        "best_epoch": trained.best_epoch + 1,
        "best": dict(best),
        "seed": seed,
        "threads": threads,
        "device": str(device),
    }
