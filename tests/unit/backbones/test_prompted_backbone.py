import pytest
import torch

from sidflow.backbones.adapter import add_adapter
from sidflow.backbones.params import LoraParams
from sidflow.backbones.prompted_backbone import Prompt, PromptedBackbone, tokenize_prompt
from sidflow.core.errors import InputError

PROMPT = Prompt(instruction=[5, 9, 11, 30], marker=[7, 8, 40])


def reader_of(tiny, family="llama", readout="last_item", lora=True):
    model = tiny.model(family, 300)
    wrapped = add_adapter(
        model, LoraParams(rank=4, alpha=16, targets=("gate_proj", "up_proj", "down_proj"), enabled=lora)
    )
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)  # a fresh adapter changes nothing
    return PromptedBackbone(wrapped, PROMPT, readout).eval()


def plain(reader, tokens):
    """The states at every place of [instruction; tokens], each row with its own copy of the instruction."""
    words = reader.embed_tokens(reader.instruction).expand(len(tokens), -1, -1)
    states = reader.decoder(inputs_embeds=torch.cat([words, tokens], 1), use_cache=False).last_hidden_state
    return states[:, words.shape[1] :]


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "gemma2"])
def test_the_shared_instruction_equals_a_repeated_one(tiny, family):
    reader = reader_of(tiny, family)
    tokens = torch.randn(5, 7, tiny.hidden, generator=torch.Generator().manual_seed(1))
    reads = torch.arange(7).expand(5, -1)
    torch.testing.assert_close(reader(tokens, reads), plain(reader, tokens), atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_adapter_through_the_shared_instruction(tiny):
    reader = reader_of(tiny)
    tokens = torch.randn(3, 4, tiny.hidden, generator=torch.Generator().manual_seed(1))
    reads = torch.arange(4).expand(3, -1)
    weights = {name: p for name, p in reader.named_parameters() if p.requires_grad}
    assert weights and all("lora" in name for name in weights)
    shared = torch.autograd.grad(reader(tokens, reads).square().sum(), list(weights.values()))
    repeated = torch.autograd.grad(plain(reader, tokens).square().sum(), list(weights.values()))
    for one, other in zip(shared, repeated, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-4)
    kept = [(key.detach(), value.detach()) for key, value in reader.instruction_key_values()]
    cut = torch.autograd.grad(reader(tokens, reads, kept).square().sum(), list(weights.values()))
    assert any(not torch.allclose(one, other, rtol=1e-3) for one, other in zip(shared, cut, strict=True))


@pytest.mark.parametrize("readout", ["last_item", "response"])
def test_the_future_and_padding_change_nothing(tiny, readout):
    reader = reader_of(tiny, readout=readout)
    tokens = torch.randn(2, 6, tiny.hidden, generator=torch.Generator().manual_seed(2))
    changed = tokens.clone()
    changed[:, 4:] += 5
    reads = torch.arange(6).expand(2, -1)
    before, after = reader(tokens, reads), reader(changed, reads)
    torch.testing.assert_close(before[:, :4], after[:, :4], atol=1e-5, rtol=1e-5)
    assert (before[:, 4:] - after[:, 4:]).abs().amax() > 0.05
    short = reader(tokens[:, :4], reads[:, :4])
    torch.testing.assert_close(before[:, :4], short, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2"])
def test_all_response_markers_in_one_pass_equal_one_sample_per_prefix(tiny, family):
    reader = reader_of(tiny, family, readout="response")
    tokens = torch.randn(2, 5, tiny.hidden, generator=torch.Generator().manual_seed(3))
    found = reader(tokens, torch.arange(5).expand(2, -1))
    marker = reader.embed_tokens(reader.marker).expand(2, -1, -1)
    for end in range(5):
        sample = plain(reader, torch.cat([tokens[:, : end + 1], marker], 1))
        torch.testing.assert_close(found[:, end], sample[:, -1], atol=1e-5, rtol=1e-5)
    last = reader(tokens, torch.tensor([[4], [2]]))
    torch.testing.assert_close(last[:, 0], torch.stack([found[0, 4], found[1, 2]]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_size_of_words_is_that_of_the_vectors_which_the_model_reads(tiny, family):
    """Gemma's table multiplies its rows by the root of their width."""
    reader = reader_of(tiny, family)
    words = reader.embed_tokens(torch.arange(300))
    assert reader.word_size() == pytest.approx(float(words.square().mean().sqrt()), rel=1e-5)


def test_bf16_weights_stay_close(tiny):
    reader = reader_of(tiny, lora=False)
    tokens = torch.randn(2, 5, tiny.hidden, generator=torch.Generator().manual_seed(3))
    reads = torch.arange(5).expand(2, -1)
    exact = reader(tokens, reads)
    rounded = reader.to(torch.bfloat16)(tokens, reads)
    assert rounded.dtype == torch.float32
    assert (exact - rounded).abs().max() < 0.1


def test_prompt_uses_the_chat_template_where_there_is_one(tokenizer):
    bare = tokenize_prompt(tokenizer, "a {history} b")
    assert bare.instruction[0] == tokenizer.bos_token_id
    assert tokenizer.decode(bare.marker) == " b"
    turns = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    tokenizer.chat_template = turns + "{% if add_generation_prompt %}<assistant>{% endif %}"
    try:
        chat = tokenize_prompt(tokenizer, "a {history} b")
    finally:
        tokenizer.chat_template = None
    assert tokenizer.decode(chat.instruction) == "<user>a "
    assert tokenizer.decode(chat.marker) == " b<assistant>"


def test_a_response_readout_needs_a_marker(tiny):
    with pytest.raises(InputError, match=r"response marker"):
        PromptedBackbone(tiny.model("llama", 300), Prompt([1], []), "response")
