"""What the data stages found, for `dvc metrics`."""

from sidflow.contracts.documents import Document

INGEST = Document("artifacts/reports/ingest.json", flat=True)
SPLIT = Document("artifacts/reports/split.json", flat=True)
