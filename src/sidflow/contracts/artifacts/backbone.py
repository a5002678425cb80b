"""Which causal language model is fine-tuned: its record always, its files only where the pipeline trained it."""

from pathlib import Path

from sidflow.contracts.documents import Curve, Document

BACKBONE = Document("artifacts/backbone/backbone.json")  # kind, repo, commit, files' hashes, hidden size, family

MODEL_FOLDER = Path("artifacts/backbone/model")  # weights and tokenizer of kind `scratch`; absent for the others

PRETRAINING = Curve("artifacts/backbone/curves.csv")  # kind `scratch`: one row an epoch: epoch, losses
