"""Loss, widths and epochs by the size of the data: over `embedded`, below every other preset."""

import contextlib

import pytest
from tests.committed import ROOT

from sidflow.cli import presets
from sidflow.cli.presets import Layer, preset_values, sized_by_data
from sidflow.cli.sizes import Counts, expected_seconds, synthetic_counts, time_line

SMALL, LARGE = Counts(500, 20_000), Counts(30_000, 2_000_000)


def _values(counts: Counts | None, own: dict) -> dict:
    with contextlib.chdir(ROOT):
        return preset_values([*presets.layers("embedded"), Layer("own", own)], counts)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [(SMALL, (64, "full", 30, 32)), (Counts(3_000, 50_001), (128, "full", 40, 64)), (LARGE, (128, "sampled", 8, 256))],
)
def test_sizes_follow_items_and_events(counts: Counts, expected: tuple) -> None:
    values = _values(counts, {})
    entries = [*values["train_sequential"].values(), *(one["model"] for one in values["train_multimodal"].values())]
    assert len(entries) == 7
    for entry in entries:
        assert (entry["dimensions"], entry["loss"], entry["loop"]["epochs"], entry["batch_size"]) == expected
    assert values["finetune"]["mme_sid"]["loss"] == expected[1]
    assert values["finetune"]["mme_sid"]["lora"] == {"alpha": 128.0}, "what is no size stays"
    assert values["sized_for"] == list(counts)


def test_what_a_preset_says_wins() -> None:
    own = {
        "train_sequential": {
            "sasrec": {"loop": {"epochs": 5}, "dimensions": 32},
            "gru4rec": None,
            "wide": {"architecture": "sasrec"},
        }
    }
    sequential = _values(LARGE, own)["train_sequential"]
    assert (sequential["sasrec"]["loop"]["epochs"], sequential["sasrec"]["dimensions"]) == (5, 32)
    assert sequential["sasrec"]["loss"] == "sampled"
    assert "gru4rec" not in sequential
    assert sequential["wide"]["loop"]["epochs"] == 8, "an entry of one's own gets sizes too"


def test_ease_is_left_out_where_it_cannot_be_inverted_unless_it_is_asked_for() -> None:
    assert "ease" in _values(SMALL, {})["train_counting"]
    assert "ease" not in _values(LARGE, {})["train_counting"]
    assert _values(LARGE, {"train_counting": {"ease": {"ridges": [3.0]}}})["train_counting"]["ease"] == {
        "ridges": [3.0]
    }


def test_without_counts_nothing_is_chosen() -> None:
    values = _values(None, {})
    assert (values["sized_for"], values["train_sequential"]["sasrec"]["loop"]["epochs"]) == ([], 20)


def test_a_preset_turns_the_choice_off() -> None:
    assert sized_by_data([Layer("embedded", {}), Layer("own", {})])
    assert not sized_by_data([Layer("embedded", {}), Layer("base", {}, "preset"), Layer("own", {})])
    assert sized_by_data([Layer("base", {}, "preset"), Layer("own", {}, "data")])


def test_more_events_items_and_recommenders_take_longer() -> None:
    with contextlib.chdir(ROOT):
        times = [
            expected_seconds(presets.compose("embedded", counts=counts), counts)
            for counts in (SMALL, Counts(500, 40_000), Counts(5_000, 40_000))
        ]
    totals = [sum(one.values()) for one in times]
    assert totals == sorted(totals)
    assert {"train_sequential@sasrec", "train_multimodal@dmesr_sasrec", "finetune@mme_sid", "backbone"} <= set(times[0])


def test_trained_parts_of_the_synthetic_presets_are_in_the_expected_time() -> None:
    with contextlib.chdir(ROOT):
        runs = {name: presets.compose(name) for name in ("embedded", "embedded-mllm", "embedded-pretrained")}
        counts = synthetic_counts(runs["embedded"])
        assert counts == Counts(500, 19_500)
        times = {name: expected_seconds(resolved, counts) for name, resolved in runs.items()}
        assert time_line(runs["embedded-mllm"], counts).count("train_writer") == 1
    plain = times["embedded"]
    assert times["embedded-mllm"] == plain | {"train_writer": times["embedded-mllm"]["train_writer"]}
    assert times["embedded-pretrained"]["finetune@mme_sid"] > 4 * plain["finetune@mme_sid"]
    assert times["embedded-pretrained"]["train_sequential@sasrec"] == plain["train_sequential@sasrec"]


def test_an_unknown_word_for_sizes_is_refused(tmp_path, monkeypatch) -> None:
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets/own.yaml").write_text("sizes: automatic\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(presets.InputError, match=r"own\.yaml:sizes: expected data .* or preset .*found 'automatic'"):
        presets.layers("own")
