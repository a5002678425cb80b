"""Make or record the causal language model that is fine-tuned. Run: dvc repro backbone."""

import shutil

import typer

from sidflow.contracts import histories, params
from sidflow.contracts.artifacts.backbone import BACKBONE, MODEL_FOLDER, PRETRAINING
from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.running import stage
from sidflow.llm import backbones, corpus
from sidflow.llm.params import BackboneParams
from sidflow.llm.saving import announce


def main() -> None:
    """Write backbone/: a record, and for kind `scratch` the weights and the tokenizer."""
    with stage("backbone"):
        settings = params.load("backbone", BackboneParams)
        shutil.rmtree(MODEL_FOLDER, ignore_errors=True)
        if settings.kind == "scratch":
            train(settings)
        else:
            BACKBONE.write(backbones.describe(settings))


def train(settings: BackboneParams) -> None:
    """Train a small model on the catalogue's words and the training histories."""
    from sidflow.llm.quiet import quiet
    from sidflow.llm.scratch import train_scratch
    from sidflow.training.checkpoint import Checkpoint
    from sidflow.training.device import prepare

    seed, threads = params.load_value("seed"), params.load_value("threads")
    device = prepare(seed, threads)
    items, scratch = ITEMS.read(), settings.scratch
    texts = corpus.item_texts(items, scratch.item_words)
    told = corpus.history_texts(histories.load(), corpus.item_titles(items, scratch.title_words))
    checkpoint = Checkpoint("backbone", {"params": scratch.model_dump(), "seed": seed, "threads": threads})
    model, tokenizer, fitted = train_scratch(texts, told, scratch, seed=seed, device=device, checkpoint=checkpoint)
    with quiet():
        model.save_pretrained(MODEL_FOLDER)
        tokenizer.save_pretrained(MODEL_FOLDER)
    announce(MODEL_FOLDER)
    PRETRAINING.write(fitted.curves, ["epoch", "loss", "valid_loss"])
    BACKBONE.write({**backbones.record("scratch", MODEL_FOLDER), "device": device.type})
    checkpoint.discard()


if __name__ == "__main__":
    typer.run(main)
