"""Chat templates in all forms in which a folder can have them."""

import json

import pytest
from tests.unit.semantics import tiny_models
from transformers import AutoConfig, AutoProcessor, AutoTokenizer

from sidflow.core.errors import InputError
from sidflow.models.files import file_hashes
from sidflow.models.inputs import ModelInputs

WORDS = frozenset({"input_ids", "attention_mask", "pixel_values"})
OTHER = "{{ messages }} with tools"


@pytest.fixture(params=[tiny_models.llama, tiny_models.llava], ids=["words", "words and pictures"])
def folder(request, tmp_path):
    return request.param(tmp_path / "model")


def asked(folder):
    """What the model reads of one prompt."""
    config = AutoConfig.from_pretrained(folder)
    inputs = ModelInputs(folder, config, WORDS, config.model_type == "llava")
    return inputs.encode("a red lamp", None, 64)["input_ids"].tolist()


def template_of(folder):
    return AutoTokenizer.from_pretrained(folder).chat_template


def save_templates(folder, templates):
    for path in folder.glob("*.jinja"):
        path.unlink()
    for part in (AutoTokenizer, AutoProcessor):
        saved = part.from_pretrained(folder)
        saved.chat_template = templates
        saved.save_pretrained(folder)


def test_of_several_templates_the_default_one_asks(folder):
    expected = asked(folder)
    save_templates(folder, {"default": template_of(folder), "tool_use": OTHER})
    assert (folder / "additional_chat_templates/tool_use.jinja").is_file()
    assert asked(folder) == expected
    assert "additional_chat_templates/tool_use.jinja" in file_hashes(folder)


def test_the_default_one_may_lie_among_the_named_ones(folder):
    expected = asked(folder)
    save_templates(folder, {"default": template_of(folder), "tool_use": OTHER})
    (folder / "chat_template.jinja").rename(folder / "additional_chat_templates/default.jinja")
    assert asked(folder) == expected


def test_older_folders_list_templates_in_the_tokenizer_s_config(tmp_path):
    folder = tiny_models.llama(tmp_path / "model")
    expected, template = asked(folder), template_of(folder)
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    listed = [{"name": "default", "template": template}, {"name": "tool_use", "template": OTHER}]
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": listed}))
    assert asked(folder) == expected


def test_several_templates_without_a_default_one_are_refused(folder):
    save_templates(folder, {"rag": OTHER, "tool_use": OTHER})
    with pytest.raises(InputError, match="named `default`; found templates named rag, tool_use") as raised:
        asked(folder)
    assert "\n" not in raised.value.line()


def test_no_template_is_plain_text(tmp_path):
    folder = tiny_models.llama(tmp_path / "model")
    templated = asked(folder)
    (folder / "chat_template.jinja").unlink()
    assert asked(folder) != templated
