import inspect

import numpy as np
import polars as pl
import pytest

from sidflow.core.errors import InputError
from sidflow.core.params import validate_params
from sidflow.core.tensors import Tensors
from sidflow.metrics.geometry import neighbour_recall, tau_over_triples
from sidflow.semantic_ids.assign import assign_ids
from sidflow.semantic_ids.codec import Codec
from sidflow.semantic_ids.gate import AssignParams, FrozenIds, GateParams, assign_and_audit, check_gate
from sidflow.semantic_ids.quality import (
    TauQueries,
    code_metrics,
    collision_metrics,
    first_categories,
    fit_reference_codec,
    modality_metrics,
    normalised_mutual_information,
    recall_ratios,
    validation_tau_queries,
)
from sidflow.sequences.histories import Histories


def test_metrics_of_codes_by_hand():
    codes = np.array([[0, 0], [0, 1], [0, 1], [1, 0]])
    found = code_metrics(codes, [4, 2], "text")
    assert found["code_usage_text_level_0"] == 0.5 and found["code_usage_text_level_1"] == 1
    assert found["perplexity_text_level_0"] == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))
    assert found["perplexity_text_level_1"] == pytest.approx(2)
    assert (found["branching_text_level_0"], found["branching_text_level_1"]) == (2, 1.5)


def test_the_first_category_of_each_item_in_the_order_of_ids():
    items = pl.DataFrame(
        {"item_id": [2, 0, 1], "categories": [["Toys", "Cars"], [], ["Games"]]},
        schema_overrides={"categories": pl.List(pl.String)},
    )
    assert first_categories(items) == ["", "Games", "Toys"]


def test_collisions_among_all_and_among_distinct_inputs():
    codes = np.array([[1, 1], [1, 1], [2, 2], [3, 3], [3, 3], [3, 3]])
    inputs = np.array([[0.0], [0.0], [1.0], [2.0], [3.0], [3.0]])  # the 1s are copies; of the 3s two differ
    found = collision_metrics(codes, "text", inputs)
    assert found["collision_rate_text"] == pytest.approx(5 / 6)
    assert (found["collision_items_text"], found["collision_groups_text"], found["collision_largest_text"]) == (5, 2, 3)
    assert found["items_distinct_text"] == 4 and found["collision_rate_distinct_text"] == 0.5


def test_nmi_equals_scikit_learns():
    from sklearn.metrics import normalized_mutual_info_score

    rng = np.random.default_rng(0)
    for _ in range(10):
        a, b = rng.integers(5, size=50), rng.integers(3, size=50)
        assert normalised_mutual_information(a, b) == pytest.approx(normalized_mutual_info_score(a, b))
    assert normalised_mutual_information(a, a) == pytest.approx(1)


def quantizer():
    """Codes that are the corners of two squares, the small one around each corner of the large one; exact inputs."""
    large = np.array([[10, 10], [10, -10], [-10, 10], [-10, -10]], dtype=np.float32)
    arrays = {f"codebooks.{name}": np.stack([large, large / 10]) for name in ("text", "image")}
    for name in ("text", "image"):
        arrays |= {f"mean.{name}": np.zeros(2, dtype=np.float32), f"scale.{name}": np.ones(1, dtype=np.float32)}
    described = {name: {"codes": [4, 4], "items": 16} for name in ("text", "image")}
    values = (large[:, None, :] + large[None, :, :] / 10).reshape(16, 2)
    return Tensors(arrays, {"modalities": described, "order": ["text", "image"]}), values


