"""Overlays: merge patches, comments kept, data found."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from sidflow.commands import presets
from sidflow.commands.check import check, check_named
from sidflow.contracts.errors import InputError
from sidflow.recommenders.neural.multimodal import load_multimodal

ROOT = Path(__file__).parents[3]


def test_the_base_is_taken_byte_for_byte(small_project: Path) -> None:
    assert presets.compose("embedded") == (small_project / "presets/embedded.yaml").read_text()


def test_the_committed_params_are_the_base() -> None:
    assert (ROOT / "presets/embedded.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes(), (
        "`sidflow preset refresh` (after an edit of params.yaml) or `sidflow preset apply embedded`"
    )


def test_an_overlay_deletes_replaces_and_keeps_comments(small_project: Path) -> None:
    text = presets.compose("other", small_project.parent / "data/other")
    content = YAML(typ="safe").load(text)
    assert content == {
        "preset": "other",
        "seed": 42,
        "ingest": {"source": "files", "path": str(small_project.parent / "data/other")},
        "train": {"quick": {"rate": 3e-4, "size": 8}, "third": {"rate": 1}},
        "recommenders": ["quick", "third"],
    }
    assert "# of every model" in text
    assert "# synthetic | files" in text
    assert "3e-4" in text


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
    assert str(small_project.parent / "data/other") in presets.compose("other")


def test_another_source_never_inherits_the_base_path(small_project: Path) -> None:
    (small_project / "presets/other.yaml").write_text("ingest: {source: files}\n")
    with pytest.raises(InputError, match="--data"):
        presets.compose("other")


def test_an_unknown_preset_is_told_with_its_neighbour(small_project: Path) -> None:
    with pytest.raises(InputError, match="did you mean `other`"):
        presets.compose("othr")


def test_the_listing_stars_the_present_one(small_project: Path) -> None:
    base, other = presets.listing()
    assert base.startswith("* embedded  The project's own")
    assert other == "  other     Files of one's own."


values = st.recursive(
    st.none() | st.integers() | st.text("ab", max_size=2),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=1), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.text("abc", min_size=1, max_size=1), values, max_size=3)


def _rfc7396(target: object, patch: object) -> object:
    """The RFC's own pseudocode, on plain values."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _rfc7396(result.get(name), value)
    return result


@given(documents, documents)
def test_merging_is_the_one_of_the_standard(target: dict, patch: dict) -> None:
    base = _commented(target)
    presets.merge(base, patch)
    assert json.loads(json.dumps(base)) == _rfc7396(target, patch)


def _commented(value: dict) -> CommentedMap:
    return CommentedMap({key: _commented(inner) if isinstance(inner, dict) else inner for key, inner in value.items()})


@pytest.mark.parametrize("name", presets.names(ROOT / "presets"))
def test_every_preset_fits_every_stage(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    data = None if name in {"embedded", "mme-sid-paper"} else tmp_path  # neither names a source of data
    settings = YAML(typ="safe").load(presets.compose(name, data))
    check(settings, name)
    assert settings["preset"] == name
    assert presets.purpose(name)
    if settings["ingest"]["source"] != "synthetic":
        assert settings["ingest"]["path"] == str(tmp_path)
        assert "oracle" not in settings["recommenders"], "real data have no known truth"


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
            {
                "train_multimodal": {"sasrec_features": {"features": None}},
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
            {"assign": {"known_from": "earlier/artifacts"}},
            r"assign\.known_from: .*frozen_from: earlier/artifacts/quantizer/quantizer\.safetensors`, or neither",
        ),
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
        ({"recommenders": ["sasrec", "slim"]}, "artifacts/recommenders/slim"),
        ({"train_sequential": {"twin": {"architecture": "sasrec"}}}, r"yaml:recommenders: .*bert4rec, twin, .*'twin'"),
        ({"recommenders": ["popularity"]}, r"yaml:recommenders: .*found \[popularity\]"),
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
    settings = YAML().load(Path("params.yaml").read_text())
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
    settings = YAML(typ="safe").load(Path("params.yaml").read_text())
    settings["quantize"] |= {"alignment_anchor": "sound"} | patch
    check(settings, "params.yaml")


def test_one_modality_alone_is_aligned_to_nothing(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = YAML(typ="safe").load(Path("params.yaml").read_text())
    settings["modality"] = {"text": settings["modality"]["text"]}
    settings["recommenders"] = [name for name in settings["recommenders"] if not name.startswith("mme_sid")]
    settings["finetune"] = {}
    check(settings, "params.yaml")


def test_known_ids_with_their_quantizer_fit(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = YAML(typ="safe").load(Path("params.yaml").read_text())
    settings["quantize"]["frozen_from"] = "earlier/artifacts/quantizer/quantizer.safetensors"
    check(settings, "params.yaml")
    settings["assign"]["known_from"] = "earlier/artifacts"
    check(settings, "params.yaml")


@pytest.mark.parametrize(
    "section", ["train_counting", "train_content", "train_sequential", "train_multimodal", "modality", "finetune"]
)
def test_a_section_whose_entries_are_all_commented_out_is_named(section, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = YAML(typ="safe").load(Path("params.yaml").read_text()) | {section: None}
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
        ({"fine": None}, False),
    ],
)
def test_dmesr_is_refused_before_a_run_as_in_its_stage(dmesr, fits, tmp_path, monkeypatch) -> None:
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["train_multimodal"]["dmesr_sasrec"]
    content |= dmesr | {"model": content["model"] | dmesr.get("model", {})}
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(json.dumps({"train_multimodal": {"dmesr_sasrec": content}}))
    lines = []
    for refuse in (
        lambda: load_multimodal("dmesr_sasrec"),
        lambda: check_named("train_multimodal", "dmesr_sasrec", content, "params.yaml:train_multimodal.dmesr_sasrec"),
    ):
        try:
            refuse()
            lines.append(None)
        except InputError as error:
            lines.append(error.line())
    assert lines[0] == lines[1]
    assert (lines[0] is None) == fits
