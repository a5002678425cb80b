"""Encode item texts, views and pictures, one file per encoder. Run: dvc repro embed."""

import shutil

import typer
from threadpoolctl import threadpool_limits

from sidflow.artifacts.catalog import IMAGES, ITEMS
from sidflow.artifacts.features import EMBEDDING, SEMANTICS
from sidflow.core import params
from sidflow.core.stage import stage
from sidflow.features.encode import run_encoders
from sidflow.features.params import EmbedParams


def main() -> None:
    """Read the catalogue and its views, run every encoder of params; files of other encoders are removed."""
    with stage("embed"):
        settings = params.load_section("embed", EmbedParams)
        seed = params.load_seed()
        items, images, semantics = ITEMS.read(), IMAGES.read(), SEMANTICS.read()
        folder = EMBEDDING.at(name="any").parent
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with threadpool_limits(1):  # small matrices: no slower, and bits that depend on no thread count
            for output in run_encoders(items, images, semantics, settings, seed):
                output.file.write(output.arrays, output.metadata, name=output.name)


if __name__ == "__main__":
    typer.run(main)
