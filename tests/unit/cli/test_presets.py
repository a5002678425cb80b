"""Presets: patches of the defaults or of one another, written out with meanings; params as a whole are checked."""

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from tests.committed import ROOT, base_params, committed_presets, committed_text

from sidflow.cli import presets
from sidflow.cli.check import check
from sidflow.cli.params_file import scalar
from sidflow.cli.sections import resolve_entry
from sidflow.cli.selection import select
from sidflow.core.errors import InputError
from sidflow.core.params import Params
from sidflow.multimodal.fit import load_multimodal


def test_the_committed_params_are_those_of_their_preset(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    places = {"the last commit": committed_text("params.yaml"), "the workspace": Path("params.yaml").read_text()}
    text = presets.preset_text("embedded")
    assert text in places.values(), "neither params.yaml in use nor the committed one: `sidflow preset apply embedded`"


def test_a_preset_deletes_replaces_and_adds(small_project: Path) -> None:
    text = presets.preset_text("other", small_project.parent / "data/other")
    assert YAML(typ="safe").load(text) == {
        "preset": "other",
        "seed": 42,
        "threads": 2,
        "recommenders": ["quick", "third"],
        "sized_for": [],
        "semantic_ids": ["shared"],
        "ingest": {"source": "files", "path": str(small_project.parent / "data/other"), "seed": 7},
        "train": {"quick": {"rate": 3e-4, "size": 8}, "third": {"rate": 1.0, "size": 4}},
    }


def test_every_knob_is_written_with_its_meaning_and_those_that_recur_once(small_project: Path) -> None:
    assert presets.preset_text("embedded").splitlines()[2:] == [
        "preset: embedded             # the preset that this file was written for",
        "seed: 42                     # of every model; the data has its own, ingest.seed",
        "threads: 2                   # of every training; another count gives other bits",
        "recommenders: [quick, slow]  # what is trained with all that it needs; `sidflow recommenders` changes it",
        "sized_for: []                # core items and events that sizes were chosen for; [] = the preset chose them",
        "semantic_ids: [shared]       # [shared]: quantize, assign and backbone run | []: nothing needs semantic IDs",
        "",
        "ingest:  # What is read",
        "  source: synthetic  # synthetic | files",
        "  path: words.txt    # file or folder of the raw data",
        "  seed: 7            # of the words",
        "",
        "train:  # what is trained",
        "  quick:  # A small model",
        "    rate: 0.0003  # per step",
        "    size: 8       # width",
        "  slow: {rate: 0.1, size: 4}",
    ]


def test_presets_extend_one_another(small_project: Path) -> None:
    (small_project / "presets/third.yaml").write_text("extends: other\nseed: 5\ntrain: {third: {size: 6}}\n")
    resolved = presets.compose("third", Path("words.txt"))
    assert (resolved.top.preset, resolved.top.seed, resolved.top.recommenders) == ("third", 5, ["quick", "third"])
    training = resolved.sections["train"]
    assert isinstance(training, dict)
    assert training["third"].model_dump() == {"rate": 1.0, "size": 6}
    (small_project / "presets/other.yaml").write_text("extends: third\n")
    with pytest.raises(InputError, match=r"presets/other\.yaml: expected presets .* without a circle; found `third`"):
        presets.compose("third")


def test_a_preset_lies_over_several_presets_and_parts(small_project: Path) -> None:
    folder = small_project / "presets"
    (folder / "parts").mkdir()
    (folder / "parts/wide.yaml").write_text("train: {third: {size: 9, rate: 0.5}}\n")
    (folder / "parts/slow.yaml").write_text("train: {third: {rate: 0.25}}\n")
    (folder / "wider.yaml").write_text("extends: [other, parts/wide]\nseed: 5\n")
    (folder / "both.yaml").write_text("extends: [wider, parts/slow, other]\ntrain: {third: {size: 10}}\n")
    assert [layer.preset for layer in presets.layers("both")] == [
        *("embedded", "other", "parts/wide", "wider", "parts/slow", "both")
    ]
    training = presets.compose("both", Path("words.txt")).sections["train"]
    assert isinstance(training, dict)
    assert training["third"].model_dump() == {"rate": 0.25, "size": 10}
    assert presets.compose("both", Path("words.txt")).top.seed == 5
    assert not [name for name in presets.names() if "slow" in name]


def test_a_part_is_no_preset(small_project: Path) -> None:
    (small_project / "presets/parts").mkdir()
    (small_project / "presets/parts/wide.yaml").write_text("extends: 3\n")
    with pytest.raises(InputError, match="preset parts/wide: expected a preset; found a part"):
        presets.compose("parts/wide")
    (small_project / "presets/other.yaml").write_text("extends: [embedded, parts/wide]\n")
    with pytest.raises(InputError, match=r"presets/parts/wide\.yaml:extends: expected the name of a preset, .*found 3"):
        presets.compose("other")
    (small_project / "presets/other.yaml").write_text("extends: [embedded, parts/wid]\n")
    with pytest.raises(InputError, match="did you mean `parts/wide`"):
        presets.compose("other")


def test_a_presets_typo_is_named(small_project: Path) -> None:
    (small_project / "presets/other.yaml").write_text("extends: embedded\ntrain: {quick: {raet: 1}}\n")
    with pytest.raises(
        InputError, match=r"preset other:train\.quick: expected one of the names rate, size; found `raet`"
    ):
        presets.compose("other")


def test_data_comes_from_the_option_or_the_variable_or_not_at_all(
    small_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="--data DIR"):
        presets.compose("other")
    with pytest.raises(InputError, match="nothing at"):
        presets.compose("other", Path("nowhere"))
    with pytest.raises(InputError, match="no --data"):
        presets.compose("embedded", Path())
    monkeypatch.setenv("SIDFLOW_DATA", str(small_project.parent / "data"))
    assert str(small_project.parent / "data/other") in presets.preset_text("other")


def test_another_source_never_inherits_the_base_path(small_project: Path) -> None:
    (small_project / "presets/other.yaml").write_text("ingest: {source: files}\n")
    with pytest.raises(InputError, match="--data"):
        presets.compose("other")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("ingest: synthetic", "presets/mine.yaml:ingest: expected a mapping of names to values; found 'synthetic'"),
        ("train: [quick]", "presets/mine.yaml:train: expected a mapping of names to values; found ['quick']"),
        ("train: {quick: 1}", "presets/mine.yaml:train.quick: expected a mapping of names to values; found 1"),
        ("ingest:", "preset mine: expected a section `ingest`; found none. Remedy: add `ingest: {}`"),
    ],
)
def test_a_section_of_a_preset_that_is_no_mapping_is_one_line(small_project: Path, lines: str, said: str) -> None:
    (small_project / "presets" / "mine.yaml").write_text(f"# Mine.\nextends: embedded\n{lines}\n")
    with pytest.raises(InputError, match=f"^{re.escape(said)}"):
        presets.compose("mine")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("describe: {writer: rules}", "preset mine:describe.writer: expected a mapping whose `backend` is one of"),
        ("train_content: {mine: {}}", "params.yaml:train_content: expected cooccurrence_content; found mine"),
        ("compare: {references: 3}", "preset mine:compare.references: expected a list, each text; found 3"),
    ],
)
def test_a_value_that_does_not_fit_is_named_before_the_stages_are(tmp_path, monkeypatch, line: str, said: str) -> None:
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    monkeypatch.chdir(tmp_path)
    Path("presets/mine.yaml").write_text(f"# Mine.\nextends: embedded\n{line}\n")
    with pytest.raises(InputError, match=f"^{re.escape(said)}"):
        presets.compose("mine")


