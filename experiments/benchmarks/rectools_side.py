"""RecTools' side of the benchmarks against it, for the interpreter that RecTools is installed in; sidflow is not.

`sasrec_training.py` and `full_ranking.py` start it. It reads FILE, arrays `items` and `offsets` of all users' sequences
and `settings` as JSON, and prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import peak_memory_mb


def load(path: Path) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Return every user's items in order, and the settings."""
    with np.load(path) as arrays:
        return np.split(arrays["items"], arrays["offsets"][1:-1]), json.loads(str(arrays["settings"]))


def dataset(sequences: list[np.ndarray]) -> Any:
    import pandas as pd  # type: ignore[import-not-found]
    from rectools.dataset import Dataset  # type: ignore[import-not-found]

    lengths = [len(one) for one in sequences]
    position = np.concatenate([np.arange(length) for length in lengths])
    return Dataset.construct(
        pd.DataFrame(
            {
                "user_id": np.repeat(np.arange(len(sequences)), lengths),
                "item_id": np.concatenate(sequences),
                "weight": 1,
                "datetime": pd.Timestamp(2020, 1, 1) + pd.to_timedelta(position, unit="s"),
            }
        )
    )


def model(settings: dict[str, Any], kind: str, steps: int, ticks: list[float]) -> Any:
    """Return a SASRec of `settings` that trains for `steps` batches and notes when each of them was done.

    Args:
        settings: sizes.
        kind: `stock`, or `unpadded`: logits of real targets alone. The loss is the same.
        steps: batches.
        ticks: where times are noted.
    """
    import torch
    from pytorch_lightning import Callback, Trainer  # type: ignore[import-not-found]
    from rectools.models import SASRecModel  # type: ignore[import-not-found]
    from rectools.models.nn.transformers.lightning import TransformerLightningModule  # type: ignore[import-not-found]

    class Unpadded(TransformerLightningModule):
        def real_loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            real = batch["y"] != 0
            table = self.torch_model.item_model.get_all_embeddings()
            states = self.torch_model.encode_sessions(batch, table)[real]
            candidates = torch.cat([batch["y"][real][:, None], batch["negatives"][real]], dim=1)
            logits = self.torch_model.similarity_module(states, table, candidates) / self.logits_t
            first = torch.zeros(len(logits), dtype=torch.long)
            return torch.nn.functional.cross_entropy(logits, first)

        def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
            loss = self.real_loss(batch)
            self.log(self.train_loss_name, loss, on_step=False, on_epoch=True, prog_bar=False)
            return loss

    class Clock(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            ticks.append(time.perf_counter())

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=10_000, max_steps=steps, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False, callbacks=[Clock()],
        )  # fmt: skip

    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    return SASRecModel(
        n_blocks=settings["blocks"], n_heads=settings["heads"], n_factors=settings["dimensions"],
        session_max_len=settings["max_length"], dropout_rate=settings["dropout"], loss="sampled_softmax",
        n_negatives=settings["negatives"], batch_size=settings["batch_size"], lr=settings["learning_rate"],
        lightning_module_type=TransformerLightningModule if kind == "stock" else Unpadded, get_trainer_func=trainer,
    )  # fmt: skip


def loss_difference(fitted: Any) -> float:
    """Return by how much the loss of real targets differs from RecTools' own on one batch."""
    import torch

    module = fitted.lightning_model.eval()
    batch = next(iter(fitted.data_preparator.get_dataloader_train()))
    with torch.no_grad():
        own = module.loss_calculator(module.get_batch_logits(batch), batch["y"], batch["yw"])
        return abs(float(own - module.real_loss(batch)))


def train(path: Path, kind: str, warm_up: int, steps: int) -> dict[str, float]:
    sequences, settings = load(path)
    ticks: list[float] = []
    fitted = model(settings, kind, warm_up + steps, ticks)
    fitted.fit(dataset(sequences))
    peak = peak_memory_mb()
    seconds = ticks[warm_up + steps - 1] - ticks[warm_up - 1]
    figures = {"per_second": settings["batch_size"] * steps / seconds, "peak_mb": peak}
    return figures if kind == "stock" else figures | {"loss_difference": loss_difference(fitted)}


def recommend(path: Path, steps: int, factors: Path) -> dict[str, float]:
    """Recommend to everybody after a few steps of training, and write the factors and the lists for a check."""
    sequences, settings = load(path)
    fitted = model(settings, "unpadded", steps, [])
    data = dataset(sequences)
    fitted.fit(data)
    users = np.arange(len(sequences))
    began = time.perf_counter()
    lists = fitted.recommend(users, data, k=settings["top"], filter_viewed=True)
    seconds = time.perf_counter() - began
    peak = peak_memory_mb()
    preparator, known_items = fitted.data_preparator, np.sort(fitted.data_preparator.get_known_item_ids().astype(int))
    chosen = preparator.transform_dataset_u2i(data, users)
    loader = preparator.get_dataloader_recommend(chosen, fitted.recommend_batch_size)
    states, table = fitted.lightning_model._get_user_item_embeddings(loader, None)
    np.savez(
        factors,
        states=states.numpy()[chosen.user_id_map.convert_to_internal(users)],
        known=known_items,
        matrix=table.numpy()[preparator.item_id_map.convert_to_internal(known_items)],
        lists=lists.sort_values(["user_id", "rank"])["item_id"].to_numpy().reshape(len(users), -1),
    )
    return {"seconds": seconds, "peak_mb": peak, "known_items": len(known_items)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "recommend"])
    parser.add_argument("--data", type=Path, required=True, metavar="FILE")
    parser.add_argument("--kind", choices=["stock", "unpadded"], default="stock")
    parser.add_argument("--warm-up", type=int, default=10)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--factors", type=Path)
    args = parser.parse_args()
    if args.what == "train":
        figures = train(args.data, args.kind, args.warm_up, args.steps)
    else:
        figures = recommend(args.data, args.steps, args.factors)
    print("\n" + json.dumps(figures))


if __name__ == "__main__":
    main()
