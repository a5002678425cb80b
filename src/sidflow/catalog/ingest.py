"""From `ingest.path` to the catalogue: the source that params name is read, then the catalogue is built from it."""

from __future__ import annotations

from pathlib import Path

from sidflow.catalog.build import Catalog, build_catalog
from sidflow.catalog.params import IngestParams
from sidflow.catalog.raw import RawCatalog
from sidflow.catalog.sources.amazon import read_amazon
from sidflow.catalog.sources.movielens import read_movielens
from sidflow.catalog.sources.sequences import read_sequences
from sidflow.catalog.sources.synthetic import read_synthetic
from sidflow.catalog.sources.tabular import read_tables
from sidflow.contracts.errors import InputError

SOURCES = {
    "synthetic": read_synthetic,
    "movielens": read_movielens,
    "amazon": read_amazon,
    "sequences": read_sequences,
    "files": read_tables,
}


def ingest(params: IngestParams) -> Catalog:
    """Return the catalogue of the source that params name.

    Raises:
        InputError: the data is absent or not in the source's format.
    """
    return build_catalog(read_source(params), params)


def read_source(params: IngestParams) -> RawCatalog:
    """Return the raw content of the source that params name.

    Raises:
        InputError: `ingest.path` does not exist, or is not in the source's format.
    """
    path = Path(params.path)
    if not path.exists():
        raise InputError(
            "params.yaml:ingest.path",
            expected=f"a file or folder for the source `{params.source}`",
            found=f"nothing at {path}",
            remedy="`sidflow preset apply NAME --data FOLDER`, or set ingest.path",
        )
    return SOURCES[params.source](path, params)
