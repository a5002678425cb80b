"""Item pictures, validated, downsized and packed; an item without a usable picture has no row."""

import pyarrow as pa

from sidflow.contracts.tables import Table

IMAGES = Table(
    name="images",
    version=1,
    path="artifacts/catalog/images.parquet",
    columns={
        "item_id": pa.int32(),
        "picture": pa.binary(),  # JPEG, RGB
        "width": pa.int32(),  # pixels, as is the height
        "height": pa.int32(),
    },
    key=("item_id",),
)
