"""Make or record the causal language model that is fine-tuned. Run: dvc repro backbone."""

import shutil

import typer

from sidflow.contracts import params
from sidflow.contracts.artifacts.backbone import BACKBONE, MODEL_FOLDER, PRETRAINING
from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.histories import load_histories
from sidflow.contracts.running import stage
from sidflow.llm.backbones import record_of_folder, record_of_pretrained
from sidflow.llm.corpus import history_documents, item_documents, item_titles
from sidflow.llm.params import BackboneParams
from sidflow.llm.saving import record_written_files


def main() -> None:
    """Write the backbone's record and, of kind `scratch`, its weights and tokenizer."""
    with stage("backbone"):
        settings = params.load_section("backbone", BackboneParams)
        shutil.rmtree(MODEL_FOLDER, ignore_errors=True)
        if settings.kind == "scratch":
            train(settings)
        else:
            BACKBONE.write(record_of_pretrained(settings))


def train(settings: BackboneParams) -> None:
    """Train a small model on the catalogue's texts and the training histories."""
    from sidflow.llm.quiet import without_library_output
    from sidflow.llm.scratch import train_scratch_backbone
    from sidflow.training.checkpoint import Checkpoint
    from sidflow.training.device import prepare_training

    seed, threads = params.load_param("seed"), params.load_param("threads")
    device = prepare_training(seed, threads)
    items, scratch = ITEMS.read(), settings.scratch
    documents = item_documents(items, scratch.item_words)
    sequences = history_documents(load_histories(), item_titles(items, scratch.title_words))
    checkpoint = Checkpoint("backbone", {"params": scratch.model_dump(), "seed": seed, "threads": threads})
    model, tokenizer, fitted = train_scratch_backbone(
        documents, sequences, scratch, seed=seed, device=device, checkpoint=checkpoint
    )
    with without_library_output():
        model.save_pretrained(MODEL_FOLDER)
        tokenizer.save_pretrained(MODEL_FOLDER)
    record_written_files(MODEL_FOLDER)
    PRETRAINING.write(fitted.curves, ["epoch", "loss", "valid_loss"])
    BACKBONE.write({**record_of_folder("scratch", MODEL_FOLDER), "device": device.type})
    checkpoint.discard()


if __name__ == "__main__":
    typer.run(main)