def test_an_unknown_preset_is_told_with_its_neighbour(small_project: Path) -> None:
    with pytest.raises(InputError, match="did you mean `other`"):
        presets.compose("othr")


def test_the_listing_stars_the_present_one(small_project: Path) -> None:
    base, other = presets.listing()
    assert base.startswith("* embedded  The small default.")
    assert other == "  other     Files of one's own."


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(leaves | st.lists(leaves, max_size=3))
def test_a_value_is_read_as_it_was_written(value: object) -> None:
    assert YAML(typ="safe").load(f"knob: {scalar(value)}") == {"knob": value}


@pytest.mark.parametrize(
    ("base", "patch", "merged"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": 2}}),
        ({"a": {"b": 1}, "c": {}}, {"a": None}, {"c": {}}),  # null removes an entry
        ({"a": 1}, {"a": None, "b": None}, {"a": None, "b": None}),  # and is the value of a knob
        ({"a": {"b": 1}}, {"a": 2}, {"a": 2}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": 1}, {"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 1}}}),
        ({"m": {"path": "a", "licence": "MIT"}}, {"m": {"path": "b"}}, {"m": {"path": "b"}}),  # another model
        ({"m": {"path": "a", "licence": "X"}}, {"m": {"path": "a"}}, {"m": {"path": "a", "licence": "X"}}),
        ({"m": {"kind": "hub", "licence": "X"}}, {"m": {"kind": "path"}}, {"m": {"kind": "path"}}),
    ],
)
def test_mappings_merge_and_other_values_replace(base, patch, merged) -> None:
    presets.merge(base, patch)
    assert base == merged


