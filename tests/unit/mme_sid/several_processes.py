"""Trainings that one process and two run alike: `python several_processes.py FOLDER` under a launcher, or imported."""

import json
import os
import sys
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
from tests.unit.mme_sid import conftest as tiny
from torch.distributed.tensor import DTensor

from sidflow.backbones.models import Backbone
from sidflow.backbones.scratch import train_tokenizer
from sidflow.core.runtime import is_main_process, process_rank
from sidflow.mme_sid.fit import score_prior
from sidflow.mme_sid.model import MmeSid, MmeSidTask
from sidflow.mme_sid.params import FinetuneParams
from sidflow.training.checkpoint import Checkpoint, trained_state
from sidflow.training.devices import join_process_group, leave_process_group, prepare_training, shard_frozen_layers
from sidflow.training.loop import fit

CASES = [("ddp", "none"), ("ddp", "both"), ("ddp", "sampled"), ("fsdp", "none"), ("fsdp", "both")]
KILLED_AT = 6


def finetuned(kind, dropout=0.0, checkpoint=None, killed_at=0):
    """Train a tiny model for two epochs of four batches, the last of a single row; return curves and tensors.

    Kind `sampled` is a hybrid of both, with a sampled softmax.
    """
    params = FinetuneParams(
        anchor="none" if kind == "none" else "both",
        loss="sampled" if kind == "sampled" else "full",
        negatives=5,
        logq=True,
        anchoring={"folds": 2, "dropout": 0.0, "own_weights": (0.0, 0.5)},
        batch_size=11,
        max_length=4,  # windows of 4 and 2 positions: batches are split unevenly
        token_dropout=dropout,
        readout="response" if kind == "none" else "last_item",
        lora={"rank": 2},
        loop={"epochs": 2, "patience": 0, "warmup_steps": 0, "learning_rate": 1e-3},
    )
    device = prepare_training(3, 1)
    tokenizer = train_tokenizer(["a customer bought these products", "a red lamp ; a blue chair"], 400)
    past, known = tiny.cyclic_histories(users=17, length=8), tiny.make_inputs()
    backbone = Backbone(tiny.tiny_model("llama", len(tokenizer)), tokenizer)
    model = MmeSid(backbone, known, past, params)
    shard_frozen_layers(model.backbone.decoder, device)
    task = MmeSidTask(model, past, params, score_prior(past, known, params))

    def on_step(steps):
        if steps == killed_at:
            raise KeyboardInterrupt

    fitted = fit("t", task, params.loop, seed=3, device=device, checkpoint=checkpoint, on_step=on_step)
    tensors = {name: tensor.detach().clone() for name, tensor in trained_state(task.module).items()}
    tensors["query_states"] = model.query_states(past, np.arange(past.query_count))
    split = [one for one in model.parameters() if isinstance(one, DTensor)]
    assert all(one.to_local().numel() * 2 == one.numel() and not one.requires_grad for one in split)
    return fitted.curves, tensors, sum(one.numel() for one in split)


def resumed():
    """Train with dropout, killed and resumed from a checkpoint in which every process's random stream is."""
    checkpoint = Checkpoint("t", {}, code=[])
    try:
        finetuned("both", 0.3, checkpoint=checkpoint, killed_at=KILLED_AT)
    except KeyboardInterrupt:
        assert checkpoint.path.is_file()
    return finetuned("both", 0.3, checkpoint=checkpoint)


def main(folder):
    join_process_group(prepare_training(3, 1), 1)
    told = {}
    for sharding, kind in CASES:
        os.environ["SIDFLOW_SHARDING"] = sharding
        curves, tensors, split = finetuned(kind)
        told[f"{sharding}-{kind}"] = {"curves": curves, "split": split}
        keep(folder, f"{sharding}-{kind}", tensors)
    keep(folder, "dropout", finetuned("both", 0.3)[1])
    os.environ["SIDFLOW_CHECKPOINT_SECONDS"] = "0.000001"
    keep(folder, "resumed", resumed()[1])
    leave_process_group()
    if is_main_process():
        (folder / "told.json").write_text(json.dumps(told))


def keep(folder, name, tensors):
    save_file(tensors, folder / f"{name}-{process_rank()}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
