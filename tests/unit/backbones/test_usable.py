"""Which models the stage `backbone` takes: those whose states the prompted backbone computes, and no others."""

import json
import shutil

import pytest
import torch
import transformers as hf
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file

from sidflow.artifacts.recommenders import BACKBONE
from sidflow.backbones.models import record_of_pretrained
from sidflow.backbones.params import BackboneParams
from sidflow.backbones.usable import check_recorded_backbone
from sidflow.core.errors import InputError

LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
BART = {"d_model": 32, "decoder_layers": 1, "encoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 32}
OPT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "ffn_dim": 48}
GPT2 = {"n_embd": 32, "n_layer": 1, "n_head": 4, "pad_token_id": None}


@pytest.fixture
def save(tokenizer, tmp_path):
    """Save a model of `vocab_size` tokens with the tokenizer, and return the folder."""

    def saved(model, config, **sizes):
        torch.manual_seed(0)
        made = model(config(**({"vocab_size": len(tokenizer)} | sizes)))
        made.save_pretrained(tmp_path / "model")
        tokenizer.save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return saved


@pytest.fixture
def llama(save):
    return save(hf.LlamaForCausalLM, hf.LlamaConfig, **LLAMA)


def check(folder, history=50):
    check_recorded_backbone(record_of_pretrained(BackboneParams(kind="path", path=str(folder))), history)


def edit(path, **entries):
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize(
    ("model", "config", "sizes"),
    [
        (hf.LlamaForCausalLM, hf.LlamaConfig, LLAMA),
        (hf.GPT2LMHeadModel, hf.GPT2Config, GPT2),
        (hf.OPTForCausalLM, hf.OPTConfig, OPT),
        (hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig, LLAMA),
        (hf.Gemma3ForCausalLM, hf.Gemma3TextConfig, LLAMA | {"head_dim": 8, "sliding_window": 4}),
    ],
)
def test_families_that_read_item_tokens_pass(save, model, config, sizes):
    check(save(model, config, **sizes))


@pytest.mark.parametrize(
    ("model", "config", "sizes", "found"),
    [
        (
            hf.BloomForCausalLM,
            hf.BloomConfig,
            {"hidden_size": 32, "n_layer": 1, "n_head": 4},
            "of a model of type bloom",
        ),
        (hf.MptForCausalLM, hf.MptConfig, {"d_model": 32, "n_heads": 4, "n_layers": 1}, "differ from its own.* mpt"),
        (hf.RwkvForCausalLM, hf.RwkvConfig, {"hidden_size": 32, "num_hidden_layers": 2}, "of a model of type rwkv"),
        (hf.MambaForCausalLM, hf.MambaConfig, {"hidden_size": 32, "num_hidden_layers": 1}, "of a model of type mamba"),
        (hf.BertLMHeadModel, hf.BertConfig, BERT, "differ from its own.* bert"),
        (hf.RobertaForCausalLM, hf.RobertaConfig, BERT, "of a model of type roberta"),
        (hf.BartForCausalLM, hf.BartConfig, BART, "differ from its own.* bart"),
        (hf.BartForConditionalGeneration, hf.BartConfig, BART, "expected a causal LM; found a model of type bart"),
        (hf.T5ForConditionalGeneration, hf.T5Config, {"d_model": 32, "num_layers": 1}, "found a model of type t5"),
        (hf.OPTForCausalLM, hf.OPTConfig, OPT | {"word_embed_proj_dim": 16}, r"as wide as .* \(32\); found .* 16 wide"),
        (hf.LlamaForCausalLM, hf.LlamaConfig, LLAMA | {"vocab_size": 64}, "the model has 64; found tokens beyond"),
    ],
)
def test_families_and_shapes_that_do_not_are_one_clear_line(save, model, config, sizes, found):
    with pytest.raises(InputError, match=found):
        check(save(model, config, **sizes))


@pytest.mark.parametrize(
    ("model", "config", "sizes"),
    [
        (hf.GPT2LMHeadModel, hf.GPT2Config, GPT2 | {"n_positions": 64}),
        (hf.LlamaForCausalLM, hf.LlamaConfig, LLAMA | {"max_position_embeddings": 64}),
    ],
)
def test_the_history_has_to_fit_into_the_positions(save, model, config, sizes):
    folder = save(model, config, **sizes)
    check(folder, history=10)
    with pytest.raises(InputError, match=r"expected at least \d+ positions, .* 50 items; found 64"):
        check(folder)


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{{ raise_exception('no user turn first') }}", "TemplateError: no user turn first"),
        ("{{ messages[0].nothing.there }}", "UndefinedError"),
        ("{% for m in messages %}", "TemplateSyntaxError"),
        ("hello", "content 0 times"),
        (
            "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}",
            "content 0 times",
        ),
        ("{% for m in messages %}{{ m['content'] }} {{ m['content'] }}{% endfor %}", "content 2 times"),
        ([{"name": "rag", "template": "{{ messages[0].content }}"}], "ValueError"),
    ],
)
def test_chat_templates_that_lose_the_message_are_one_clear_line(llama, template, found):
    edit(llama / "tokenizer_config.json", chat_template=template)
    with pytest.raises(InputError, match=rf"chat template of .*{found}") as raised:
        check(llama)
    assert len(raised.value.line()) < 1000


def test_weights_that_are_missing_or_no_numbers_are_one_clear_line(llama):
    weights = load_file(llama / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    save_file(
        {key: value for key, value in weights.items() if key != name}, llama / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(InputError, match=rf"would be random \(1 affected\), for example '{name}'"):
        check(llama)
    save_file(weights | {name: weights[name] * float("nan")}, llama / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="relative nan"):
        check(llama)


def test_a_config_without_sizes_is_one_clear_line(llama):
    (llama / "config.json").write_text(json.dumps({"model_type": "reformer", "vocab_size": 300}))
    with pytest.raises(InputError, match="expected a causal LM"):
        check(llama)


def test_a_template_that_writes_the_date_gives_the_same_prompt_every_day(tokenizer):
    from sidflow.backbones.prompted_backbone import tokenize_prompt

    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}: {{ messages[0].content }}"
    try:
        prompt = tokenize_prompt(tokenizer, "a {history} b")
    finally:
        tokenizer.chat_template = None
    assert tokenizer.decode(prompt.instruction) == "26 Jul 2024: a "


def test_the_stage_refuses_with_exit_code_2_and_writes_nothing(llama, tmp_path, monkeypatch, capsys):
    from stages import backbone

    monkeypatch.chdir(tmp_path)
    settings = {"kind": "path", "path": str(llama)}
    with (tmp_path / "params.yaml").open("w") as handle:
        YAML().dump({"preset": "test", "backbone": settings, "seed": 1, "threads": 1}, handle)
    backbone.main()
    assert BACKBONE.read()["family"] == "llama"
    shutil.rmtree(tmp_path / "artifacts")
    edit(llama / "tokenizer_config.json", chat_template="hello")
    capsys.readouterr()
    with pytest.raises(SystemExit) as raised:
        backbone.main()
    assert raised.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not BACKBONE.at().exists()
