"""Give every item its semantic IDs, audit them, and check the gate. Run: dvc repro assign."""

from pathlib import Path

import typer

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.features import MODALITY
from sidflow.artifacts.semantic_ids import QUANTIZER, SEMANTIC_ID_AUDIT, SEMANTIC_IDS, quantized_modalities
from sidflow.core import params
from sidflow.core.stage import stage
from sidflow.semantic_ids.assign import check_codebooks_are_frozen, read_frozen_ids
from sidflow.semantic_ids.gate import AssignParams, FrozenIds, assign_and_audit, check_gate
from sidflow.semantic_ids.quality import first_categories, validation_tau_queries
from sidflow.sequences.histories import load_histories


def main() -> None:
    """Read the quantizer and the modalities, write artifacts/semantic_ids and the audit."""
    with stage("assign@shared"):
        settings = params.load_section("assign", AssignParams)
        quantizer = QUANTIZER.read()
        names = [name for name in params.load_param("modality") if name in quantized_modalities(quantizer)]
        modalities = {name: MODALITY.read(name=name).arrays for name in names}
        items = ITEMS.read(columns=["item_id", "item_key", "categories"])
        frozen = None
        if settings.frozen_ids_from:
            frozen_run = Path(settings.frozen_ids_from)
            check_codebooks_are_frozen(quantizer, frozen_run)
            frozen = FrozenIds(items.sort("item_id")["item_key"].to_list(), read_frozen_ids(frozen_run))
        tau_queries = validation_tau_queries(load_histories())
        ids = assign_and_audit(quantizer, modalities, settings, tau_queries, first_categories(items), frozen)
        check_gate(ids.audit, settings.gate)
        SEMANTIC_IDS.write(ids.table)
        SEMANTIC_ID_AUDIT.write(ids.audit)


if __name__ == "__main__":
    typer.run(main)
