"""Audit what the encoders wrote, beside one another and beside co-occurrence. Run: dvc repro audit_embeddings."""

import typer
from threadpoolctl import threadpool_limits

from sidflow.artifacts.catalog import IMAGES, ITEMS, core_count
from sidflow.artifacts.features import EMBED_REPORT, EMBEDDING, SEMANTICS, read_item_rows
from sidflow.artifacts.item_content import item_texts
from sidflow.core import params
from sidflow.core.stage import stage
from sidflow.features.audit import AuditEmbeddingsParams, ItemInputs, audit_embeddings, encoder_inputs
from sidflow.features.documents import item_documents
from sidflow.features.params import EmbedParams
from sidflow.sequences.cooccurrence import training_events
from sidflow.sequences.histories import load_histories


def main() -> None:
    """Read every encoder's file, what the encoders read, and the training events; write the audit."""
    with stage("audit_embeddings"):
        settings = params.load_section("audit_embeddings", AuditEmbeddingsParams)
        encoders = params.load_section("embed", EmbedParams).encoders
        texts = item_texts(ITEMS.read())
        pictures = dict(IMAGES.read(columns=["item_id", "picture"]).iter_rows())
        inputs = ItemInputs(texts, item_documents(texts, SEMANTICS.read()), pictures)
        read = {name: encoder_inputs(encoder, encoders, inputs) for name, encoder in encoders.items()}
        embeddings = {name: read_item_rows(EMBEDDING.at(name=name)) for name in encoders}
        events = training_events(load_histories(), core_count())
        with threadpool_limits(1):  # bits that depend on no thread count
            EMBED_REPORT.write(audit_embeddings(embeddings, read, events, settings))


if __name__ == "__main__":
    typer.run(main)
