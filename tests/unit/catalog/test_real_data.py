"""The counts that the data's publishers and users report."""

import pytest

from sidflow.catalog.ingest import ingest
from sidflow.cli import presets

COUNTS = {
    "movielens-posters": (597, 1846, 2856, 56145),
    "amazon-beauty": (22363, 12101, 12101, 198502),
    "amazon-beauty-mmesid": (22332, 12086, 12086, 198215),
    "office-products": (3231, 3304, 3459, 21802),
}


@pytest.mark.realdata
@pytest.mark.parametrize("preset", COUNTS)
def test_published_counts(preset, data_folder, pytestconfig, monkeypatch):
    monkeypatch.chdir(pytestconfig.rootpath)
    settings = presets.compose(preset, data_folder / preset).sections["ingest"]
    pictures = settings.pictures.model_copy(update={"max_side": 32})
    catalog = ingest(settings.model_copy(update={"pictures": pictures}))
    counts = (
        catalog.users.height,
        int(catalog.items["in_core"].sum()),
        catalog.items.height,
        catalog.interactions.height,
    )
    assert counts == COUNTS[preset]
    assert catalog.report["pictures_broken"] == 0
    if preset == "movielens-posters":
        assert 0.2 < catalog.report["tie_rate"] < 0.3
        assert catalog.report["core_items_with_picture"] == 1846
    if preset == "office-products":
        assert not catalog.items["description"].str.contains(r"</?[a-z]+>|&amp;|&nbsp;").any()
