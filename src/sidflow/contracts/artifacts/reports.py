"""What the data stages found, the page that shows everything, and the few figures that `dvc metrics` compares."""

from sidflow.contracts.documents import Curve, Document, Text

INGEST = Document("artifacts/reports/ingest.json", flat=True)
SPLIT = Document("artifacts/reports/split.json", flat=True)

ABLATIONS = Document("artifacts/reports/ablations.json")  # by `sidflow ablations`, no stage: there or not

FIGURES = Document("artifacts/metrics.json")  # flat: whose.what, such as mme_sid.ndcg_at_10

# What `dvc plots` draws: a column `recommender`, x and y.
VALIDATION_PLOT = Curve("artifacts/plots/validation.csv")
SLICES_PLOT = Curve("artifacts/plots/slices.csv")
SINGULAR_VALUES_PLOT = Curve("artifacts/plots/singular_values.csv")

PAGE = Text("artifacts/report/report.html")  # self-contained: no network, no script
