"""Random IDs, tiny models of both kinds, and a catalogue in which what comes next is obvious."""

import numpy as np
import torch
from peft.tuners.lora.layer import Linear
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig

from sidflow.backbones.lora import LeanLora
from sidflow.backbones.models import Backbone
from sidflow.backbones.scratch import train_tokenizer
from sidflow.generative.causal import scratch_causal_model
from sidflow.generative.encoder_decoder import scratch_encoder_decoder
from sidflow.generative.language_model import adapt
from sidflow.generative.params import CausalParams, EncoderDecoderParams, LanguageParams
from sidflow.generative.tree import build_tree
from sidflow.generative.vocabulary import IdVocabulary, ItemIds

SIZES = (6, 5, 4)
TINY = {"dimensions": 16, "layers": 2, "heads": 2, "feedforward": 32, "dropout": 0.0}
KINDS = ("decoder", "encoder_decoder")
ALL_KINDS = (*KINDS, "language_model")
COLOURS, THINGS = ("red", "blue", "green", "grey"), ("lamp", "chair", "table", "stool")
TITLES = [f"{colour} {thing}" for thing in THINGS for colour in COLOURS]
LORA = {"rank": 4, "alpha": 8}


def random_codes(seed, count, sizes=SIZES):
    draw = np.random.default_rng(seed)
    return np.stack([draw.integers(size, size=count) for size in sizes], axis=1)


def node_prefixes(tree, depth):
    """The codes of every node of `depth`, int64 [nodes, depth]."""
    columns = []
    node = np.arange(len(tree.codes[depth - 1])) if depth else np.zeros(1, dtype=np.int64)
    for level in range(depth, 0, -1):
        columns.append(tree.codes[level - 1].numpy()[node].astype(np.int64))
        node = np.searchsorted(tree.starts[level - 1].numpy(), node, side="right") - 1
    return np.stack(columns[::-1], axis=1) if columns else np.zeros((1, 0), dtype=np.int64)


def item_ids(codes, sizes=SIZES):
    return ItemIds(codes, IdVocabulary(tuple(sizes)))


def tiny_model(kind, ids, seed=0):
    """A model whose weights are large enough for its probabilities to differ."""
    torch.manual_seed(seed)
    if kind == "language_model":
        return tiny_language_model(ids)
    if kind == "decoder":
        return scratch_causal_model(ids.vocabulary, CausalParams(**TINY, init_std=0.4)).eval()
    params = EncoderDecoderParams(architecture=kind, **TINY, init_std=0.4)
    return scratch_encoder_decoder(ids.vocabulary, params).eval()


def tiny_backbone(tied=True, family=LlamaConfig, **more):
    """A causal language model with random weights, and its tokenizer."""
    tokenizer = train_tokenizer([*TITLES, "A customer bought these products, oldest first:"], 300)
    config = family(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        initializer_range=0.4,
        **more,
    )
    attention = "eager" if family is Gemma2Config else "sdpa"
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return Backbone(model.requires_grad_(False).eval(), tokenizer)


def tiny_language_model(ids, backbone=None, **params):
    """LC-Rec's model over a tiny backbone, its adapter no longer without effect."""
    settings = LanguageParams(**{"architecture": "language_model", "lora": LORA, "max_length": 5} | params)
    model = adapt(backbone or tiny_backbone(), ids.vocabulary, settings).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return model


def whole_logits(model, tokens):
    """PEFT's own pass, with its own layers, over rows of words and ID tokens."""
    lean = [module for module in model.modules() if isinstance(module, LeanLora)]
    for module in lean:
        module.__class__ = Linear
    try:
        return model.model(input_ids=tokens, use_cache=False).logits
    finally:
        for module in lean:
            module.__class__ = LeanLora


@torch.no_grad()
def generated(whole, prompt, valid, width, **settings):
    """The lists of `generate` of transformers under a prefix function, as numbers of IDs.

    Args:
        whole: the model with its head.
        prompt: the history as the model reads it.
        valid: the IDs as tokens of `whole`.
        width: of the beam and the list.
        settings: more of `generate`.
    """
    encodes = whole.config.is_encoder_decoder
    start = 1 if encodes else len(prompt)

    def allowed(_, tokens):
        prefix = tuple(tokens[start:].tolist())
        return sorted({one[len(prefix)] for one in valid if one[: len(prefix)] == prefix}) or [0]

    lists = whole.generate(
        input_ids=prompt[None],
        attention_mask=torch.ones_like(prompt)[None],
        prefix_allowed_tokens_fn=allowed,
        num_beams=width,
        num_return_sequences=width,
        max_new_tokens=len(valid[0]),
        pad_token_id=0,
        eos_token_id=None,
        **settings,
    )
    return [valid.index(tuple(one[start:].tolist())) for one in lists]


BEAMS = {"do_sample": False, "temperature": None, "top_k": None, "top_p": None, "repetition_penalty": 1.0}


class Decoding:
    """A model, its tree and three histories of different lengths, for the functions of `decoding`."""

    def __init__(self, kind, count=60, sizes=SIZES, seed=0):
        self.ids = item_ids(random_codes(seed, count, sizes), sizes)
        self.model = tiny_model(kind, self.ids)
        self.tree = build_tree(self.ids.codes, tuple(sizes))
        self.first = torch.from_numpy(self.ids.vocabulary.first)
        items = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0], [9, 0, 0, 0]]) % count
        tokens = torch.from_numpy(self.ids.tokens)
        self.lengths = torch.tensor([4, 3, 1]) * len(sizes)
        self.tokens = tokens[items].flatten(1)

    @property
    def arguments(self):
        return self.model, self.tree, self.first, self.tokens, self.lengths

    def leaf_tokens(self):
        """The tokens of every distinct ID, in the order of the leaves."""
        return torch.from_numpy(node_prefixes(self.tree, self.tree.levels)) + self.first

    @torch.no_grad()
    def logits_of(self, row, target):
        """The logits [l, vocabulary] at each token of one ID after one history, by a pass of its own."""
        history = self.tokens[row, : self.lengths[row]]
        if hasattr(self.model, "decoder"):
            before = len(self.model.start()) - 1 + len(history)
            states = self.model.states(torch.cat([history, target])[None])[0][before : before + len(target)]
            logits = states @ self.model.output_rows().T
            if hasattr(self.model, "word_rows"):
                logits = torch.cat([logits, states @ self.model.word_rows().T], dim=1)
            return logits
        before = torch.cat([torch.tensor([1]), target[:-1]])
        output = self.model.model(input_ids=history[None], decoder_input_ids=before[None], use_cache=False)
        return self.model.vocabulary_logits(output.last_hidden_state[0])
