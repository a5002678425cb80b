"""Random IDs, tiny models of both kinds, and a catalogue in which what comes next is obvious."""

import numpy as np
import torch

from sidflow.generative.causal import scratch_causal_model
from sidflow.generative.encoder_decoder import scratch_encoder_decoder
from sidflow.generative.params import CausalParams, EncoderDecoderParams
from sidflow.generative.tree import build_tree
from sidflow.generative.vocabulary import IdVocabulary, ItemIds

SIZES = (6, 5, 4)
TINY = {"dimensions": 16, "layers": 2, "heads": 2, "feedforward": 32, "dropout": 0.0}
KINDS = ("decoder", "encoder_decoder")


def random_codes(seed, count, sizes=SIZES):
    draw = np.random.default_rng(seed)
    return np.stack([draw.integers(size, size=count) for size in sizes], axis=1)


def item_ids(codes, sizes=SIZES):
    return ItemIds(codes, IdVocabulary(tuple(sizes)))


def tiny_model(kind, ids, seed=0):
    """A model whose weights are large enough for its probabilities to differ."""
    torch.manual_seed(seed)
    if kind == "decoder":
        return scratch_causal_model(ids.vocabulary, CausalParams(**TINY, init_std=0.4)).eval()
    return scratch_encoder_decoder(ids.vocabulary, EncoderDecoderParams(architecture=kind, **TINY)).eval()


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
        return torch.from_numpy(self.tree.node_prefixes(self.tree.levels)) + self.first

    @torch.no_grad()
    def logits_of(self, row, target):
        """The logits [l, vocabulary] at each token of one ID after one history, by a pass of its own."""
        history = self.tokens[row, : self.lengths[row]]
        if hasattr(self.model, "decoder"):
            states = self.model._states(torch.cat([history, target])[None])[0]
            return self.model._logits(states[len(history) : len(history) + len(target)])
        before = torch.cat([torch.tensor([1]), target[:-1]])
        output = self.model.model(input_ids=history[None], decoder_input_ids=before[None], use_cache=False)
        return self.model._logits(output.last_hidden_state[0])
