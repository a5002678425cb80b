"""Make a modality of one file of item vectors: rows of all items, normalised. Run: dvc repro modality@text."""

import typer
from threadpoolctl import threadpool_limits

from sidflow.artifacts.catalog import item_count
from sidflow.artifacts.features import EMBEDDING, MODALITY
from sidflow.core import params
from sidflow.core.stage import print_progress, stage
from sidflow.features.modality import ModalityParams, make_modality


def main(name: str) -> None:
    """Read the source that params name for `name`, normalise the present rows, write the modality."""
    with stage(f"modality@{name}"):
        settings = params.load_section(f"modality.{name}", ModalityParams)
        source = EMBEDDING.read_from(settings.source)
        with threadpool_limits(1):  # bits that depend on no thread count
            made = make_modality(source.arrays["values"], source.arrays["present"], item_count(), settings)
        arrays = {"values": made.values, "present": made.present, **made.transform.arrays()}
        metadata = {"params": settings.model_dump(mode="json"), "source": source.metadata}
        MODALITY.write(arrays, metadata | {"width": made.transform.width}, name=name)
        present, width = int(made.present.sum()), made.values.shape[1]
        print_progress(f"{name}: {present} of {len(made.present)} items present, width {width}")


if __name__ == "__main__":
    typer.run(main)
