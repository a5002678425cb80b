"""Item vectors of one encoder, and the modalities made of them: row i is item i, `present` says which rows count."""

from sidflow.contracts.tensors import TensorFile

EMBEDDING = TensorFile(
    name="embedding",
    version=1,
    path="artifacts/embeddings/{name}.safetensors",
    arrays={"values": "float32 n d", "present": "bool n"},  # absent rows are zero
)

UNITS = TensorFile(  # the fine-grained side of a text: up to u unit vectors of each item
    name="units",
    version=1,
    path="artifacts/embeddings/{name}.safetensors",
    arrays={"values": "float32 n u d", "present": "bool n u"},
)

MODALITY = TensorFile(  # rows normalised; the names are those of params' `modality`
    name="modality",
    version=1,
    path="artifacts/modalities/{name}.safetensors",
    arrays={"values": "float32 n d", "present": "bool n"},
)

ITEM_TABLE = TensorFile(  # what a recommender learned of each item; absent where it never saw one
    name="embedding",
    version=1,
    path="artifacts/recommenders/{model}/items.safetensors",
    arrays={"values": "float32 n d", "present": "bool n"},
)
