"""Training of one RQ-VAE, side by side with a public implementation at the same sizes on the same rows.

Run: python experiments/benchmarks/quantizer_training.py --against letter --checkout DIR --run office-products=FOLDER
     python experiments/benchmarks/quantizer_training.py --against botta --checkout DIR --run office-products=FOLDER

DIR is a checkout outside of this repository, made by
    git clone https://github.com/HonghuiBao2000/LETTER DIR               (needs k-means-constrained)
    git clone https://github.com/EdoardoBotta/RQ-VAE-Recommender DIR     (needs einops, gin-config, huggingface_hub)
FOLDER holds a project in which the preset has run (`dvc repro modality`). Each side runs in a process of its own with
one thread; its start (k-means) is timed apart from its training. None of their code is part of this repository.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from finished_run import add_run_option, name_of
from quantizer_common import load
from side_by_side import (
    RESULTS,
    Measurement,
    begun_record,
    benchmark_parser,
    benchmark_record,
    commit,
    machine,
    run_in_turn,
    run_side_or_all,
    side_command,
)

from sidflow.core.memory import peak_memory_mb
from sidflow.semantic_ids.assign import group_rows
from sidflow.semantic_ids.fit import QuantizerTask
from sidflow.semantic_ids.inputs import normalise
from sidflow.semantic_ids.mm_rq_vae import MMRQVAE, ModalityTensors
from sidflow.semantic_ids.params import QuantizeParams
from sidflow.training.devices import prepare_training
from sidflow.training.loop import fit

MODALITY = "text"
SIZES: dict[str, dict[str, Any]] = {  # as their own configuration has them
    "letter": {"hidden": [2048, 1024, 512, 256, 128, 64], "code_dim": 32, "levels": 4, "batch_size": 1024},
    "botta": {"hidden": [512, 256, 128], "code_dim": 32, "levels": 3, "batch_size": 640},
}
RATE, DECAY, CODES, SEED = 1e-3, 1e-4, 256, 42


class Trained(NamedTuple):
    """What one side did."""

    start_seconds: float
    seconds: float
    codes: np.ndarray  # [n, l], by the nearest code
    decoded: np.ndarray  # [n, d]


def ours(x: torch.Tensor, against: str, epochs: int) -> Trained:
    sizes = SIZES[against]
    params = QuantizeParams.model_validate(
        {
            **sizes,
            "method": "rq-vae",
            "codes": CODES,
            "skip": "none",
            "reconstruction": "mse",
            "alignment": "none",
            "commitment_weight": 0.25,
            "sinkhorn": [0.0, 0.0, 0.0, 0.003] if against == "letter" else 0.0,
            "passes": epochs,
            "loop": {"epochs": 1, "patience": 0, "learning_rate": RATE, "weight_decay": DECAY},
        }
    )
    began = time.perf_counter()
    everyone = torch.ones(len(x), dtype=torch.bool)
    module = MMRQVAE({MODALITY: ModalityTensors(x, everyone, [CODES] * params.levels)}, params)
    module.initialise(torch.Generator().manual_seed(SEED))
    task = QuantizerTask(module, params)
    started = time.perf_counter()
    fit("ours", task, params.loop, seed=SEED, device=torch.device("cpu"), higher_is_better=False)
    done = time.perf_counter()
    own = module.autoencoder(MODALITY).eval()
    with torch.no_grad():
        trained = own.quantizer(own.encoder(x))
        return Trained(started - began, done - started, trained.codes.numpy(), own.decoder(trained.values).numpy())


def letter(x: torch.Tensor, checkout: Path, epochs: int, behaviour: np.ndarray) -> Trained:
    sys.modules["wandb"] = types.ModuleType("wandb")  # imported by it, used by none of what runs here
    sys.path.insert(0, str(checkout / "RQ-VAE"))
    from datasets import EmbDataset  # type: ignore[import-not-found]
    from models.rqvae import RQVAE  # type: ignore[import-not-found]
    from trainer import Trainer  # type: ignore[import-not-found]

    sizes = SIZES["letter"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, x.numpy())
        benchmark_parser = argparse.Namespace(
            lr=RATE, learner="AdamW", weight_decay=DECAY, epochs=epochs, eval_step=epochs + 1, device="cpu",
            ckpt_dir=folder, data_path=str(path), num_workers=0,
        )  # fmt: skip
        model = RQVAE(
            in_dim=x.shape[1], num_emb_list=[CODES] * sizes["levels"], e_dim=sizes["code_dim"], layers=sizes["hidden"],
            kmeans_init=True, sk_epsilons=[0.0, 0.0, 0.0, 0.003], sk_iters=50, alpha=0.01, beta=0.0001,
            cf_embedding=behaviour,
        )  # fmt: skip
        trainer = Trainer(benchmark_parser, model)
        loader = torch.utils.data.DataLoader(EmbDataset(str(path)), batch_size=sizes["batch_size"], shuffle=True)
        began = time.perf_counter()
        trainer.vq_init()
        started = time.perf_counter()
        for epoch in range(epochs):
            trainer._train_epoch(loader, epoch)
        done = time.perf_counter()
        model.eval()
        with torch.no_grad():
            decoded, _, codes, _ = model(x, trainer.labels, use_sk=False)
    return Trained(started - began, done - started, codes.numpy(), decoded.numpy())


def botta(x: torch.Tensor, checkout: Path, epochs: int) -> Trained:
    sys.path.insert(0, str(checkout))
    from data.schemas import SeqBatch  # type: ignore[import-not-found]
    from modules.quantize import QuantizeForwardMode  # type: ignore[import-not-found]
    from modules.rqvae import RqVae  # type: ignore[import-not-found]

    torch._dynamo.config.suppress_errors = True  # without a C++ compiler its torch.compile falls back to eager
    sizes = SIZES["botta"]
    model = RqVae(
        input_dim=x.shape[1], embed_dim=sizes["code_dim"], hidden_dims=sizes["hidden"], codebook_size=CODES,
        codebook_kmeans_init=True, codebook_mode=QuantizeForwardMode.STE, n_layers=sizes["levels"],
        commitment_weight=0.25, n_cat_features=0,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)

    def batch(rows: torch.Tensor) -> Any:
        return SeqBatch(*(x[:0] for _ in range(3)), x[rows], x[:0], x[:0])

    began = time.perf_counter()
    model.train()
    with torch.no_grad():
        model.get_semantic_ids(x, 0.2)  # fills the codebooks by k-means, as its training does first
    for size in {len(part) for part in torch.arange(len(x)).split(sizes["batch_size"])}:
        model(batch(torch.arange(size)), 0.2).loss.backward()  # compiles
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(sizes["batch_size"]):
            optimizer.zero_grad()
            loss = model(batch(rows), 0.2).loss
            loss.backward()
            optimizer.step()
            loss.item()
    done = time.perf_counter()
    model.eval()
    with torch.no_grad():
        trained = model.get_semantic_ids(x)
        decoded = model.decode(trained.embeddings.sum(-1))
    return Trained(started - began, done - started, trained.sem_ids.numpy(), decoded.numpy())


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Run one side in this process."""
    prepare_training(SEED, 1)
    run, epochs = load(args.run[0]), args.epochs
    text = run.modalities[MODALITY]
    x = torch.from_numpy(normalise(text).values[text.present])
    if args.side == "ours":
        trained = ours(x, args.against, epochs)
    elif args.against == "letter":
        other = next(one for name, one in run.modalities.items() if name != MODALITY)
        behaviour = normalise(other).values[text.present][:, : SIZES["letter"]["code_dim"]]
        trained = letter(x, args.checkout, epochs, behaviour)
    else:
        trained = botta(x, args.checkout, epochs)
    first = np.sort(np.unique(group_rows(x.numpy()).label, return_index=True)[1])
    shared = group_rows(trained.codes[first]).size
    return {
        "items_per_second": len(x) * epochs / trained.seconds,
        "start_seconds": trained.start_seconds,
        "peak_mb": peak_memory_mb(),
        "reconstruction": float(np.square(trained.decoded - x.numpy()).sum() / np.square(x.numpy()).sum()),
        "collisions": float(shared[shared > 1].sum() / len(first)),
    }


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the result after each data set; a side's best round counts."""
    name = f"quantizer_training_{args.against}"
    details = earlier_details(RESULTS / f"{name}.json", args.epochs)
    for run in args.run:
        same = ("--against", args.against, "--checkout", args.checkout, "--run", run, "--epochs", args.epochs)
        trained = run_in_turn({side: side_command(__file__, side, *same) for side in ("ours", "theirs")}, args.rounds)
        best = {side: max(each, key=lambda one: one["items_per_second"]) for side, each in trained.items()}
        details[name_of(run)] = best
        yield name, summarise(args.against, args.epochs, details)


