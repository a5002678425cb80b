"""Beams and exact log-probabilities against passes of their own, and against `generate` of transformers."""

import json

import pytest
import torch
from tests.unit.generative.cases import (
    ALL_KINDS,
    BEAMS,
    KINDS,
    TINY,
    Decoding,
    generated,
    tiny_backbone,
    tiny_language_model,
)
from transformers import LlamaForCausalLM, T5ForConditionalGeneration

from sidflow.artifacts.recommenders import MODEL_FOLDER
from sidflow.backbones.models import load_backbone, record_of_folder
from sidflow.generative.causal import scratch_causal_model
from sidflow.generative.decoding import beam_search, exact_log_probs
from sidflow.generative.encoder_decoder import scratch_encoder_decoder
from sidflow.generative.params import CausalParams, EncoderDecoderParams


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("positions", [1, 7, 1000])
def test_exact_by_vocabulary_is_the_sum_over_tokens(kind, positions):
    case = Decoding(kind)
    exact = exact_log_probs(*case.arguments, positions=positions, by="vocabulary")
    for row in range(3):
        for leaf, target in enumerate(case.leaf_tokens()):
            log_probs = case.logits_of(row, target).log_softmax(-1)
            expected = log_probs[torch.arange(len(target)), target].sum()
            torch.testing.assert_close(exact[row, leaf], expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("positions", [1, 7, 1000])
def test_exact_by_children_is_the_sum_over_valid_codes(kind, positions):
    case = Decoding(kind)
    exact = exact_log_probs(*case.arguments, positions=positions, by="children")
    torch.testing.assert_close(exact.exp().sum(1), torch.ones(3), atol=1e-5, rtol=0)
    prefixes = case.leaf_tokens()
    for row in range(3):
        for leaf, target in enumerate(prefixes):
            logits, expected = case.logits_of(row, target), 0.0
            for level in range(len(target)):
                siblings = prefixes[(prefixes[:, :level] == target[:level]).all(1), level].unique()
                expected += logits[level, target[level]] - logits[level, siblings].logsumexp(0)
            torch.testing.assert_close(exact[row, leaf], torch.as_tensor(expected), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("by", ["children", "vocabulary"])
def test_a_beam_as_wide_as_the_catalogue_is_exact(kind, by):
    case = Decoding(kind)
    exact, order = exact_log_probs(*case.arguments, by=by).sort(dim=1, descending=True)
    beams = beam_search(*case.arguments, case.tree.leaves + 5, by=by)
    leaves = case.tree.leaves
    torch.testing.assert_close(beams.log_probs[:, :leaves], exact, atol=2e-5, rtol=1e-5)
    assert (beams.leaves[:, :leaves] == order).all()
    assert (beams.leaves[:, leaves:] == -1).all()


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("sizes", [(1, 4, 1), (1,), (3,), (1, 1, 1)])
def test_levels_of_one_code_and_ids_of_one_level(kind, sizes):
    case = Decoding(kind, count=9, sizes=sizes)
    for by in ("children", "vocabulary"):
        exact, order = exact_log_probs(*case.arguments, by=by).sort(dim=1, descending=True)
        beams = beam_search(*case.arguments, 9, by=by)
        torch.testing.assert_close(beams.log_probs[:, : case.tree.leaves], exact, atol=2e-5, rtol=1e-5)
        assert (beams.leaves[:, : case.tree.leaves] == order).all()
    total = exact_log_probs(*case.arguments, by="children").exp().sum(1)
    torch.testing.assert_close(total, torch.ones(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_history_is_answered_alike_alone_and_beside_longer_ones(kind):
    case = Decoding(kind)
    together = beam_search(*case.arguments, 6)
    for row in range(3):
        length = int(case.lengths[row])
        alone = beam_search(
            case.model, case.tree, case.first, case.tokens[row : row + 1, :length], case.lengths[row : row + 1], 6
        )
        assert alone.leaves[0].tolist() == together.leaves[row].tolist()
        torch.testing.assert_close(alone.log_probs[0], together.log_probs[row], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_the_model_reads_no_position_of_a_prefix_that_one_id_has_alone(kind, monkeypatch):
    case = Decoding(kind, count=9)
    extend, positions = case.model.extend, []

    def counted(prompt, tokens, *rest, **more):
        positions.append(tokens.shape[1])
        return extend(prompt, tokens, *rest, **more)

    monkeypatch.setattr(case.model, "extend", counted)
    beam_search(*case.arguments, 30, by="vocabulary")
    beam_search(*case.arguments, 30, by="children")
    prefixes = [case.leaf_tokens()[:, :depth].unique(dim=0, return_counts=True)[1] for depth in (1, 2)]
    shared = [int((ids > 1).sum()) for ids in prefixes]
    assert shared < [len(ids) for ids in prefixes]
    assert positions == [*map(len, prefixes), *shared]


def generator_of(case):
    """The same model as transformers generates with, its head tied to the token table."""
    if hasattr(case.model, "decoder"):
        config = case.model.decoder.config
        config.tie_word_embeddings = True
        whole = LlamaForCausalLM(config).eval()
        state = {
            name.replace("o_proj.0.", "o_proj.").replace("down_proj.0.", "down_proj."): tensor
            for name, tensor in case.model.decoder.state_dict().items()
        }
        whole.model.load_state_dict(state)
    else:
        whole = T5ForConditionalGeneration(case.model.model.config).eval()
        whole.generation_config.decoder_start_token_id = 1
        missing = whole.load_state_dict(case.model.model.state_dict(), strict=False).missing_keys
        assert missing == ["lm_head.weight"]
    whole.tie_weights()
    return whole


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [2, 5])
@pytest.mark.parametrize(("by", "count"), [("vocabulary", 60), ("children", 60), ("children", 20)])
def test_lists_are_those_of_generate_with_a_prefix_function(kind, width, by, count):
    case = Decoding(kind, count=count)
    whole = generator_of(case)
    # An instruct model's sampling defaults: they break the beams of `generate`, and do not reach ours.
    case_config = case.model.decoder if kind == "decoder" else case.model.model
    case_config.generation_config = whole.generation_config
    whole.generation_config.do_sample, whole.generation_config.temperature = True, 0.6
    whole.generation_config.repetition_penalty = 1.3
    valid = [tuple(row) for row in case.leaf_tokens().tolist()]
    beams = beam_search(*case.arguments, width, by=by)
    for row in range(3):
        history = case.tokens[row, : case.lengths[row]]
        prompt = torch.cat([torch.tensor([1]), history]) if kind == "decoder" else history
        expected = generated(whole, prompt, valid, width, renormalize_logits=by == "children", **BEAMS)
        assert beams.leaves[row].tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_predictions_are_as_good_as_none(kind):
    """Before training all codes with which an ID goes on are about as probable: no model begins behind a blank one."""
    case = Decoding(kind, count=200, sizes=(16, 8, 8))
    torch.manual_seed(0)
    settings = TINY | {"dimensions": 64}
    if kind == "decoder":
        case.model = scratch_causal_model(case.ids.vocabulary, CausalParams(**settings)).eval()
    else:
        params = EncoderDecoderParams(architecture=kind, **settings)
        case.model = scratch_encoder_decoder(case.ids.vocabulary, params).eval()
    loss = -exact_log_probs(*case.arguments).mean()
    blank, prefixes = torch.zeros(case.tree.leaves), case.leaf_tokens()
    for level in range(3):
        before = (prefixes[:, None, :level] == prefixes[None, :, :level]).all(2)
        blank += torch.tensor([len(prefixes[row, level].unique()) for row in before]).log()
    assert float(loss) == pytest.approx(float(blank.mean()), abs=0.05)


BAD_DEFAULTS = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 2, "repetition_penalty": 5.0}


@pytest.mark.parametrize("by", ["vocabulary", "children"])
def test_what_a_backbone_ships_for_generate_does_not_reach_our_beams(tmp_path, monkeypatch, by):
    """The whole language model with its adapter, read from a folder with the sampling defaults of an instruct model."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / MODEL_FOLDER
    torch.manual_seed(0)
    for part in tiny_backbone():
        part.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps(BAD_DEFAULTS))
    case = Decoding("language_model")
    case.model = tiny_language_model(case.ids, load_backbone(record_of_folder("scratch", folder)))
    whole = case.model.model.get_base_model()
    assert {name: getattr(whole.generation_config, name) for name in BAD_DEFAULTS} == BAD_DEFAULTS
    words, width = case.model.words, 5
    valid = [tuple(row) for row in (case.leaf_tokens() + words).tolist()]
    expected, shipped = [], []
    for row in range(3):
        history = case.tokens[row, : case.lengths[row]] + words
        prompt = torch.cat([case.model.reader.instruction[0], history])
        way = {"renormalize_logits": by == "children"}
        expected.append(generated(whole, prompt, valid, width, **way, **BEAMS))
        shipped.append(generated(whole, prompt, valid, width, **way, do_sample=False))
    assert shipped != expected  # what is shipped does change beams of `generate`
    assert beam_search(*case.arguments, width, by=by).leaves.tolist() == expected
