"""Beams under the prefix tree against `generate` of transformers with a prefix function, and a tree of a million IDs.

Run: python experiments/benchmarks/generative_decoding.py [--run NAME=FOLDER]

Both decode with one model, a decoder of random weights over random IDs, on one thread: histories of 20 items of 4 codes
below 256, beams of 20. With `--run` the IDs are those that `tiger` generates in a finished run, which share longer
prefixes; the records then have names of their own, and the tree of a million IDs is left out.

Every side runs in a process of its own, in turn, medians of the rounds. `generate` is given a dict from each prefix to
its list of tokens, the quickest prefix function there is; its lists have to be ours. Probabilities sum to 1 over the
codes with which an ID goes on, the default of `normalise` (`renormalize_logits` of `generate`), and in a second
comparison over the vocabulary. `free` is our beam over the vocabulary without a constraint: every code goes on.
`modules` is our beam with the model run by the modules of transformers, 64 histories at a time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from finished_run import add_run_option, enter_run, name_of
from side_by_side import (
    Measurement,
    benchmark_parser,
    benchmark_record,
    medians,
    peak_memory_mb,
    run_conditions,
    run_in_turn,
    run_side_or_all,
    side_command,
)
from transformers import LlamaForCausalLM

from sidflow.artifacts.catalog import ITEMS as ITEMS_TABLE
from sidflow.artifacts.catalog import core_count
from sidflow.artifacts.semantic_ids import QUANTIZER, code_counts, quantized_modalities
from sidflow.core.params import load_param
from sidflow.generative.causal import ScratchIdModel, scratch_causal_model
from sidflow.generative.decoding import beam_search
from sidflow.generative.params import CausalParams, generative_entry
from sidflow.generative.ranking import BATCH
from sidflow.generative.tree import PrefixTree, build_tree
from sidflow.generative.vocabulary import IdVocabulary, Normalise, load_item_ids
from sidflow.training.devices import prepare_training

SIZES, HISTORY, WIDTH = (256,) * 4, 20, 20
ITEMS, USERS, THEIR_USERS, REPEATS = 12_000, 256, 8, 30
MILLION, STEP_USERS = 1_000_000, 64
COMMAND = "python experiments/benchmarks/generative_decoding.py"


class Ids(NamedTuple):
    """The IDs that are decoded: all different, in order, so that a leaf of their tree has the number of its row."""

    codes: np.ndarray
    vocabulary: IdVocabulary

    @classmethod
    def of(cls, run: str | None) -> Ids:
        """Return random IDs, or those that `tiger` generates in the run NAME=FOLDER."""
        if run is None:
            return cls(codes_of(ITEMS), IdVocabulary(SIZES))
        with enter_run(run):
            params = generative_entry("tiger", load_param("generate.tiger"), "params.yaml:generate.tiger")
            quantizer, items = QUANTIZER.read(), ITEMS_TABLE.read(columns=["item_id"]).height
            counts = {modality: code_counts(quantizer, modality) for modality in quantized_modalities(quantizer)}
            ids, core = load_item_ids(items, counts, params.ids), core_count()
        return cls(np.unique(ids.codes[:core][ids.present[:core]], axis=0), ids.vocabulary)

    def tree(self) -> PrefixTree:
        """Return their tree."""
        return build_tree(self.codes, self.vocabulary.sizes)


class FreeTree:
    """Stands for a tree in which every code goes on everywhere."""

    leaves = 1

    def __init__(self, sizes: tuple[int, ...]) -> None:
        """Take the codes of each level."""
        self.sizes, self.levels = sizes, len(sizes)

    def children_of(self, depth: int, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a child for every code."""
        codes = torch.arange(self.sizes[depth]).expand(*nodes.shape, -1)
        return torch.zeros(codes.shape, dtype=torch.int32), codes

    def first_child(self, depth: int, nodes: torch.Tensor) -> torch.Tensor:
        """Return a child of each of no nodes: by `vocabulary` no ID is decided before its end."""
        return nodes


