"""What others report on the same data sets: docs/published.yaml, checked, beside what docs/results holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from sidflow.contracts import params, yamls
from sidflow.contracts.complaints import InvalidValue
from sidflow.contracts.params import Params

PATH = Path("docs/published.yaml")


class Source(Params):
    """Where figures stand."""

    title: str = Field(min_length=1)  # paper or page, and the table in it
    url: str = Field(pattern=r"^https://\S+$")


class Figure(Params):
    """What one source reports of one model on one data set."""

    preset: str
    model: str  # as the source calls it
    metrics: dict[str, float] = Field(min_length=1)  # by the names of docs/results, each from 0 to 1
    source: str  # a name under `sources`
    caveat: str | None = None  # a name under `caveats`: what is not as in our protocol, or how the figure came here
    beside: tuple[str, ...] = Field(min_length=1)  # our recommenders; the first that has been measured is shown


class Claim(Params):
    """What the paper of MME-SID says of it."""

    what: str = Field(min_length=1)
    published: str = Field(min_length=1)
    source: str  # a name under `sources`


class Claims(Params):
    """The claims that ours stands beside, each by what it is about."""

    gain: Claim  # nDCG@5 over the best baseline
    live_dimensions: Claim  # of item tokens, against collaborative rows alone
    forgetting: Claim  # tau of code vectors after fine-tuning, codebooks of the quantizer against random ones


class Published(Params):
    """All of docs/published.yaml."""

    sources: dict[str, Source]
    caveats: dict[str, str]
    figures: tuple[Figure, ...]
    claims: Claims | None = None

    @model_validator(mode="after")
    def _names_are_known(self) -> Published:
        for figure in self.figures:
            for name, known in ((figure.source, self.sources), (figure.caveat, self.caveats)):
                if name is not None and name not in known:
                    raise InvalidValue(f"a name among {sorted(known)} for {figure.model}", repr(name))
            if not all(0 <= value <= 1 for value in figure.metrics.values()):
                raise InvalidValue(f"metrics of {figure.model} from 0 to 1", str(figure.metrics))
        for name, claim in self.claims or ():
            if claim.source not in self.sources:
                raise InvalidValue(f"a name among {sorted(self.sources)} for claims.{name}", repr(claim.source))
        return self


class Beside(NamedTuple):
    """A published figure beside ours."""

    figure: Figure
    metric: str
    published: float
    ours: str  # the recommender
    mean: float
    low: float
    high: float
    source: Source
    caveat: str


def read(path: Path = PATH) -> Published:
    """Return the file's content.

    Raises:
        InputError: it is not of its form.
    """
    return params.check(yamls.read_mapping(path), Published, str(path), "correct the file")


def beside(measured: Mapping[str, Mapping[str, Any]]) -> Iterator[Beside]:
    """Yield every published figure that one of our recommenders stands beside, by preset, in the file's order.

    Args:
        measured: of each preset, `recommenders` of its file in docs/results.

    Raises:
        InputError: docs/published.yaml is not of its form.
    """
    if not PATH.is_file():
        return
    content = read()
    for preset, recommenders in measured.items():
        for figure in content.figures:
            ours = next((name for name in figure.beside if name in recommenders), None)
            if figure.preset != preset or ours is None:
                continue
            for metric, value in figure.metrics.items():
                found = recommenders[ours]["metrics"].get(metric)
                if found is not None:
                    caveat = "" if figure.caveat is None else content.caveats[figure.caveat]
                    source = content.sources[figure.source]
                    bounds = (found["mean"], found["low"], found["high"])
                    yield Beside(figure, metric, value, ours, *bounds, source, caveat)
