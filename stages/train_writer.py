"""Train a small writer that sees, on drawings of synthetic shops. Run: dvc repro train_writer."""

import shutil

import typer

from sidflow.artifacts.writer import WRITER, WRITER_FOLDER
from sidflow.core import params
from sidflow.core.stage import stage
from sidflow.small_writer.params import TrainWriterParams


def main() -> None:
    """Write the folder of the trained writer, or the record that params ask for none."""
    with stage("train_writer"):
        settings = params.load_section("train_writer", TrainWriterParams)
        seed, threads = params.load_seed(), params.load_threads()
        if settings.kind == "none":
            shutil.rmtree(WRITER_FOLDER, ignore_errors=True)
            WRITER.write({"kind": "none"})
        else:
            train(settings, seed, threads)


def train(settings: TrainWriterParams, seed: int, threads: int) -> None:
    """Train the writer and measure it on a catalogue that it has not seen."""
    from sidflow.core.runtime import load_runtime
    from sidflow.small_writer.fit import train_small_writer
    from sidflow.small_writer.measure import record_of_writer
    from sidflow.small_writer.model import save_writer
    from sidflow.training.devices import prepare_training

    device = prepare_training(seed, threads)
    trained = train_small_writer(settings, seed=seed, threads=threads, device=device)
    save_writer(WRITER_FOLDER, trained.model, trained.tokenizer, settings.sizes)
    WRITER.write(record_of_writer(WRITER_FOLDER, settings, load_runtime(), seed=seed, threads=threads))
    trained.discard_checkpoints()


if __name__ == "__main__":
    typer.run(main)
