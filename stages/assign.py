"""Give every item its semantic IDs, audit them, and hold them to the gate. Run: dvc repro assign."""

import typer

from sidflow.contracts import histories, params
from sidflow.contracts.artifacts.embeddings import MODALITY
from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.artifacts.quantizer import QUANTIZER, modalities
from sidflow.contracts.artifacts.semantic_ids import AUDIT, SEMANTIC_IDS
from sidflow.contracts.running import stage
from sidflow.quantize.assigning import assign_all
from sidflow.quantize.audit import anchors_of, first_categories
from sidflow.quantize.gate import AssignParams, check


def main() -> None:
    """Read the quantizer and the modalities, write artifacts/semantic_ids and the audit."""
    with stage("assign"):
        settings = params.load("assign", AssignParams)
        quantizer = QUANTIZER.read()
        names = [name for name in params.load_value("modality") if name in modalities(quantizer)]
        contents = {name: MODALITY.read(name=name).arrays for name in names}
        categories = first_categories(ITEMS.read(columns=["item_id", "categories"]))
        result = assign_all(quantizer, contents, settings, anchors_of(histories.load()), categories)
        check(result.figures, settings.gate)
        SEMANTIC_IDS.write(result.table)
        AUDIT.write(result.figures)


if __name__ == "__main__":
    typer.run(main)