def _models(settings: Params) -> set[type[Params]]:
    values = [value for _, value in settings]
    values += [inner for value in values if isinstance(value, dict) for inner in value.values()]
    return {type(settings)}.union(*(_models(value) for value in values if isinstance(value, Params)))


def _all_models() -> list[type[Params]]:
    with contextlib.chdir(ROOT):
        resolved = presets.compose("embedded")
    models = _models(resolved.top)
    for section in resolved.sections.values():
        for settings in [section] if isinstance(section, Params) else section.values():
            models |= _models(settings)
    return sorted(models, key=lambda model: model.__name__)


@pytest.mark.parametrize("model", _all_models())
def test_every_knob_says_what_it_means_and_every_choice_it_has(model: type[Params]) -> None:
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__name__}.{name}"
        assert len(field.description) <= 110, f"{model.__name__}.{name}"
        choices = [str(one) for one in get_args(field.annotation)] if get_origin(field.annotation) is Literal else []
        choices = [re.sub(r"_\d+$", "", one) for one in choices]
        assert len(choices) < 2 or all(one in field.description for one in choices), f"{model.__name__}.{name}"


@pytest.mark.parametrize("name", committed_presets())
def test_every_preset_fits_every_stage(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    own = {
        "embedded",
        "embedded-dmesr",
        "embedded-contrastive",
        "embedded-fused",
        "embedded-pretrained",
        "embedded-mllm",
        "embedded-rules",
        "embedded-generative",
        "mme-sid-paper",
    }  # they name no data
    data = None if name in own else tmp_path
    settings = YAML(typ="safe").load(presets.preset_text(name, data))
    check(settings, name)
    assert settings["preset"] == name
    assert presets.purpose(name)
    if settings["ingest"]["source"] != "synthetic":
        assert settings["ingest"]["path"] == str(tmp_path)
        assert "oracle" not in settings["recommenders"], "real data have no known truth"


def test_another_backend_of_the_writer_brings_its_own_knobs():
    base = {"writer": {"backend": "rules", "colours": 3}, "views": ["text"]}
    presets.merge(base, {"writer": {"backend": "replay", "model": "m"}})
    assert base == {"writer": {"backend": "replay", "model": "m"}, "views": ["text"]}
    presets.merge(base, {"writer": {"revision": "r"}})
    assert base["writer"] == {"backend": "replay", "model": "m", "revision": "r"}


def _compared_with_dmesr() -> list[str]:
    return [name for name in committed_presets() if name.endswith("-dmesr")]


def _without(model: dict, *names: str) -> dict:
    return {name: value for name, value in model.items() if name not in ("architecture", "refit", *names)}


@pytest.mark.parametrize("name", _compared_with_dmesr())
@pytest.mark.parametrize("base", ["sasrec", "gru4rec", "bert4rec"])
def test_dmesr_trains_as_its_opponents_do(name, base, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    data = None if name.startswith("embedded") else tmp_path
    settings = YAML(typ="safe").load(presets.preset_text(name, data))
    entries = settings["train_multimodal"]
    ours = [one for key, one in entries.items() if key.startswith(f"dmesr_{base}")]
    plain = entries[f"dmesr_{base}"]
    for one in ours:
        opponent = entries[f"{base}_hybrid"] if one["hybrid"] else entries[f"{base}_features"]
        assert (one["model"], one["hybrid"]) == (opponent["model"], opponent["hybrid"])
        assert sum(one[knob] != plain[knob] for knob in plain if knob != "model") <= 2, "parts are off one at a time"
    for key, one in entries.items():
        if key.startswith(f"{base}_") and one["kind"] == "features":
            opponent = entries[f"{base}_hybrid"] if one["hybrid"] else entries[f"{base}_features"]
            assert (one["model"], one["dropout"], one["scale"]) == (
                opponent["model"],
                entries[f"{base}_features"]["dropout"],
                entries[f"{base}_features"]["scale"],
            )
    assert plain["scale"] == entries[f"{base}_features"]["scale"], "content starts as large"
    assert (plain["dropout"], plain["heads"]) == (0.2, 2), "those of `embedded-dmesr`"
    if not name.startswith("embedded"):  # the base model's own, tuned ones, but for epochs
        for key in (f"{base}_features", f"{base}_hybrid"):
            loops = [entries[key]["model"]["loop"], settings["train_sequential"][base]["loop"]]
            assert _without(loops[0], "epochs", "patience") == _without(loops[1], "epochs", "patience")
            tuned = (
                ("loop", "item_dropout") if base == "sasrec" else ("loop",)
            )  # `sasrec_features` has a share of its own
            assert _without(entries[key]["model"], *tuned) == _without(settings["train_sequential"][base], *tuned)


def test_the_presets_of_dmesr_on_amazons_short_texts_differ_in_their_data_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    texts = [presets.preset_text(f"amazon-{data}-dmesr", tmp_path) for data in ("beauty-text", "toys", "sports")]
    beauty, toys, sports = (YAML(typ="safe").load(text)["train_multimodal"] for text in texts)
    unfused = toys.pop("dmesr_sasrec_unfused")
    assert beauty == toys == sports
    assert unfused | {"fusion": "both"} == toys["dmesr_sasrec"]
    assert {one["model"]["loss"] for one in toys.values()} == {"sampled"}


@pytest.mark.parametrize("name", ["embedded-dmesr", "embedded-fused", "office-products-fused", "amazon-toys-fused"])
def test_what_dmesr_fused_is_all_that_two_forms_of_mme_sid_differ_in(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = YAML(typ="safe").load(presets.preset_text(name, None if name.startswith("embedded") else tmp_path))
    forms = settings["finetune"]
    without, fused_without = (set(forms[name].pop("without")) for name in ("mme_sid", "mme_sid_fused"))
    assert without - fused_without == {"fused"} and fused_without <= without
    assert forms["mme_sid"] == forms["mme_sid_fused"]
    assert settings["modality"]["fused"]["source"] == "artifacts/recommenders/dmesr_sasrec/content.safetensors"


@pytest.mark.parametrize("base", ["office-products", "amazon-toys"])
def test_a_fused_preset_trains_what_dvc_has_of_the_preset_of_dmesr(base, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    fused, dmesr = (YAML(typ="safe").load(presets.preset_text(f"{base}-{one}", tmp_path)) for one in ("fused", "dmesr"))
    assert fused["embed"] == dmesr["embed"], "another set of encoders is another artifacts/embeddings"
    for section in ("train_sequential", "train_multimodal", "train_content"):
        assert fused[section].items() <= dmesr[section].items()


@pytest.mark.parametrize("name", ["movielens-posters", "office-products"])
def test_the_writer_of_drawings_describes_no_real_data(name, tmp_path):
    settings = YAML(typ="safe").load(presets.preset_text(name, tmp_path))
    assert settings["describe"]["writer"]["backend"] == "rules"


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"train_sequentail": {}}, "names train_sequential.*found `train_sequentail`"),
        ({"seed": "x"}, "seed"),
        ({"split": {"method": "none"}}, r"split\.method"),
        (
            {"train_sequential": {"sasrec": {"dimension": 3}}},
            r"train_sequential\.sasrec: expected one of the names dimensions, .*found `dimension`",
        ),
        ({"train_sequential": {"new": {}}}, r"train_sequential\.new\.architecture"),
        ({"train_counting": {"none": {}}}, "none"),
        ({"modality": {"text": {"source": "artifacts/embeddings/txt.safetensors"}}}, "txt"),
        (
            {"modality": {"text": {"source": "artifacts/embeddings/fine_text.safetensors"}}},
            "one vector an item: text, ",
        ),
        ({"modality": {"text": {"source": "artifacts/embeddings/text.parquet"}}}, r"found text\.parquet"),
        (
            {"train_content": {"cooccurrence_content": {"features": "artifacts/embeddings/txt.safetensors"}}},
            "found txt",
        ),
        (
            {"train_multimodal": {"dmesr_sasrec": {"heads": 3}}},
            r"train_multimodal\.dmesr_sasrec\.model: .*multiple of heads \(3\); found 64",
        ),
        (
            {"train_multimodal": {"dmesr_sasrec": {"text_view": "veiw_text"}}},
            r"dmesr_sasrec\.text_view: .*found veiw_text",
        ),
        ({"train_multimodal": {"dmesr_sasrec": {"image_view": "fine_text"}}}, r"image_view: .*one vector an item"),
        ({"train_multimodal": {"dmesr_sasrec": {"joint_view": "x"}}}, r"joint_view: .*found x"),
        ({"train_multimodal": {"dmesr_sasrec": {"fine": "text"}}}, r"fine: .*units of an item: fine_text; found text"),
        ({"embed": {"encoders": {"view_joint": None}}}, r"joint_view: .*found view_joint"),
        (
            {"train_multimodal": {"sasrec_hybrid": {"hybrid": {"content": ["txt"]}}}},
            r"sasrec_hybrid\.hybrid\.content: .*one vector an item: text, .*found txt",
        ),
        (
            {"train_multimodal": {"sasrec_hybrid": {"hybrid": {"content": ["text", "fine_text"]}}}},
            r"sasrec_hybrid\.hybrid\.content: .*found fine_text",
        ),
        (
            {"train_multimodal": {"dmesr_sasrec": {"hybrid": {"content": ["smell"]}}}},
            r"dmesr_sasrec\.hybrid\.content: .*found smell",
        ),
        (
            {
                "modality": {"image": None},
                "embed": {"encoders": {"image": None}},
            },
            r"train_multimodal\.sasrec_features\.features.*found image",
        ),
        *(
            (
                {section: {name: {"model": {knob: value}}}},
                rf"{name}\.model\.{knob}: .*{section}\.{name}\.{above}",
            )
            for section, name in (("train_multimodal", "sasrec_features"), ("train_multimodal", "dmesr_sasrec"))
            for knob, value, above in (("architecture", "sasrec", "base"), ("refit", True, "refit"))
        ),
        (
            {"quantize": {"alignment_anchor": "colaborative"}},
            r"quantize\.alignment_anchor: .* collaborative, text, image; found colaborative",
        ),
        (
            {"assign": {"frozen_ids_from": "earlier/artifacts"}},
            r"assign\.frozen_ids_from: .*frozen_from: earlier/artifacts/quantizer/quantizer\.safetensors`, or neither",
        ),
        ({"train_ranker": {"candidate_ranker": {"content": ["txt"]}}}, r"ranker\.content: .*one vector.*found txt"),
        ({"train_ranker": {"candidate_ranker": {"content": ["fine_text"]}}}, r"ranker\.content: .*found fine_text"),
        (
            {"blend": {"mme_sid_blend": {"added": "mme_sid_blend"}}},
            "two other recommenders; found candidate_ranker and",
        ),
        (
            {"finetune": {"mme_sid": None}},
            r"stage blend@mme_sid_blend reads .*found none that makes artifacts/recommenders/mme_sid"
            r".*`blend: \{mme_sid_blend: null\}`",
        ),
        ({"blend": {"mme_sid_blend": {"added": "candidate_ranker"}}}, "`added` to be two other recommenders"),
        (
            {"blend": {"sasrec_features_blend": {"base": "mme_sid_features_blend"}}},
            r"blend\.sasrec_features_blend: .*not made of it; found mme_sid_features_blend, which reads",
        ),
        ({"sized_for": [500]}, r"`sized_for` with two counts, items and events, or \[\]; found \[500\]"),
        ({"finetune": {"mme_sid": {"without": ["txt"]}}}, r"mme_sid\.without: .*collaborative, text, image.*found txt"),
        ({"finetune": {"mme_sid": {"without": ["collaborative", "text", "image"]}}}, "but not all of them"),
        (
            {"finetune": {"mme_sid_anchored": {"anchoring": {"modalities": ["txt"]}}}},
            r"mme_sid_anchored\.anchoring\.modalities: .*found txt",
        ),
        (
            {"finetune": {"mme_sid": {"anchor": "content", "without": ["text"]}}},
            "which `without` leaves in; found text",
        ),
        ({"ingest": {"source": "files"}}, r"train_counting\.oracle: .*found source files.*oracle: null"),
        ({"ingest": {"synthetic": {"truth_positions": 0}}}, r"train_counting\.oracle: .*truth_positions 0"),
        ({"recommenders": ["sasrec", "slim"]}, r"artifacts/recommenders/slim"),
        (
            {"train_sequential": {"twin": {"architecture": "sasrec"}}},
            r"yaml:recommenders: .*found \[twin\] neither listed nor needed",
        ),
        (
            {"recommenders": ["popularity"]},
            r"yaml:recommenders: .*found \[markov, .*neither listed nor needed.*`sidflow recommenders`",
        ),
        ({"train_sequential": {"mme_sid": {"architecture": "sasrec"}}}, "made once"),
        ({"seed": -1}, r"params\.yaml:seed: expected an integer >= 0"),
        ({"threads": 0}, r"params\.yaml:threads: expected an integer >= 1; found 0"),
        ({"train_sequential": 3}, r"params\.yaml:train_sequential: expected a mapping of names to values; found 3"),
        (
            {"train_multimodal": {"sasrec_features": {"features": ["smell"]}}},
            r"train_multimodal\.sasrec_features\.features: .*smell",
        ),
        (
            {"train_multimodal": {"sasrec_features": {"model": {"hidden": 3}}}},
            r"train_multimodal\.sasrec_features\.model.*`hidden`",
        ),
        (
            {"train_multimodal": {"dmesr_sasrec": 3}},
            r"train_multimodal\.dmesr_sasrec: expected a mapping of names to values; found 3",
        ),
    ],
)
def test_what_does_not_fit_is_named_before_a_run(patch, said, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = base_params()
    presets.merge(settings, patch)
    with pytest.raises(InputError, match=said):
        check(settings, "params.yaml")


@pytest.mark.parametrize(
    "patch",
    [
        {"alignment": "none"},
        {"method": "rq-vae"},
        {"method": "rq-kmeans"},
        {"frozen_from": "earlier/quantizer.safetensors"},
    ],
)
def test_what_aligns_nothing_needs_no_anchor(patch, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = base_params()
    settings["quantize"] |= {"alignment_anchor": "sound"} | patch
    for modality in settings["modality"].values():
        modality["normalise"] = "none"  # a frozen quantizer asks for the fit of any other
    check(settings, "params.yaml")


def test_one_modality_alone_is_aligned_to_nothing(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = base_params()
    settings["modality"] = {"text": settings["modality"]["text"]}
    settings["recommenders"] = [name for name in settings["recommenders"] if not name.startswith("mme_sid")]
    settings["finetune"] = {}
    settings["generate"]["tiger"]["ids"]["modalities"] = ["text"]
    settings["blend"] = {name: entry for name, entry in settings["blend"].items() if not name.startswith("mme_sid")}
    check(settings, "params.yaml")


@pytest.mark.parametrize("name", ["text.v2", "text-", ""])
def test_a_modality_that_cannot_name_a_part_of_a_model_is_one_line(monkeypatch, name) -> None:
    monkeypatch.chdir(ROOT)
    settings = base_params()
    settings["modality"][name] = settings["modality"]["text"]
    with pytest.raises(InputError, match=rf"modality: expected names of letters.*found `{name}`"):
        check(settings, "params.yaml")


def test_known_ids_with_their_quantizer_fit(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = base_params()
    settings["quantize"]["frozen_from"] = "earlier/artifacts/quantizer/quantizer.safetensors"
    settings["modality"]["collaborative"]["normalise"] = "l2"
    settings["modality"]["image"]["frozen_from"] = "earlier/artifacts/modalities/image.safetensors"
    with pytest.raises(InputError, match=r"text\.frozen_from: .*set it to earlier/artifacts/modalities/text\."):
        check(settings, "params.yaml")
    settings["modality"]["text"]["frozen_from"] = "earlier/artifacts/modalities/text.safetensors"
    check(settings, "params.yaml")
    settings["assign"]["frozen_ids_from"] = "earlier/artifacts"
    check(settings, "params.yaml")


@pytest.mark.parametrize(
    "section",
    [
        "train_counting",
        "train_content",
        "train_sequential",
        "train_multimodal",
        "train_ranker",
        "modality",
        "finetune",
        "blend",
    ],
)
def test_a_section_whose_entries_are_all_commented_out_is_named(section, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = base_params() | {section: None}
    with pytest.raises(InputError, match=f"`{section}` is a mapping or a list; found null, no entries"):
        check(settings, "params.yaml")


@pytest.mark.parametrize(
    ("dmesr", "fits"),
    [
        ({}, True),
        ({"heads": 3}, False),
        ({"heads": 3, "model": {"dimensions": 48}}, True),
        ({"model": {"heads": 3}}, False),
        ({"model": {"dimensions": 30, "heads": 3}, "heads": 5, "base": "bert4rec"}, True),
        ({"base": "gru4rec"}, False),  # it has no positions
        ({"refit": True}, True),
        ({"refit": 7}, False),
        ({"model": {"loop": {"epochs": -1}}}, False),
        ({"fine": None}, True),
        ({"fine": None, "fusion": "units"}, False),
        ({"text_view": None, "image_view": None, "joint_view": None, "fine": None}, False),
    ],
)
def test_dmesr_is_refused_before_a_run_as_in_its_stage(dmesr, fits, tmp_path, monkeypatch) -> None:
    content = base_params()["train_multimodal"]["dmesr_sasrec"]
    content |= dmesr | {"model": content["model"] | dmesr.get("model", {})}
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(json.dumps({"train_multimodal": {"dmesr_sasrec": content}}))
    lines = []
    for refuse in (
        lambda: load_multimodal("dmesr_sasrec"),
        lambda: resolve_entry("train_multimodal", "dmesr_sasrec", content, "params.yaml"),
    ):
        try:
            refuse()
            lines.append(None)
        except InputError as error:
            lines.append(error.line())
    assert lines[0] == lines[1]
    assert (lines[0] is None) == fits


def test_a_recommender_on_concatenated_vectors_keeps_their_parts(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(ROOT)
    values = YAML(typ="safe").load(presets.preset_text("office-products-pretrained", tmp_path))
    kept = select(values, ["cooccurrence_content"], "params.yaml")["embed"]["encoders"]
    assert set(kept) == {"text", "meaning", "text_and_meaning"}
    assert "text_and_meaning" not in select(values, ["cooccurrence"], "params.yaml")["embed"]["encoders"]