def run(image_present, **params):
    one, values = quantizer()
    everyone = np.ones(16, dtype=bool)
    contents = {
        "text": {"values": values, "present": everyone},
        "image": {"values": values[::-1] * image_present[:, None], "present": image_present},
    }
    tau_queries = TauQueries([np.arange(8), np.arange(8, 16)], np.array([15, 0]))
    categories = [str(i // 4) for i in range(15)] + [""]
    return assign_and_audit(one, contents, AssignParams.model_validate(params), tau_queries, categories)


def test_perfect_ids_have_perfect_metrics():
    metrics = run(np.ones(16, dtype=bool)).audit
    assert metrics["collision_rate"] == metrics["collision_rate_text"] == 0 and metrics["items"] == 16
    assert metrics["tau_text"] == pytest.approx(metrics["tau_triples_text"], abs=0.2) and metrics["tau_text"] > 0.8
    assert metrics["neighbour_recall_at_10_text"] == 1 and metrics["reconstruction_error_text"] < 1e-9
    assert metrics["nmi_category_text_level_0"] == pytest.approx(1)
    assert metrics["neighbours_in_prefix_text_level_0"] == pytest.approx(3 / 10)
    check_gate(metrics, GateParams(least_code_usage=1, most_collision_rate_distinct=0, least_neighbour_recall=1))


def test_absent_rows_get_no_id_and_the_joint_tuple_knows():
    present = np.ones(16, dtype=bool)
    present[[2, 5]] = False
    result = run(present)
    image = result.table.filter(result.table["modality"] == "image")
    assert sorted(set(range(16)) - set(image["item_id"].to_list())) == [2, 5]
    assert result.table.height == 30 and result.audit["items_image"] == 14
    assert result.audit["collision_rate"] == 0


def test_frozen_ids_stay_through_the_stage_though_others_are_nearer():
    one, values = quantizer()
    frozen = pl.DataFrame(
        [("k3", "text", [0, 0], 0)],
        schema={"item_key": pl.String, "modality": pl.String, "codes": pl.Array(pl.Int32, 2), "suffix": pl.Int32},
        orient="row",
    )
    contents = {"text": {"values": values, "present": np.ones(16, dtype=bool)}}
    frozen_ids = FrozenIds([f"k{item}" for item in range(16)], frozen)
    table = assign_and_audit(one, contents, AssignParams(), None, None, frozen_ids).table
    rows = {item: (list(codes), suffix) for item, codes, suffix in table.select("item_id", "codes", "suffix").rows()}
    assert rows[3] == ([0, 0], 0) and rows[0] == ([0, 0], 1) and rows[2] == ([0, 2], 0)


def test_the_gate_names_what_is_missed_most():
    metrics = {
        "code_usage_text_level_0": 0.9,
        "code_usage_text_level_1": 0.2,
        "collision_rate_resolved_distinct_text": 0.4,
    }
    with pytest.raises(InputError, match=r"code_usage_text_level_1 at least 0.99; found 0.2 \(3 affected\)"):
        check_gate(metrics, GateParams.model_validate({}))
    check_gate(metrics, GateParams(least_code_usage=None, most_collision_rate_distinct=None))
    metrics["code_usage_text_level_1"] = float("nan")
    with pytest.raises(InputError, match=r"code_usage_text_level_1 at least 0.99; found nan \(3 affected\)"):
        check_gate(metrics, GateParams.model_validate({}))


def test_reassignment_shows_in_the_audit_beside_what_was_before():
    one, values = quantizer()
    values = np.concatenate([values, values[:2] + 0.01]).astype(np.float32)  # two that differ, but not to the codes
    content = {"text": {"values": values, "present": np.ones(18, dtype=bool)}}
    for resolution, expected in (("suffix", 4 / 18), ("sinkhorn_reassign", 4 / 18)):
        metrics = assign_and_audit(one, content, AssignParams(resolution=resolution), None, None).audit
        assert metrics["collision_rate_text"] == metrics["collision_rate_distinct_text"] == pytest.approx(4 / 18)
        assert metrics["collision_rate_resolved_text"] == pytest.approx(expected)  # every code there is taken
    few = {"text": {"values": values[[0, 1, 16]], "present": np.ones(3, dtype=bool)}}
    metrics = assign_and_audit(one, few, AssignParams(resolution="sinkhorn_reassign"), None, None).audit
    assert metrics["collision_rate_text"] > 0 and metrics["collision_rate_resolved_text"] == 0
    open_gate = dict.fromkeys(GateParams.model_fields) | {"most_collision_rate_distinct": 0.0}
    check_gate(metrics, GateParams.model_validate(open_gate))  # what is written has no collision
    before = assign_and_audit(one, few, AssignParams(resolution="suffix"), None, None).audit
    with pytest.raises(InputError, match=r"collision_rate_resolved_distinct_text at most 0; found 0\.6667"):
        check_gate(before, GateParams.model_validate(open_gate))


@pytest.mark.parametrize(
    ("threshold", "name", "value", "bound"),
    [
        ("least_code_usage", "code_usage_text_level_1", 0.5, "at least"),
        ("most_collision_rate_distinct", "collision_rate_resolved_distinct_image", 0.5, "at most"),
        ("least_neighbour_recall", "neighbour_recall_at_10_text", 0.5, "at least"),
        ("least_tau_triples", "tau_triples_text", 0.5, "at least"),
    ],
)
def test_each_threshold_is_of_its_own_metric(threshold, name, value, bound):
    far = {"tau_text": -1.0, "collision_rate_text": 1.0, "code_use": 0.0, "neighbour_recall_of_text": 0.0}
    off = dict.fromkeys(GateParams.model_fields)
    step = -0.1 if bound == "at least" else 0.1
    for allowed in (value, value + step):
        check_gate({name: value, **far}, GateParams(**{**off, threshold: allowed}))
    with pytest.raises(InputError, match=rf"expected {name} {bound} {value - step:g}; found 0\.5"):
        check_gate({name: value, **far}, GateParams(**{**off, threshold: value - step}))


def test_the_audit_is_measured_with_the_params_of_the_stage():
    params = {"neighbours": 3, "triples": 50, "seed": 4}
    found = run(np.ones(16, dtype=bool), **params)
    one, values = quantizer()
    ids = found.table.filter(found.table["modality"] == "text")
    codec = Codec(one, "text")
    vectors = codec.dequantize(ids["codes"].to_numpy())
    triples = tau_over_triples(values, vectors, np.random.default_rng(4), None, 50)
    assert found.audit["tau_triples_text"] == triples.value
    assert found.audit["tau_triples_text"] != tau_over_triples(values, vectors, np.random.default_rng(0)).value
    assert found.audit["neighbour_recall_at_3_text"] == neighbour_recall(values, vectors, 3)
    reference = fit_reference_codec(values, np.ones(16, dtype=bool), [4, 4], 4)
    centres = reference.dequantize(reference.quantize(reference.encode(values)))
    triples = tau_over_triples(values, centres, np.random.default_rng(4), None, 50)
    assert found.audit["reference_tau_triples_text"] == triples.value
    assert found.audit["reference_neighbour_recall_at_3_text"] == neighbour_recall(values, centres, 3)


def test_functions_and_params_have_the_same_defaults():
    params = AssignParams()
    audit, ids = (inspect.signature(one).parameters for one in (modality_metrics, assign_ids))
    assert [audit[name].default for name in ("k", "triples", "seed")] == [
        params.neighbours,
        params.triples,
        params.seed,
    ]
    assert ids["epsilon"].default == params.sinkhorn_epsilon
    assert ids["iterations"].default == params.sinkhorn_iterations
    assert ids["reassign"].default is False and params.resolution == "suffix"


def test_a_ratio_to_no_reference_is_refused():
    assert validate_params({"reference": "none"}, AssignParams, "params.yaml:assign").gate.least_recall_ratio is None
    with pytest.raises(
        InputError, match=r"params\.yaml:assign: expected `gate\.least_recall_ratio: null` with.*found 0\.9"
    ):
        validate_params({"reference": "none", "gate": {"least_recall_ratio": 0.9}}, AssignParams, "params.yaml:assign")


def test_the_reference_stands_beside_the_ids_under_the_same_audit():
    metrics = run(np.ones(16, dtype=bool)).audit
    assert 0.8 < metrics["reference_neighbour_recall_at_10_text"] <= 1 == metrics["neighbour_recall_at_10_text"]
    assert metrics["reconstruction_error_text"] < metrics["reference_reconstruction_error_text"] < 0.01
    ratios = recall_ratios(metrics)
    assert set(ratios) == {f"reference_neighbour_recall_at_10_{name}" for name in ("text", "image")}
    assert min(ratios.values()) >= 1
    assert run(np.ones(16, dtype=bool)).audit == metrics  # seeds draw the triples of both
    without = run(np.ones(16, dtype=bool), reference="none").audit
    assert not [name for name in without if name.startswith("reference_")] and recall_ratios(without) == {}
    assert without == {name: value for name, value in metrics.items() if not name.startswith("reference_")}


def test_the_gate_asks_for_the_neighbours_that_residual_k_means_keeps():
    metrics = {"neighbour_recall_at_10_text": 0.3, "reference_neighbour_recall_at_10_text": 0.4}
    with pytest.raises(InputError, match=r"ratio_to_reference_neighbour_recall_at_10_text at least 0\.9; found 0\.75"):
        check_gate(metrics, GateParams(least_recall_ratio=0.9))
    check_gate(metrics, GateParams(least_recall_ratio=0.7))
    check_gate(
        {"neighbour_recall_at_10_text": 0.0, "reference_neighbour_recall_at_10_text": 0.0},
        GateParams(least_recall_ratio=1),
    )


def test_residual_k_means_takes_at_most_one_centre_a_row_and_each_level_the_rest():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 3)).astype(np.float32)
    present = np.array([True, True, True, False, True, True])
    codec = fit_reference_codec(rows, present, [8, 8], 0)
    assert [len(codebook) for codebook in codec.codebooks] == [5, 5]
    codes = codec.quantize(codec.encode(rows[present]))
    assert np.allclose(codec.decode(codec.dequantize(codes)), rows[present], atol=1e-5)
    first = codec.decode(codec.codebooks[0][codes[:, 0]])
    assert (
        np.square(first - rows[present]).sum() >= np.square(codec.decode(codec.dequantize(codes)) - rows[present]).sum()
    )


def test_tau_of_the_gate_is_of_validation_queries_alone():
    """Test queries must not decide which IDs pass."""
    histories = Histories(
        items=np.array([0, 1, 2, 3, 4, 5, 6, 7], dtype=np.int32),
        offsets=np.array([0, 4, 8]),
        train_end=np.array([2, 2]),
        query_user=np.array([0, 0, 1, 1]),
        query_end=np.array([2, 3, 2, 3]),
        query_valid=np.array([True, False, True, False]),
        targets=np.array([2, 3, 6, 7]),
    )
    found = validation_tau_queries(histories)
    assert [history.tolist() for history in found.histories] == [[0, 1], [4, 5]]
    assert found.targets.tolist() == [2, 6]
