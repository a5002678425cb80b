"""Fine-tune the language model as MME-SID: item tokens, LoRA, frequency-aware fusion. Run: dvc repro finetune@MODEL."""

import typer

from sidflow.artifacts.catalog import core_count
from sidflow.artifacts.recommenders import BACKBONE
from sidflow.core import params
from sidflow.core.stage import stage
from sidflow.mme_sid.fit import FinetuneSetup, finetune, write_finetuned
from sidflow.mme_sid.item_tokens import load_item_inputs
from sidflow.mme_sid.params import FinetuneParams
from sidflow.sequences.histories import load_histories_for_ranking
from sidflow.training.devices import join_process_group, leave_process_group, prepare_training, relaunch_in_processes


def main(model: str) -> None:
    """Read split, modalities, quantizer, semantic IDs and backbone, write recommenders/MODEL."""
    name = f"finetune@{model}"
    if relaunch_in_processes(name, __file__, model):
        return
    with stage(name):
        params.require_listed(model, "finetune")
        settings = params.load_section(f"finetune.{model}", FinetuneParams)
        seed, threads = params.load_seed(), params.load_threads()
        names = list(params.load_param("modality"))
        device = prepare_training(seed, threads)
        join_process_group(device, threads)
        users = load_histories_for_ranking()
        items = load_item_inputs(names, settings.without, users.training_counts(core_count()))
        backbone = BACKBONE.read()
        fingerprint = {"params": settings.model_dump(), "names": names, "seed": seed, "threads": threads}
        fingerprint["exclude_history"] = users.exclude_history
        setup = FinetuneSetup(name, settings, items, backbone, fingerprint, seed, threads, device)
        finetuned = finetune(setup, users)
        write_finetuned(model, finetuned, users, settings, backbone)
        for checkpoint in finetuned.checkpoints:
            checkpoint.discard()
        leave_process_group()


if __name__ == "__main__":
    typer.run(main)
