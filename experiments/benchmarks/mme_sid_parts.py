"""What makes MME-SID fall behind SASRec, or lead: its item tokens, its scores, or the language model that reads them?

Run: python experiments/benchmarks/mme_sid_parts.py --run office-products=FOLDER [--seeds 42 43 44]

FOLDER holds a project in which the preset has run; seeds are of what is made here, the stages before have the run's.
MME-SID is trained for `--epochs` epochs, by the run's own settings else, with each of three parts as it is, or as
SASRec has it. A table alone starts from nothing and takes more epochs than modalities do:

    token    MME-SID's, or the row that the item is scored by (SASRec reads and scores by one table)
    score    by the table and the modalities' rows, or by the table alone
    encoder  the language model with LoRA, or a transformer block of SASRec's, trained from nothing

All three as in SASRec are SASRec, as wide as the run's language model and with MME-SID's settings. The figure is
nDCG@10 over all validation queries, of the best epoch; the test part is not looked at.
"""

from __future__ import annotations

import itertools
from statistics import fmean
from typing import Any, NamedTuple

import mme_sid_common as common
import numpy as np
import torch
from finished_run import name_of
from side_by_side import Measurement, benchmark_record, peak_memory_mb, run_conditions, write
from torch import Tensor
from torch.nn import functional

from sidflow.backbones.adapter import add_adapter
from sidflow.backbones.prompted_backbone import KeyValues, PromptedBackbone
from sidflow.core.devices import pick_device
from sidflow.mme_sid.fusion import TABLE_STD, FrequencyAwareFusion
from sidflow.mme_sid.model import MmeSid, MmeSidTask
from sidflow.mme_sid.start import initialise_from_items
from sidflow.sequential.encoders import TransformerEncoder
from sidflow.sequential.params import SasrecParams
from sidflow.training.devices import prepare_training
from sidflow.training.loop import fit

CONTENT_SIZE = 2.0  # of projected rows beside the table's at the start; `scale` of SASRec with features is like it


class Parts(NamedTuple):
    """Which parts are MME-SID's; the others are SASRec's."""

    token: bool
    score: bool
    encoder: bool


EVERY = [Parts(*parts) for parts in itertools.product((True, False), repeat=3)]
NAMES = (
    ("MME-SID's token", "its scored row"),
    ("table and modalities", "table alone"),
    ("language model", "SASRec's block"),
)


def name_parts(parts: Parts) -> str:
    """Return the parts in words.

    >>> name_parts(Parts(token=True, score=False, encoder=True))
    "MME-SID's token, table alone, language model"
    """
    return ", ".join(names[not own] for names, own in zip(NAMES, parts, strict=True))


