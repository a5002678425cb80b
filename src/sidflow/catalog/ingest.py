"""The way from `ingest.path` to a catalogue: the source that params name, then what all sources share."""

from __future__ import annotations

from pathlib import Path

from sidflow.catalog.build import Catalog, build
from sidflow.catalog.params import IngestParams
from sidflow.catalog.raw import RawCatalog
from sidflow.catalog.sources import amazon, movielens, sequences, synthetic, tabular
from sidflow.contracts.errors import InputError

SOURCES = {
    "synthetic": synthetic.read,
    "movielens": movielens.read,
    "amazon": amazon.read,
    "sequences": sequences.read,
    "files": tabular.read,
}


def ingest(params: IngestParams) -> Catalog:
    """Read the source and make the catalogue.

    Raises:
        InputError: the data is absent or not what its source expects.
    """
    return build(read(params), params)


def read(params: IngestParams) -> RawCatalog:
    """Read the source that params name."""
    path = Path(params.path)
    if not path.exists():
        raise InputError(
            "params.yaml:ingest.path",
            expected=f"a file or folder for the source `{params.source}`",
            found=f"nothing at {path}",
            remedy="`sidflow preset apply NAME --data FOLDER`, or set ingest.path",
        )
    return SOURCES[params.source](path, params)