def codes_of(items: int) -> np.ndarray:
    """Return random IDs, all different."""
    drawn = np.random.default_rng(0).integers(256, size=(items + items // 50, len(SIZES)))
    return np.unique(drawn, axis=0)[:items]


def prepared(ids: Ids) -> tuple[ScratchIdModel, torch.Tensor]:
    """Return the model, and the histories of all users as tokens."""
    prepare_training(0, 1)
    params = CausalParams(max_length=HISTORY, init_std=0.1, dropout=0.0)
    model = scratch_causal_model(ids.vocabulary, params).eval()
    history = torch.from_numpy(np.random.default_rng(1).integers(len(ids.codes), size=(USERS, HISTORY)))
    return model, torch.from_numpy(ids.vocabulary.tokens(ids.codes))[history].flatten(1)


class ThroughModules(ScratchIdModel):
    """The model as the modules of transformers run it."""

    def read(self, tokens: torch.Tensor, lengths: torch.Tensor, room: int = 0) -> Any:
        """Return a prompt that the modules made."""
        return super().read(tokens, lengths)


def beams(
    ids: Ids,
    tree: PrefixTree | FreeTree,
    by: Normalise,
    lists: Path | None = None,
    *,
    batch: int = BATCH,
    modules: bool = False,
) -> dict[str, float]:
    """Decode all users, `batch` at a time, and write the lists of the first ones as tokens."""
    model, tokens = prepared(ids)
    if modules:
        model.__class__ = ThroughModules
    first, parts = torch.from_numpy(ids.vocabulary.first), tokens.split(batch)
    lengths = torch.full((batch,), tokens.shape[1])
    chosen: Any = tree
    beam_search(model, chosen, first, parts[0], lengths, WIDTH, by=by)  # warm
    began, began_cpu = time.perf_counter(), time.process_time()
    decoded = [beam_search(model, chosen, first, part, lengths, WIDTH, by=by) for part in parts]
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    if lists is not None:
        tokens = ids.vocabulary.tokens(ids.codes)
        lists.write_text(json.dumps(tokens[decoded[0].leaves[:THEIR_USERS].numpy()].tolist()))
    return {
        "users_per_second": USERS / seconds,
        "users_per_cpu_second": USERS / cpu_seconds,
        "peak_mb": peak_memory_mb(),
    }


def ours(args: argparse.Namespace) -> dict[str, float]:
    """Decode under the tree."""
    ids = Ids.of(args.run)
    tree = ids.tree()
    alone = [float((below == 1).float().mean()) for below in tree.ids[1:]]
    figures = {f"prefixes_of_{depth}_of_one_id": share for depth, share in enumerate(alone, 1)}
    return beams(ids, tree, args.by, args.lists) | {"tree_mb": tree.bytes / 1e6, "ids": tree.leaves, **figures}


def free(args: argparse.Namespace) -> dict[str, float]:
    """Decode without a constraint."""
    ids = Ids.of(args.run)
    return beams(ids, FreeTree(ids.vocabulary.sizes), "vocabulary")


def modules(args: argparse.Namespace) -> dict[str, float]:
    """Decode under the tree with the modules of transformers."""
    ids = Ids.of(args.run)
    return beams(ids, ids.tree(), args.by, batch=64, modules=True)


def prefixes(ids: Ids) -> dict[tuple[int, ...], list[int]]:
    """Return the tokens that may follow each prefix of tokens."""
    children: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for row in ids.vocabulary.tokens(ids.codes).tolist():
        for level, token in enumerate(row):
            children[tuple(row[:level])].add(token)
    return {prefix: sorted(tokens) for prefix, tokens in children.items()}


@torch.no_grad()
def theirs(args: argparse.Namespace) -> dict[str, float]:
    """Decode some users with `generate`, and check the lists that ours wrote."""
    ids = Ids.of(args.run)
    model, tokens = prepared(ids)
    config: Any = model.decoder.config
    config.tie_word_embeddings = True
    whole: Any = LlamaForCausalLM(config).eval()
    state = model.decoder.state_dict().items()
    whole.model.load_state_dict(
        {name.replace("o_proj.0.", "o_proj.").replace("down_proj.0.", "down_proj."): value for name, value in state}
    )
    whole.tie_weights()
    allowed, start, levels = prefixes(ids), tokens.shape[1] + 1, ids.vocabulary.levels
    prompt = torch.cat([torch.ones(THEIR_USERS, 1, dtype=torch.int64), tokens[:THEIR_USERS]], dim=1)
    began, began_cpu = time.perf_counter(), time.process_time()
    output: Any = whole.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        prefix_allowed_tokens_fn=lambda _, row: allowed.get(tuple(row[start:].tolist()), [0]),
        num_beams=WIDTH,
        num_return_sequences=WIDTH,
        max_new_tokens=levels,
        do_sample=False,
        renormalize_logits=args.by == "children",
        pad_token_id=0,
        eos_token_id=None,
    )
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    generated = output[:, start:].view(THEIR_USERS, WIDTH, levels)
    expected = torch.tensor(json.loads(args.lists.read_text()))
    same = (generated == expected).all(-1).float().mean()
    return {
        "users_per_second": THEIR_USERS / seconds,
        "users_per_cpu_second": THEIR_USERS / cpu_seconds,
        "same": float(same),
        "peak_mb": peak_memory_mb(),
    }


def step_nodes(tree: PrefixTree, depth: int) -> torch.Tensor:
    """Return nodes of random beams."""
    count = len(tree.codes[depth - 1]) if depth else 1
    return torch.randint(count, (STEP_USERS, WIDTH), generator=torch.Generator().manual_seed(depth), dtype=torch.int32)


def million(_args: argparse.Namespace) -> dict[str, float]:
    """Build the tree of a million IDs, and look up the masks of a step at each depth."""
    prepare_training(0, 1)
    codes = codes_of(MILLION)
    assert len(codes) == MILLION
    began = time.perf_counter()
    tree = build_tree(codes, SIZES)
    figures = {"build_seconds": time.perf_counter() - began, "tree_mb": tree.bytes / 1e6, "step_ms": 0.0}
    for depth in range(tree.levels):
        nodes = step_nodes(tree, depth)
        tree.children_of(depth, nodes)
        began = time.perf_counter()
        for _ in range(REPEATS):
            mask = tree.children_of(depth, nodes)[0] >= 0
        figures["step_ms"] = max(figures["step_ms"], 1000 * (time.perf_counter() - began) / REPEATS)
        assert mask.any(-1).all()
    return figures | {"peak_mb": peak_memory_mb()}


def dictionary(_: argparse.Namespace) -> dict[str, float]:
    """Do the same with a dict of prefixes: a look-up and a row of the mask for each beam."""
    prepare_training(0, 1)
    codes = codes_of(MILLION)
    began = time.perf_counter()
    allowed = prefixes(Ids(codes, IdVocabulary(SIZES)))
    figures = {"build_seconds": time.perf_counter() - began, "step_ms": 0.0}
    rows, vocabulary = IdVocabulary(SIZES).tokens(codes), IdVocabulary(SIZES)
    for depth in range(len(SIZES)):
        drawn = np.random.default_rng(depth).integers(len(rows), size=STEP_USERS * WIDTH)
        beams_so_far = torch.from_numpy(rows[drawn, :depth])
        began = time.perf_counter()
        mask = torch.full((len(drawn), vocabulary.size), -torch.inf)
        for index, beam in enumerate(beams_so_far):
            mask[index, allowed[tuple(beam.tolist())]] = 0
        figures["step_ms"] = max(figures["step_ms"], 1000 * (time.perf_counter() - began))
    return figures | {"peak_mb": peak_memory_mb()}


def results(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    if args.run is None:
        yield of_a_million(args)
    for by, title in (("children", ""), ("vocabulary", ", over the vocabulary")):
        yield decoding(args, by, title)


def of_a_million(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Return the record of the tree of a million IDs."""
    sides = {side: side_command(__file__, side) for side in ("million", "dictionary")}
    both = medians(run_in_turn(sides, args.rounds, 1))
    tree, plain = both["million"], both["dictionary"]
    return (
        "generative_tree_1m",
        benchmark_record(
            f"Mask of a step of {WIDTH} beams x {STEP_USERS} users among a million IDs, the slowest level, against a "
            "dict of prefixes",
            "ms",
            Measurement(tree["step_ms"], tree["peak_mb"]),
            Measurement(plain["step_ms"], plain["peak_mb"]),
            higher_is_better=False,
            finding=f"a step takes {tree['step_ms']:.2f} ms against {plain['step_ms']:.0f}; the tree is built in "
            f"{tree['build_seconds']:.1f} s and takes {tree['tree_mb']:.0f} MB",
            command=COMMAND,
            sides=both,
            **run_conditions(args.rounds, 1),
        ),
    )


def decoding(args: argparse.Namespace, by: str, title: str) -> tuple[str, dict[str, Any]]:
    """Return the record of beams with probabilities `by` children or vocabulary."""
    names = ("ours", "modules", "theirs", *(("free",) if by == "vocabulary" else ()))
    run = () if args.run is None else ("--run", args.run)
    with tempfile.TemporaryDirectory() as folder:
        more = ("--lists", Path(folder) / "lists.json", "--by", by, *run)
        figures = medians(run_in_turn({side: side_command(__file__, side, *more) for side in names}, args.rounds, 1))
    a, b = figures["ours"], figures["theirs"]
    free = ""
    if by == "vocabulary":
        ratio = figures["free"]["users_per_second"] / a["users_per_second"]
        free = f"{ratio:.2f} times the time of the beam without a constraint; "
    record = "generative_decoding" if by == "children" else "generative_decoding_vocabulary"
    which, command = f"random IDs of {len(SIZES)} codes", COMMAND
    if args.run is not None:
        name = name_of(args.run)
        record, command = f"{record}_{name}", f"{COMMAND} --run {name}=FOLDER"
        which = f"IDs that `tiger` has in the run `{name}`"
    return (
        record,
        benchmark_record(
            f"Beams of {WIDTH} over {a['ids']:,.0f} {which}, after {HISTORY} items, against `generate` with a "
            f"prefix function{title}",
            "users a second",
            Measurement(a["users_per_second"], a["peak_mb"]),
            Measurement(b["users_per_second"], b["peak_mb"]),
            higher_is_better=True,
            finding=f"{a['users_per_second']:.0f} users a second against {b['users_per_second']:.1f}; "
            f"{100 * b['same']:.1f}% of the places in the lists are the same; {free}"
            f"{a['users_per_cpu_second']:.0f} users a second of processor time against "
            f"{b['users_per_cpu_second']:.1f}; "
            f"{figures['modules']['users_per_second']:.0f} users a second with the modules of transformers; "
            f"the tree takes {a['tree_mb']:.1f} MB",
            command=command,
            model={name: getattr(CausalParams(), name) for name in ("dimensions", "layers", "heads", "feedforward")},
            sides=figures,
            **run_conditions(args.rounds, 1),
        ),
    )


def main() -> None:
    parser = benchmark_parser(__doc__, rounds=3)
    add_run_option(parser, required=False)
    parser.add_argument("--lists", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--by", choices=["children", "vocabulary"], default="children", help=argparse.SUPPRESS)
    run_side_or_all(
        parser,
        {
            "ours": ours,
            "theirs": theirs,
            "free": free,
            "modules": modules,
            "million": million,
            "dictionary": dictionary,
        },
        results,
    )


if __name__ == "__main__":
    main()
