"""What a fine-tuned MME-SID has beside the factors: adapter as PEFT writes it, heads, score prior, cold rows."""

from pathlib import Path

from sidflow.contracts.files import project_path
from sidflow.contracts.tensors import TensorFile


def adapter_folder(model: str) -> Path:
    """Return the folder of adapter_config.json and adapter_model.safetensors; absent without LoRA."""
    return project_path(f"artifacts/recommenders/{model}/adapter")


PRIOR_PREFIX = "anchor."  # of the score prior's weights in HEADS

HEADS = TensorFile(  # `item_tokens.*`, `fusion.*`, `anchor.*`: every trained weight outside the language model
    name="heads", version=1, path="artifacts/recommenders/{model}/heads.safetensors", arrays={}, free=True
)

ANCHOR = TensorFile(  # of hybrids: counts of training parts, CSR [n, n], and `content.<modality>`, float32 [n, d]
    name="anchor",
    version=1,
    path="artifacts/recommenders/{model}/anchor.safetensors",
    arrays={
        "relation_indptr": "int64 n_plus_1",
        "relation_indices": "int32 nonzero",
        "relation_values": "float32 nonzero",
    },
    optional=frozenset({"relation_indptr", "relation_indices", "relation_values"}),
    free=True,
)

COLD_ROWS = TensorFile(  # rows of items outside the core, as wide as the item matrix; `present`: has a row
    name="cold_rows",
    version=1,
    path="artifacts/recommenders/{model}/cold_rows.safetensors",
    arrays={"values": "float32 c d", "present": "bool c"},  # absent rows are zero
)
