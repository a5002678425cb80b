"""Give every item its semantic IDs, audit them, and hold them to the gate. Run: dvc repro assign."""

from pathlib import Path

import typer

from sidflow.contracts import histories, params
from sidflow.contracts.artifacts.embeddings import MODALITY
from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.artifacts.quantizer import QUANTIZER, modalities
from sidflow.contracts.artifacts.semantic_ids import AUDIT, SEMANTIC_IDS
from sidflow.contracts.running import stage
from sidflow.quantize.assigning import Known, assign_all
from sidflow.quantize.audit import anchors_of, first_categories
from sidflow.quantize.gate import AssignParams, check
from sidflow.quantize.known import check_frozen, earlier


def main() -> None:
    """Read the quantizer and the modalities, write artifacts/semantic_ids and the audit."""
    with stage("assign"):
        settings = params.load("assign", AssignParams)
        quantizer = QUANTIZER.read()
        names = [name for name in params.load_value("modality") if name in modalities(quantizer)]
        contents = {name: MODALITY.read(name=name).arrays for name in names}
        items = ITEMS.read(columns=["item_id", "item_key", "categories"])
        folder = settings.known_from
        if folder:
            check_frozen(quantizer, Path(folder))
        known = Known(items.sort("item_id")["item_key"].to_list(), earlier(Path(folder))) if folder else None
        anchors = anchors_of(histories.load())
        result = assign_all(quantizer, contents, settings, anchors, first_categories(items), known)
        check(result.figures, settings.gate)
        SEMANTIC_IDS.write(result.table)
        AUDIT.write(result.figures)


if __name__ == "__main__":
    typer.run(main)
