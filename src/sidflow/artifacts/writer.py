"""The folder of the writer that `train_writer` makes, and its record."""

from __future__ import annotations

from pathlib import Path

from sidflow.core.documents import Document

WRITER_FOLDER = Path("artifacts/writer")  # as transformers saves a model; the record alone where none was trained
WRITER = Document("artifacts/writer/writer.json")  # kind, seeds, hash of the weights, accuracy on a held-out catalogue