class SasrecReader(PromptedBackbone):
    """SASRec's encoder in the place of the language model; `word_size` still says how large a token is."""

    def __init__(self, project: common.Project, hidden: int) -> None:
        """Make one block, `hidden` wide."""
        settings = project.settings
        super().__init__(add_adapter(project.backbone.model, settings.lora), common.prompt(project), settings.readout)
        self.model.requires_grad_(False)
        block = SasrecParams(blocks=1, feedforward=2, dropout=0.3, dimensions=hidden, max_length=settings.max_length)
        self.encoder = TransformerEncoder(block)
        self.scale = TABLE_STD / self.word_size()

    def forward(
        self,
        tokens: Tensor,
        read_positions: Tensor,
        key_values: KeyValues | None = None,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """Return the state at each read position, as `PromptedBackbone` does."""
        assert lengths is not None
        states = self.encoder(tokens * self.scale, lengths)
        return states.gather(1, read_positions[..., None].expand(-1, -1, states.shape[2]))


class PartlyMmeSid(MmeSid):
    """MME-SID with some of its parts."""

    def __init__(self, project: common.Project, parts: Parts) -> None:
        """Put SASRec's parts in place of the others."""
        super().__init__(project.backbone, project.inputs, project.histories, project.settings)
        self.parts, hidden = parts, self.fusion.table.shape[1]
        if not parts.encoder:
            self.backbone: PromptedBackbone = SasrecReader(project, hidden)
        if not parts.score:
            self.fusion = FrequencyAwareFusion(project.inputs._replace(modalities={}), hidden, project.settings)
        if not parts.token:
            self.row_scale = self.backbone.word_size() / TABLE_STD
            self._scale_content(hidden)

    @torch.no_grad()
    def _scale_content(self, hidden: int) -> None:
        for name, project in self.fusion.project.items():
            length = project(getattr(self.fusion, f"raw_{name}")).norm(dim=1).mean()
            project.weight.mul_(CONTENT_SIZE * TABLE_STD * hidden**0.5 / length)  # type: ignore[union-attr, operator]
            project.bias.zero_()  # type: ignore[union-attr, operator]

    def history_tokens(self, history: Tensor) -> Tensor:
        """Return the tokens of training histories."""
        return super().history_tokens(history) if self.parts.token else self.tied_rows(history)

    @torch.no_grad()
    def all_tokens(self) -> Tensor:
        """Return the tokens of all items; those outside the core, which no history here has, are zero."""
        if self.parts.token:
            return super().all_tokens()
        rows = self.row_scale * self.item_matrix()
        return functional.pad(rows, (0, 0, 0, self.inputs.items - len(rows)))


def trained(project: common.Project, parts: Parts, epochs: int) -> np.ndarray:
    """Train one combination; return validation nDCG@10 after each epoch."""
    prepare_training(project.seed, torch.get_num_threads())
    model = PartlyMmeSid(project, parts)
    if project.settings.start == "settled" and parts.token:
        initialise_from_items(model, project.settings.token_scale)
    task = MmeSidTask(model, project.histories, project.settings)
    loop = project.settings.loop.model_copy(update={"epochs": epochs, "patience": 0})
    fitted = fit("mme_sid_parts", task, loop, seed=project.seed, device=pick_device())
    return np.array([row["valid_ndcg_at_10"] for row in fitted.curves])


def main() -> None:
    parser = common.benchmark_parser(__doc__, rounds=1)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    args = parser.parse_args()
    curves: dict[str, dict[str, Any]] = {}
    for parts in EVERY:
        for seed in args.seeds:
            curve = trained(common.load(args.run, args.threads, seed), parts, args.epochs)
            curves.setdefault(name_parts(parts), {})[str(seed)] = np.round(curve, 5).tolist()
            print(f"{name_parts(parts)}, seed {seed}: {curve.max():.4f} at epoch {curve.argmax() + 1}", flush=True)
    means = {name: round(fmean(max(curve) for curve in each.values()), 5) for name, each in curves.items()}
    ours, theirs = (means[name_parts(parts)] for parts in (EVERY[0], EVERY[-1]))
    name = name_of(args.run)
    width = common.load(args.run, args.threads).backbone.model.config.get_text_config().hidden_size
    write(
        f"mme_sid_parts/{name}",
        benchmark_record(
            f"MME-SID on {name}, {width} wide, {args.epochs} epochs, against SASRec as wide, and each step between",
            "nDCG@10 on validation",
            Measurement(ours, peak_memory_mb()),
            Measurement(theirs, None),
            higher_is_better=True,
            finding=f"mean of {len(args.seeds)} seed{'s' * (len(args.seeds) > 1)}: "
            + "; ".join(f"{combination} {mean:.4f}" for combination, mean in means.items()),
            command=f"python experiments/benchmarks/mme_sid_parts.py --run {name}=FOLDER "
            f"--epochs {args.epochs} --seeds {' '.join(map(str, args.seeds))}",
            **run_conditions(1, args.threads),
            means=means,
            curves=curves,
        ),
        args.dry,
        replace=args.replace,
    )


if __name__ == "__main__":
    main()
