import os
from pathlib import Path

import pytest
from experiments.index_file import read_index_file

from sidflow.core.errors import InputError
from sidflow.semantic_ids.quality import code_metrics, collision_metrics

DATA = os.environ.get("SIDFLOW_DATA", "")


def test_codes_are_read_by_item_in_the_order_of_the_file(tmp_path):
    path = tmp_path / "a.index.json"
    path.write_text('{"x": ["<a_1>", "<b_20>"], "z": ["<a_3>", "<b_0>"], "y": ["<a_1>", "<b_20>"]}')
    found = read_index_file(path)
    assert found.item_keys == ["x", "z", "y"]
    assert found.codes.tolist() == [[1, 20], [3, 0], [1, 20]]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"0": ["<a_1>"], "1": ["<b_1>"]}', '{"0": ["<a_1>"], "1": []}'])
def test_other_files_are_refused_in_one_line(tmp_path, text):
    path = tmp_path / "a.index.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"a\.index\.json.*Remedy"):
        read_index_file(path)


@pytest.mark.realdata
@pytest.mark.skipif(not DATA, reason="SIDFLOW_DATA is not set")
@pytest.mark.parametrize(
    ("name", "items", "first_level", "colliding"),
    [("amazon-beauty/Beauty.index.json", 12101, 197, 24), ("office-products/published.index.json", 3459, 88, 30)],
)
def test_published_ids_go_through_the_audit(name, items, first_level, colliding):
    found = read_index_file(Path(DATA) / name)
    assert len(found.item_keys) == items
    metrics = code_metrics(found.codes, [256] * found.codes.shape[1], "text")
    metrics |= collision_metrics(found.codes, "text")
    assert metrics["code_usage_text_level_0"] == first_level / 256 and metrics["code_usage_text_level_1"] == 1
    assert metrics["collision_items_text"] == colliding
