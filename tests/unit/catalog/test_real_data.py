"""The counts that the data's publishers and users report."""

import pytest

from sidflow.catalog.ingest import ingest
from sidflow.catalog.params import IngestParams
from sidflow.core import params

PRESETS = {
    "movielens-posters": (597, 1846, 2856, 56145),
    "amazon-beauty": (22363, 12101, 12101, 198502),
    "amazon-beauty-mmesid": (22332, 12086, 12086, 198215),
    "office-products": (3231, 3304, 3459, 21802),
}


@pytest.mark.realdata
@pytest.mark.parametrize("preset", PRESETS)
def test_published_counts(preset, data_folder, pytestconfig):
    section = params.load_params(pytestconfig.rootpath / f"presets/{preset}.yaml")["ingest"]
    given = {name: value for name, value in section.items() if value is not None}
    given |= {"path": str(data_folder / preset), "pictures": {"max_side": 32}}
    catalog = ingest(params.validate_params(given, IngestParams, preset))
    found = catalog.users.height, int(catalog.items["in_core"].sum()), catalog.items.height, catalog.interactions.height
    assert found == PRESETS[preset]
    assert catalog.report["pictures_broken"] == 0
    if preset == "movielens-posters":
        assert 0.2 < catalog.report["tie_rate"] < 0.3
        assert catalog.report["core_items_with_picture"] == 1846
    if preset == "office-products":
        assert not catalog.items["description"].str.contains(r"</?[a-z]+>|&amp;|&nbsp;").any()
