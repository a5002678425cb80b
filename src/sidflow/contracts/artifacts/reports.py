"""Reports of the data stages, the metrics and plots that DVC compares, the ablation table and the report page."""

from sidflow.contracts.documents import Curve, Document, Text

INGEST = Document("artifacts/reports/ingest.json", flat=True)
SPLIT = Document("artifacts/reports/split.json", flat=True)

ABLATIONS = Document("artifacts/reports/ablations.json")  # of `sidflow ablations`, which is no stage: may be absent

FIGURES = Document("artifacts/metrics.json")  # flat: RECOMMENDER.METRIC, such as mme_sid.ndcg_at_10

# What `dvc plots` draws: a column `recommender`, x and y.
VALIDATION_PLOT = Curve("artifacts/plots/validation.csv")
SLICES_PLOT = Curve("artifacts/plots/slices.csv")
SINGULAR_VALUES_PLOT = Curve("artifacts/plots/singular_values.csv")

PAGE = Text("artifacts/report/report.html")  # self-contained: no network, no script
