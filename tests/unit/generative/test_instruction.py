"""What precedes all histories of a language model is read once a batch; the rest goes on as behind the whole text."""

import pytest
import torch
from tests.unit.generative.cases import Decoding, tiny_backbone, tiny_language_model, whole_logits
from torch.nn import functional
from transformers import (
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GraniteConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from sidflow.generative.decoding import beam_search, exact_log_probs

WINDOW = {"sliding_window": 45}  # no more than `_require_room` asks for
GEMMA = {
    **WINDOW,
    "head_dim": 8,
    "final_logit_softcapping": 5.0,
    "layer_types": ["sliding_attention", "full_attention"],
}
BACKBONES = {
    "llama": {},
    "llama, untied": {"tied": False},
    "qwen2": {"family": Qwen2Config},
    "qwen3": {"family": Qwen3Config, "head_dim": 8},
    "mistral": {"family": MistralConfig, **WINDOW},
    "gemma2": {"family": Gemma2Config, **GEMMA},
    "gemma3": {"family": Gemma3TextConfig, **GEMMA},
    "cohere": {"family": CohereConfig, "logit_scale": 0.25},
    "granite": {"family": GraniteConfig, "logits_scaling": 3.0, "embedding_multiplier": 2.0},
    "gpt2": {"family": GPT2Config},  # learned positions
}
GPT2_LORA = {"rank": 4, "alpha": 8, "targets": ["c_attn", "c_fc"]}


def decoding_with(name, **params):
    case = Decoding("language_model")
    more = {"lora": GPT2_LORA} if name == "gpt2" else {}
    case.model = tiny_language_model(case.ids, tiny_backbone(**BACKBONES[name]), **more, **params)
    return case


def log_probs_of_whole_texts(case, row, by):
    """The log-probability of every ID, by PEFT's pass over instruction, history and ID."""
    model, ids = case.model, case.leaf_tokens() + case.model.words
    before = torch.cat([model.reader.instruction[0], case.tokens[row, : case.lengths[row]] + model.words])
    logits = whole_logits(model, torch.cat([before.expand(len(ids), -1), ids], dim=1))[:, len(before) - 1 : -1]
    if by == "children":
        for level in range(ids.shape[1]):
            siblings = (ids[:, None, :level] == ids[None, :, :level]).all(2).float()
            valid = siblings @ functional.one_hot(ids[:, level], logits.shape[2]).float()
            logits[:, level].masked_fill_(valid == 0, -torch.inf)
    return logits.log_softmax(2).gather(2, ids[..., None]).sum((1, 2))


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("by", ["children", "vocabulary"])
@torch.no_grad()
def test_log_probabilities_are_those_of_whole_texts(name, by):
    case = decoding_with(name)
    expected = torch.stack([log_probs_of_whole_texts(case, row, by) for row in range(3)])
    for positions in (7, 1000):
        exact = exact_log_probs(*case.arguments, positions=positions, by=by)
        torch.testing.assert_close(exact, expected, atol=5e-5, rtol=2e-5)
    beams = beam_search(*case.arguments, case.tree.leaves, by=by)
    by_leaf = torch.empty_like(expected).scatter_(1, beams.leaves.long(), beams.log_probs)
    torch.testing.assert_close(by_leaf, expected, atol=5e-5, rtol=2e-5)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("room", [0, 9])
@torch.no_grad()
def test_the_instruction_is_read_once(name, room):
    case = decoding_with(name)
    rows, length = case.tokens.shape
    shapes = []
    case.model.decoder.register_forward_pre_hook(
        lambda _, args, more: shapes.append(more["inputs_embeds"].shape[:2]), with_kwargs=True
    )
    case.model.read(case.tokens, case.lengths, room)
    shared = case.model.reader.instruction.shape[1] - 1  # each history is read with the last token
    assert shapes == [(1, shared), (rows, 1 + length)]


@pytest.mark.parametrize("prompt", ["{history}", "A customer {history}"])
@pytest.mark.parametrize("room", [0, 9])
@torch.no_grad()
def test_prompts_of_any_length_and_no_history(prompt, room):
    """An instruction of one token has nothing to share; an empty history ends with the instruction."""
    case = decoding_with("llama", prompt=prompt)
    instruction = case.model.reader.instruction
    nothing, none = case.tokens[:2, :0], torch.zeros(2, dtype=torch.int64)
    state = case.model.read(nothing, none, room).state
    expected = whole_logits(case.model, instruction)[:, -1].expand(2, -1)
    torch.testing.assert_close(case.model.vocabulary_logits(state), expected, atol=2e-5, rtol=1e-5)
