"""Give every item its semantic IDs, audit them, and check the gate. Run: dvc repro assign."""

from pathlib import Path

import typer

from sidflow.contracts import params
from sidflow.contracts.artifacts.embeddings import MODALITY
from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.artifacts.quantizer import QUANTIZER, quantized_modalities
from sidflow.contracts.artifacts.semantic_ids import SEMANTIC_ID_AUDIT, SEMANTIC_IDS
from sidflow.contracts.histories import load_histories
from sidflow.contracts.running import stage
from sidflow.quantize.assignment import check_codebooks_are_frozen, read_frozen_ids
from sidflow.quantize.audit import first_categories, validation_tau_queries
from sidflow.quantize.gate import AssignParams, FrozenIds, assign_and_audit, check_gate


def main() -> None:
    """Read the quantizer and the modalities, write artifacts/semantic_ids and the audit."""
    with stage("assign"):
        settings = params.load_section("assign", AssignParams)
        quantizer = QUANTIZER.read()
        names = [name for name in params.load_param("modality") if name in quantized_modalities(quantizer)]
        modalities = {name: MODALITY.read(name=name).arrays for name in names}
        items = ITEMS.read(columns=["item_id", "item_key", "categories"])
        frozen = None
        if settings.known_from:
            earlier_run = Path(settings.known_from)
            check_codebooks_are_frozen(quantizer, earlier_run)
            frozen = FrozenIds(items.sort("item_id")["item_key"].to_list(), read_frozen_ids(earlier_run))
        tau_queries = validation_tau_queries(load_histories())
        ids = assign_and_audit(quantizer, modalities, settings, tau_queries, first_categories(items), frozen)
        check_gate(ids.audit, settings.gate)
        SEMANTIC_IDS.write(ids.table)
        SEMANTIC_ID_AUDIT.write(ids.audit)


if __name__ == "__main__":
    typer.run(main)
