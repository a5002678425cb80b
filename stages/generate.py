"""Train a recommender that generates semantic IDs, and answer all queries. Run: dvc repro generate@MODEL."""

import typer

from sidflow.artifacts.catalog import ITEMS, core_count
from sidflow.artifacts.recommenders import BACKBONE
from sidflow.artifacts.semantic_ids import QUANTIZER, code_counts, codebook_digest, quantized_modalities
from sidflow.backbones.scratch import item_titles
from sidflow.core import params
from sidflow.core.stage import stage
from sidflow.generative.fit import CODEBOOKS_KEY, GenerateSetup, generate, write_generated
from sidflow.generative.params import LanguageParams, generative_entry
from sidflow.generative.vocabulary import load_item_ids
from sidflow.sequences.histories import load_histories_for_ranking
from sidflow.training.devices import prepare_training


def main(model: str) -> None:
    """Read split, quantizer, semantic IDs and a language model's backbone, write recommenders/MODEL."""
    name = f"generate@{model}"
    with stage(name):
        params.require_listed(model, "generate")
        settings = generative_entry(model, params.load_param(f"generate.{model}"), f"params.yaml:generate.{model}")
        seed, threads = params.load_seed(), params.load_threads()
        device = prepare_training(seed, threads)
        histories, count = load_histories_for_ranking(), core_count()
        quantizer = QUANTIZER.read()
        counts = {modality: code_counts(quantizer, modality) for modality in quantized_modalities(quantizer)}
        items = ITEMS.read(columns=["item_id", "item_key", "title"])
        ids = load_item_ids(items.height, counts, settings.ids)
        backbone, titles = None, []
        if isinstance(settings, LanguageParams):
            backbone, titles = BACKBONE.read(), item_titles(items, settings.alignment.title_words)
        fingerprint = {"params": settings.model_dump(mode="json"), "seed": seed, "threads": threads}
        fingerprint |= {"exclude_history": histories.exclude_history}
        fingerprint |= {CODEBOOKS_KEY: codebook_digest(quantizer, settings.ids.modalities)}
        setup = GenerateSetup(
            name, settings, ids, count, histories, fingerprint, seed, threads, device, backbone, titles
        )
        refitted = generate(setup)
        write_generated(model, refitted, setup)
        for checkpoint in refitted.model.checkpoints:
            checkpoint.discard()


if __name__ == "__main__":
    typer.run(main)
