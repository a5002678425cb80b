"""The causal language model that is fine-tuned: its record, and its files where the pipeline trained it."""

from pathlib import Path

from sidflow.contracts.documents import Curve, Document

BACKBONE = Document("artifacts/backbone/backbone.json")  # kind, repo, commit, file hashes, hidden size, family

MODEL_FOLDER = Path("artifacts/backbone/model")  # weights and tokenizer of kind `scratch`; absent for the others

PRETRAINING = Curve("artifacts/backbone/curves.csv")  # of kind `scratch`, one row per epoch: epoch, losses
