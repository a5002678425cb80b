"""Published figures on the same data sets, from experiments/published.yaml, beside our results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from sidflow.core import params
from sidflow.core.errors import InvalidValue
from sidflow.core.params import Params, read_yaml_mapping

PUBLISHED_PATH = Path("experiments/published.yaml")


class Source(Params):
    """A paper or page with figures."""

    title: str = Field(min_length=1)  # paper or page, and the table in it
    url: str = Field(pattern=r"^https://\S+$")


class PublishedFigure(Params):
    """The metrics that one source reports of one model on one data set."""

    preset: str
    model: str  # as the source calls it
    metrics: dict[str, float] = Field(min_length=1)  # by the names of experiments/results/presets, each from 0 to 1
    source: str  # a name under `sources`
    protocol: str = "leave_one_out"  # a name under `protocols`; figures of two are never in one table
    caveat: str | None = None  # a name under `caveats`: a difference to our data, or how the figure was obtained
    beside: tuple[str, ...] = Field(min_length=1)  # our recommenders; the first that has been measured is shown


class PublishedClaim(Params):
    """One claim of the MME-SID paper."""

    what: str = Field(min_length=1)
    published: str = Field(min_length=1)
    source: str  # a name under `sources`


class PublishedClaims(Params):
    """The claims that we check, each under its subject."""

    gain: PublishedClaim  # nDCG@5 over the best baseline
    live_dimensions: PublishedClaim  # of item tokens, against collaborative rows alone
    forgetting: PublishedClaim  # tau of code vectors after fine-tuning, codebooks of the quantizer against random ones


class Published(Params):
    """The content of experiments/published.yaml."""

    sources: dict[str, Source]
    protocols: dict[str, str]  # what is held out, and what is ranked
    caveats: dict[str, str]
    figures: tuple[PublishedFigure, ...]
    claims: PublishedClaims | None = None

    @model_validator(mode="after")
    def _check_names(self) -> Published:
        for figure in self.figures:
            names = (figure.source, self.sources), (figure.protocol, self.protocols), (figure.caveat, self.caveats)
            for name, valid in names:
                if name is not None and name not in valid:
                    raise InvalidValue(f"a name among {sorted(valid)} for {figure.model}", repr(name))
            if not all(0 <= value <= 1 for value in figure.metrics.values()):
                raise InvalidValue(f"metrics of {figure.model} from 0 to 1", str(figure.metrics))
        for name, claim in self.claims or ():
            if claim.source not in self.sources:
                raise InvalidValue(f"a name among {sorted(self.sources)} for claims.{name}", repr(claim.source))
        return self


class Measured(NamedTuple):
    """What one of our recommenders has in a metric."""

    recommender: str
    mean: float
    low: float
    high: float


class FigureResult(NamedTuple):
    """A published figure beside ours."""

    figure: PublishedFigure
    metric: str
    published: float
    ours: Measured | None  # None: not run
    source: Source
    protocol: str
    caveat: str


def read_published(path: Path = PUBLISHED_PATH) -> Published:
    """Return the content of experiments/published.yaml.

    Raises:
        InputError: the file is not valid.
    """
    return params.validate_params(read_yaml_mapping(path), Published, str(path), "correct the file")


def results_beside_figures(
    results: Mapping[str, Mapping[str, Any]], protocol: str = "leave_one_out"
) -> Iterator[FigureResult]:
    """Yield every published figure of a protocol beside ours, in the file's order.

    Args:
        results: `recommenders` of each preset's file of results, all of this protocol.
        protocol: a name under `protocols` of the file.

    Raises:
        InputError: experiments/published.yaml is not valid.
    """
    if not PUBLISHED_PATH.is_file():
        return
    content = read_published()
    for figure in content.figures:
        if figure.protocol != protocol:
            continue
        caveat = "" if figure.caveat is None else content.caveats[figure.caveat]
        for metric, value in figure.metrics.items():
            ours = _measured(results.get(figure.preset, {}), figure.beside, metric)
            source = content.sources[figure.source]
            yield FigureResult(figure, metric, value, ours, source, content.protocols[protocol], caveat)


def _measured(recommenders: Mapping[str, Any], beside: Sequence[str], metric: str) -> Measured | None:
    """Return the metric of the first recommender that is measured; None where it was not run, or has no such metric."""
    name = next((name for name in beside if name in recommenders), None)
    if name is None or metric not in recommenders[name]["metrics"]:
        return None
    value = recommenders[name]["metrics"][metric]
    return Measured(name, value["mean"], value["low"], value["high"])
