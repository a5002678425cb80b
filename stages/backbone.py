"""Make or record the causal language model that is fine-tuned. Run: dvc repro backbone."""

import shutil

import typer

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.recommenders import BACKBONE, MODEL_FOLDER, PRETRAINING
from sidflow.backbones.models import record_of_folder, record_of_pretrained, record_written_files
from sidflow.backbones.params import BackboneParams
from sidflow.backbones.scratch import history_documents, item_documents, item_titles
from sidflow.backbones.usable import check_recorded_backbone
from sidflow.core import params
from sidflow.core.files import atomic_folder
from sidflow.core.stage import stage
from sidflow.sequences.histories import load_histories


def main() -> None:
    """Write the backbone's record and, of kind `scratch`, its weights and tokenizer."""
    with stage("backbone@shared"):
        settings = params.load_section("backbone", BackboneParams)
        shutil.rmtree(MODEL_FOLDER, ignore_errors=True)
        if settings.kind == "scratch":
            train(settings)
        else:
            record = record_of_pretrained(settings, params.load_seed())
            check_recorded_backbone(record, settings.history)
            BACKBONE.write(record)


def train(settings: BackboneParams) -> None:
    """Train a small model on the catalogue's texts and the training histories."""
    from sidflow.backbones.scratch import train_scratch_backbone
    from sidflow.models.loading import without_library_output
    from sidflow.training.checkpoint import Checkpoint
    from sidflow.training.devices import prepare_training

    seed, threads = params.load_seed(), params.load_threads()
    device = prepare_training(seed, threads)
    items, scratch = ITEMS.read(), settings.scratch
    documents = item_documents(items, scratch.item_words)
    sequences = history_documents(load_histories(), item_titles(items, scratch.title_words))
    checkpoint = Checkpoint("backbone", {"params": scratch.model_dump(), "seed": seed, "threads": threads})
    model, tokenizer, fitted = train_scratch_backbone(
        documents, sequences, scratch, seed=seed, device=device, checkpoint=checkpoint
    )
    with atomic_folder(MODEL_FOLDER) as folder, without_library_output():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    record_written_files(MODEL_FOLDER)
    PRETRAINING.write(fitted.curves, ["epoch", "loss", "valid_loss"])
    BACKBONE.write({**record_of_folder("scratch", MODEL_FOLDER), "device": device.type})
    checkpoint.discard()


if __name__ == "__main__":
    typer.run(main)
