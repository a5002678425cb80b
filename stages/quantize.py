"""Train the codebooks that turn item vectors into semantic IDs. Run: dvc repro quantize."""

import typer

from sidflow.artifacts.features import MODALITY
from sidflow.artifacts.semantic_ids import QUANTIZER, QUANTIZER_CURVES, QUANTIZER_SUMMARY
from sidflow.core import params
from sidflow.core.stage import stage
from sidflow.semantic_ids.fit import load_frozen_quantizer, quantizer_summary, train_quantizer
from sidflow.semantic_ids.inputs import ModalityVectors
from sidflow.semantic_ids.params import QuantizeParams
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.devices import prepare_training


def main() -> None:
    """Read the modalities that params name, write artifacts/quantizer."""
    with stage("quantize@shared"):
        settings = params.load_section("quantize", QuantizeParams)
        seed, threads = params.load_seed(), params.load_threads()
        modalities = {}
        for name in params.load_param("modality"):
            arrays = MODALITY.read(name=name).arrays
            modalities[name] = ModalityVectors(arrays["values"], arrays["present"])
        device = prepare_training(seed, threads)
        checkpoint = Checkpoint("quantize", {**settings.model_dump(), "seed": seed, "threads": threads})
        if settings.frozen_from:
            trained = load_frozen_quantizer(settings.frozen_from, modalities)
        else:
            trained = train_quantizer(modalities, settings, seed, device, checkpoint)
        QUANTIZER.write(trained.arrays, trained.metadata)
        QUANTIZER_CURVES.write(trained.curves, list(trained.curves[0]) if trained.curves else ["epoch"])
        QUANTIZER_SUMMARY.write(quantizer_summary(trained, settings, seed, threads, device))
        checkpoint.discard()


if __name__ == "__main__":
    typer.run(main)
