"""Fine-tune the language model as MME-SID: item tokens, LoRA, frequency-aware fusion. Run: dvc repro finetune."""

import typer

from sidflow.contracts import histories, params
from sidflow.contracts.artifacts.backbone import BACKBONE
from sidflow.contracts.artifacts.items import core_count
from sidflow.contracts.running import stage
from sidflow.llm import backbones, inputs, results, starting, windows
from sidflow.llm.model import MmeSid, MmeSidTask
from sidflow.llm.params import FinetuneParams
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.device import prepare
from sidflow.training.loop import fit


def main() -> None:
    """Read split, modalities, quantizer, semantic IDs and backbone, write recommenders/mme_sid."""
    with stage("finetune"):
        settings = params.load("finetune", FinetuneParams)
        seed, threads = params.load_value("seed"), params.load_value("threads")
        names = list(params.load_value("modality"))
        device = prepare(seed, threads)
        past = histories.load()
        known = inputs.load(names, settings.without, past.training_counts(core_count()))
        about = BACKBONE.read()
        backbone = backbones.load(about, settings.weights)
        checkpoint = Checkpoint(
            "finetune", {"params": settings.model_dump(), "names": names, "seed": seed, "threads": threads}
        )
        prepare(seed, threads)
        model = MmeSid(backbone, known, windows.cut(past, settings.max_length), settings).to(device)
        if settings.start == "settled":
            starting.settle(model, settings.token_scale)
        task = MmeSidTask(model, past, settings)
        fitted = fit("finetune", task, settings.loop, seed=seed, device=device, checkpoint=checkpoint)
        results.save(model, fitted, past, known, settings, about)
        checkpoint.discard()


if __name__ == "__main__":
    typer.run(main)
