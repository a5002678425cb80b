"""Fine-tune the language model as MME-SID: item tokens, LoRA, frequency-aware fusion. Run: dvc repro finetune@MODEL."""

import typer

from sidflow.contracts import histories, params
from sidflow.contracts.artifacts.backbone import BACKBONE
from sidflow.contracts.artifacts.items import core_count
from sidflow.contracts.running import stage
from sidflow.llm import anchor, backbones, inputs, results, starting
from sidflow.llm.anchored_task import AnchoredTask
from sidflow.llm.model import MmeSid, MmeSidTask
from sidflow.llm.params import FinetuneParams
from sidflow.training import processes
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.device import prepare
from sidflow.training.loop import fit


def main(model: str) -> None:
    """Read split, modalities, quantizer, semantic IDs and backbone, write recommenders/MODEL."""
    name = f"finetune@{model}"
    if processes.relaunched(name, __file__, model):
        return
    with stage(name):
        settings = params.load(f"finetune.{model}", FinetuneParams)
        seed, threads = params.load_value("seed"), params.load_value("threads")
        names = list(params.load_value("modality"))
        device = prepare(seed, threads)
        processes.join(device, threads)
        past = histories.load()
        known = inputs.load(names, settings.without, past.training_counts(core_count()))
        about = BACKBONE.read()
        backbone = backbones.load(about, settings.weights)
        checkpoint = Checkpoint(
            name, {"params": settings.model_dump(), "names": names, "seed": seed, "threads": threads}
        )
        prepare(seed, threads)
        sources = anchor.gather(past, known, settings)
        anchored = anchor.Anchor(sources, core_count(), settings) if sources else None
        mme_sid = MmeSid(backbone, known, past, settings, anchored)
        processes.shard(mme_sid.reader.decoder, device)
        mme_sid.to(device)
        if settings.start == "settled":
            starting.settle(mme_sid, settings.token_scale)
        task = (AnchoredTask if anchored else MmeSidTask)(mme_sid, past, settings)
        fitted = fit(name, task, settings.loop, seed=seed, device=device, checkpoint=checkpoint)
        results.save(model, mme_sid, fitted, past, known, settings, about)
        checkpoint.discard()
        processes.leave()


if __name__ == "__main__":
    typer.run(main)
