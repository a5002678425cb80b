"""How many dimensions of a wide language model do item tokens fill? MME-SID's, and those of collaborative rows alone.

Run: python experiments/benchmarks/mme_sid_collapse.py --run office-products=FOLDER [--seeds 42 43 44]

FOLDER holds a project in which the preset has run; seeds are of what is made here, the stages before have the run's.
The paper (section 4.3) finds 98% of the dimensions alive where modalities and codes meet, and 1.6% where a linear map
takes collaborative rows to the language model's width. A run's own backbone is as narrow as the collaborative rows:
here it is `--width` wide, a Llama with random weights, its LoRA adapter, tokens and heads trained by the run's own
settings for `--epochs`. Three forms of the item token:

    MME-SID               raw rows and code vectors of all modalities, through the fusion MLP
    collaborative, MLP    the collaborative rows alone, through the same MLP
    collaborative, linear the collaborative rows alone, through one linear map, as recommenders on LLMs before had it

A dimension is alive where the tokens' singular value is at least 0.1% of the largest (`sidflow.metrics.geometry`).
"""

from __future__ import annotations

import argparse
from statistics import fmean
from typing import Any, NamedTuple

import mme_sid_common as common
import torch
from experiments.claims import format_over_seeds
from finished_run import name_of
from side_by_side import Measurement, benchmark_record, peak_memory_mb, run_conditions, write
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from sidflow.backbones.models import Backbone
from sidflow.core.devices import pick_device
from sidflow.metrics.geometry import compute_spectrum
from sidflow.mme_sid.item_tokens import ItemTokens, RawVectors
from sidflow.mme_sid.model import MmeSid, MmeSidTask
from sidflow.training.devices import prepare_training
from sidflow.training.loop import fit

COLLABORATIVE = "collaborative"
LAYERS, PER_HEAD = 2, 64
FORMATS = {"alive_share": ".1%", "effective_rank": ".0f", "valid_ndcg_at_10": ".4f"}  # of each form, after training
RATE = 1e-3  # of AdamW: the run's own is for a narrower model


class Form(NamedTuple):
    """A way to make item tokens."""

    alone: bool  # collaborative rows alone
    linear: bool


FORMS = {
    "MME-SID": Form(alone=False, linear=False),
    "collaborative, MLP": Form(alone=True, linear=False),
    "collaborative, linear": Form(alone=True, linear=True),
}


def raw_rows(tokens: ItemTokens) -> RawVectors:
    """Return what takes the first modality's rows to the language model's width."""
    part = next(iter(tokens.raw.values()))
    assert isinstance(part, RawVectors)
    return part


class LinearTokens(ItemTokens):
    """The raw rows of one modality through its linear map, as large as the language model's words."""

    def forward(self, items: Tensor) -> Tensor:
        """Return the tokens of `items`."""
        return raw_rows(self)(items)

    @torch.no_grad()
    def set_scale(self, size: float) -> None:
        """Give the tokens mean 0 and root mean square `size`."""
        part = raw_rows(self)
        rows = part.project(part.raw[part.present])
        factor = size / (rows - rows.mean(0)).square().mean().sqrt()
        part.project.bias.copy_((part.project.bias - rows.mean(0)) * factor)
        part.project.weight.mul_(factor)
        part.missing.zero_()


def wide_backbone(project: common.Project, width: int) -> Backbone:
    """Return a Llama of random weights for the run's own tokenizer."""
    prepare_training(project.seed, torch.get_num_threads())
    config = LlamaConfig(
        vocab_size=len(project.backbone.tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=LAYERS,
        num_attention_heads=width // PER_HEAD,
        max_position_embeddings=2048,
    )
    return Backbone(LlamaForCausalLM(config).requires_grad_(False), project.backbone.tokenizer)


def train_form(project: common.Project, form: Form, width: int, epochs: int) -> dict[str, Any]:
    """Train one form and return what its tokens fill, before and after."""
    settings = project.settings.model_copy(
        update={"codes": not form.alone, "loop": project.settings.loop.model_copy(
            update={"epochs": epochs, "patience": 0, "learning_rate": RATE})}
    )  # fmt: skip
    inputs = project.inputs
    if form.alone:
        inputs = inputs._replace(modalities={COLLABORATIVE: inputs.modalities[COLLABORATIVE]})
    project = project._replace(backbone=wide_backbone(project, width), settings=settings, inputs=inputs)
    model = common.new_model(project) if not form.linear else linear(project, width)
    before = token_spectrum(model)
    task = MmeSidTask(model, project.histories, settings)
    fitted = fit("collapse", task, settings.loop, seed=project.seed, device=pick_device())
    after = token_spectrum(model.eval())
    return {"before": before, **after, "valid_ndcg_at_10": round(fitted.best_value or 0.0, 5)}


def linear(project: common.Project, width: int) -> MmeSid:
    """Return the model with linear tokens."""
    model = MmeSid(project.backbone, project.inputs, project.histories, project.settings)
    tokens = LinearTokens(project.inputs.modalities, width, project.settings)
    model.item_tokens = tokens
    tokens.set_scale(project.settings.token_scale * model.backbone.word_size())
    return model


@torch.no_grad()
def token_spectrum(model: MmeSid) -> dict[str, float]:
    """Return the spectrum of the tokens of the items that have collaborative rows."""
    present = raw_rows(model.item_tokens).present
    figures = compute_spectrum(model.all_tokens()[present].cpu().numpy())
    return {"alive_share": round(figures.alive_share, 4), "effective_rank": round(figures.effective_rank, 1)}


def format_figures(figures: list[dict[str, Any]]) -> str:
    """Return every figure of `FORMATS`, over the seeds."""
    return ", ".join(format_over_seeds([one[name] for one in figures], form) for name, form in FORMATS.items())


def main() -> None:
    parser = common.benchmark_parser(__doc__, rounds=1)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    args: argparse.Namespace = parser.parse_args()
    project = common.load(args.run, args.threads)
    per_seed = {
        name: [train_form(project._replace(seed=seed), form, args.width, args.epochs) for seed in args.seeds]
        for name, form in FORMS.items()
    }
    forms = {
        name: {key: round(fmean(one[key] for one in figures), 5) for key in FORMATS}
        for name, figures in per_seed.items()
    }
    ours, theirs = forms["MME-SID"], forms["collaborative, linear"]
    name = name_of(args.run)
    write(
        "mme_sid_collapse",
        benchmark_record(
            f"Live dimensions of item tokens {args.width} wide, {name}: MME-SID against collaborative rows, mapped",
            "share",
            Measurement(ours["alive_share"], peak_memory_mb()),
            Measurement(theirs["alive_share"], None),
            higher_is_better=True,
            finding="alive dimensions, effective rank and validation nDCG@10, mean and range of "
            f"{len(args.seeds)} seed{'s' * (len(args.seeds) > 1)}: "
            + "; ".join(f"{form} {format_figures(figures)}" for form, figures in per_seed.items()),
            command=f"python experiments/benchmarks/mme_sid_collapse.py --run {name}=FOLDER --width {args.width} "
            f"--epochs {args.epochs} --seeds {' '.join(map(str, args.seeds))}",
            **run_conditions(1, args.threads),
            forms=forms,
            per_seed=per_seed,
        ),
        args.dry,
        replace=args.replace,
    )


if __name__ == "__main__":
    main()