def earlier_details(path: Path, epochs: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return what was measured before on this commit, with as many epochs: data sets may come one at a time."""
    begun = begun_record(path)
    return begun["details"] if begun.get("epochs") == epochs else {}


def summarise(against: str, epochs: int, details: dict[str, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Return the result of all data sets; its numbers are the first one's."""
    findings = []
    for run, best in details.items():
        a, b = best["ours"], best["theirs"]
        findings.append(
            f"{run}: {a['items_per_second'] / b['items_per_second']:.2f}x, start {a['start_seconds']:.1f} s against "
            f"{b['start_seconds']:.1f} s, reconstruction error {a['reconstruction']:.3f} against "
            f"{b['reconstruction']:.3f}, collisions {100 * a['collisions']:.1f}% against {100 * b['collisions']:.1f}%"
        )
    first = next(iter(details))
    mine, other = details[first]["ours"], details[first]["theirs"]
    name = {"letter": "LETTER", "botta": "RQ-VAE-Recommender"}[against]
    return benchmark_record(
        f"Training an RQ-VAE at the sizes of {name}, one thread",
        f"items/s ({first})",
        Measurement(mine["items_per_second"], mine["peak_mb"]),
        Measurement(other["items_per_second"], other["peak_mb"]),
        higher_is_better=True,
        finding=f"Training an RQ-VAE, {epochs} epochs, at the sizes of {name} ({SIZES[against]}), one thread: "
        + "; ".join(findings),
        command=f"python experiments/benchmarks/quantizer_training.py --against {against} --checkout DIR "
        + f"--epochs {epochs} "
        + " ".join(f"--run {run}=FOLDER" for run in details),
        machine=machine(threads=1),
        commit=commit(),
        epochs=epochs,
        details=details,
    )


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=3)
    parser.add_argument("--against", choices=list(SIZES), required=True)
    parser.add_argument("--checkout", type=Path, required=True)
    add_run_option(parser, action="append")
    parser.add_argument("--epochs", type=int, default=60)
    run_side_or_all(parser, {"ours": measure, "theirs": measure}, results)


if __name__ == "__main__":
    main()
