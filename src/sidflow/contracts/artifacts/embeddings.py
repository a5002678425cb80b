"""Item embeddings, modalities and learned item tables: row i is item i, `present` is the mask of valid rows."""

from sidflow.contracts.tensors import TensorFile

EMBEDDING = TensorFile(
    name="embedding",
    version=1,
    path="artifacts/embeddings/{name}.safetensors",
    arrays={"values": "float32 n d", "present": "bool n"},  # absent rows are zero
)

UNITS = TensorFile(  # fine-grained text embeddings: up to u units of each item
    name="units",
    version=1,
    path="artifacts/embeddings/{name}.safetensors",
    arrays={"values": "float32 n u d", "present": "bool n u"},
)

MODALITY = TensorFile(  # normalised rows; the names are those of params' `modality`
    name="modality",
    version=1,
    path="artifacts/modalities/{name}.safetensors",
    arrays={"values": "float32 n d", "present": "bool n"},
)

ITEM_TABLE = TensorFile(  # item embeddings of a recommender; absent where it has none
    name="embedding",
    version=1,
    path="artifacts/recommenders/{model}/items.safetensors",
    arrays={"values": "float32 n d", "present": "bool n"},
)
