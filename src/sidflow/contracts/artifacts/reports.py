"""What the data stages found, for `dvc metrics`, and the page that shows everything."""

from sidflow.contracts.documents import Document, Text

INGEST = Document("artifacts/reports/ingest.json", flat=True)
SPLIT = Document("artifacts/reports/split.json", flat=True)

ABLATIONS = Document("artifacts/reports/ablations.json")  # by `sidflow ablations`, no stage: there or not

PAGE = Text("artifacts/report/report.html")  # self-contained: no network, no script
