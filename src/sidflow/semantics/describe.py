"""Writes the views of every item: by rules, or by a language model through the response store.

What a language model wrote is read from the store alone, after the missing responses were asked for. So the views are
a pure function of the store, the catalogue and params, whatever the order in which responses came.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

import polars as pl

from sidflow.artifacts.item_content import item_texts
from sidflow.core.errors import InputError
from sidflow.core.runtime import Runtime
from sidflow.core.stage import print_progress
from sidflow.models.params import NOT_STATED, ModelParams
from sidflow.semantics.answers import FAILURES, Answer, cut_response, read_answer, view_text
from sidflow.semantics.budget import Budget
from sidflow.semantics.params import DescribeParams, GenerationParams, RulesParams, View
from sidflow.semantics.requests import (
    READS_PICTURE,
    READS_WORDS,
    Prompt,
    Request,
    first_request,
    item_words,
    read_prompt,
    repeated_request,
    request_key,
)
from sidflow.semantics.rules import write_by_rules
from sidflow.semantics.store import REJECTED, Response, ResponseStore, open_store
from sidflow.semantics.writers import Writer, open_writer

PROGRESS_SECONDS = 10
MOST_REJECTIONS = 1000  # before any answer; so many are no longer of single requests
SCHEMA = {"item_id": pl.Int32, "view": pl.String, "text": pl.String, "writer": pl.String, "by_mllm": pl.Boolean}


class Described(NamedTuple):
    """The views of a catalogue, and how their writing went."""

    semantics: pl.DataFrame  # the `semantics` table
    report: dict[str, object]  # flat; reports/describe.json


def describe_items(items: pl.DataFrame, images: pl.DataFrame, params: DescribeParams, runtime: Runtime) -> Described:
    """Return the views that params ask for, of every item that has what a view reads.

    Args:
        items: the `items` table.
        images: the `images` table, a row per item with a picture.
        params: views and their writer.
        runtime: the server, the store, and limits of cost; they change no view.

    Raises:
        InputError: the writer cannot be used, a budget is spent, or too many answers cannot be used.
    """
    if isinstance(params.writer, RulesParams):
        rows = write_by_rules(items, images, params.views, params.writer)
        frame = pl.DataFrame(rows, schema={name: SCHEMA[name] for name in ("item_id", "view", "text")}, orient="row")
        frame = frame.with_columns(writer=pl.lit("rules"), by_mllm=pl.lit(False))
        report = _report(frame, items.height, params.views, {view: Tally() for view in params.views})
        return Described(frame, report | writer_record(params.writer, "rules"))
    with open_store(runtime.responses_path, read_only=params.writer.backend == "replay") as store:
        return _describe_by_model(items, images, params, params.writer, runtime, store)


class Tally:
    """Counts of one view's answers."""

    def __init__(self) -> None:
        self.requested = 0  # items
        self.repaired = 0
        self.asked_again = 0
        self.unusable: Counter[str] = Counter()  # answers by reason, those that were asked again included
        self.failures: Counter[str] = Counter()  # items by reason of the last answer
        self.empty: Counter[str] = Counter()  # usable answers that leave a field empty, by field
        self.input_tokens = 0
        self.output_tokens = 0


def _describe_by_model(
    items: pl.DataFrame,
    images: pl.DataFrame,
    params: DescribeParams,
    generation: GenerationParams,
    runtime: Runtime,
    store: ResponseStore,
) -> Described:
    prompts: dict[View, Prompt] = {view: read_prompt(generation.prompts[view], view) for view in params.views}
    tallies = {view: Tally() for view in params.views}
    rows: list[tuple[int, str, str]] = []
    with closing(open_writer(generation, runtime)) as writer:
        name = f"{writer.model}@{writer.revision}"
        if writer.asks and (runtime.token_budget is not None or runtime.cost_budget is not None):
            writer.budget = Budget(runtime, name, store.size(name))
        asking = _Asking(writer, store, generation)
        for chunk in items.iter_slices(writer.chunk_items):
            of_chunk = images.filter(pl.col("item_id").is_between(chunk["item_id"][0], chunk["item_id"][-1]))
            pictures = dict(of_chunk.select("item_id", "picture").iter_rows())
            requests = _requests(chunk, pictures, prompts, generation)
            following = items.height - 1 - chunk["item_id"][-1]
            for request, answer in asking.answers(requests, prompts, tallies, following / chunk.height):
                if not answer.failure:
                    rows.append((request.item_id, request.view, view_text(answer.fields, request.view)))
            print_progress(f"{chunk['item_id'][-1] + 1} of {items.height} items described")
    frame = pl.DataFrame(rows, schema={column: SCHEMA[column] for column in ("item_id", "view", "text")}, orient="row")
    frame = frame.with_columns(writer=pl.lit(name), by_mllm=pl.lit(True)).sort("item_id", "view")
    _check_failed_share(tallies, params.max_failed_share)
    report = _report(frame, items.height, params.views, tallies)
    return Described(frame, report | writer_record(generation, name))


def writer_record(writer: RulesParams | GenerationParams, name: str) -> dict[str, object]:
    """Return the report's entries on a writer: its name and revision, where it is from, and its licence.

    They come from params alone, so that every machine writes the same.

    Args:
        writer: its params.
        name: model and revision, as the views have them.
    """
    model = getattr(writer, "model", None)
    named = isinstance(model, ModelParams)
    origins = {"rules": "no model", "openai": "a server", "replay": "the response store"}
    return {
        "writer": name,
        "writer_backend": writer.backend,  # type: ignore[union-attr]  # every writer has one
        "writer_origin": model.origin if named else origins[writer.backend],  # type: ignore[union-attr]
        "writer_licence": (model.licence if named else "") or NOT_STATED,
    }


def _requests(
    items: pl.DataFrame, pictures: Mapping[int, bytes], prompts: Mapping[View, Prompt], generation: GenerationParams
) -> list[Request]:
    requests = []
    for item, text in zip(items["item_id"].to_list(), item_texts(items), strict=True):
        words, picture = item_words(text, generation.max_characters), pictures.get(item)
        for view, prompt in prompts.items():
            if (words or not READS_WORDS[view]) and (picture is not None or not READS_PICTURE[view]):
                requests.append(first_request(item, view, prompt, words, picture))
    return requests


class _Asking:
    """Answers of requests: from the store, and of what is missing there from the writer.

    A rejection may come from a limit of server or engine that another run has not, so that a stored one is asked again
    once in a run. Where everything is rejected the fault is in the settings, and nothing is kept.
    """

    def __init__(self, writer: Writer, store: ResponseStore, generation: GenerationParams) -> None:
        self._writer, self._store, self._generation = writer, store, generation
        self._progress = Progress(time.monotonic())
        self._answered = False  # anything but rejections, in this run or one before
        self._rejected: set[str] = set()  # keys that were rejected in this run

    def answers(
        self,
        requests: list[Request],
        prompts: Mapping[View, Prompt],
        tallies: Mapping[str, Tally],
        following: float = 0.0,
    ) -> Iterator[tuple[Request, Answer]]:
        """Yield each request with its last answer; what failed is asked again, up to `attempts` times.

        Args:
            requests: of a chunk of the catalogue.
            prompts: by view.
            tallies: by view; what comes back is counted there.
            following: how many chunks of this size are still to come, for the time left.
        """
        for request in requests:
            tallies[request.view].requested += 1
        for attempt in range(1, self._generation.attempts + 1):
            failed = []
            for request, response in self._responses(requests, following if attempt == 1 else None):
                tally = tallies[request.view]
                tally.input_tokens += response.input_tokens
                tally.output_tokens += response.output_tokens
                answer = read_answer(response, request.view, prompts[request.view].template)
                if answer.failure:
                    tally.unusable[answer.failure] += 1
                if answer.failure and attempt < self._generation.attempts and answer.failure != REJECTED:
                    tally.asked_again += 1
                    failed.append(repeated_request(request, FAILURES[answer.failure]))
                    continue
                tally.repaired += answer.repaired and not answer.failure
                if answer.failure:
                    tally.failures[answer.failure] += 1
                tally.empty.update(name for name, value in answer.fields.items() if not value)
                yield request, answer
            requests = failed

    def _responses(self, requests: list[Request], following: float | None) -> Iterator[tuple[Request, Response]]:
        """Yield the requests' responses; `following` as in `answers`, None where requests are asked once more."""
        keys = [
            request_key(request, self._writer.model, self._writer.revision, self._generation) for request in requests
        ]
        stored = self._store.get(keys)
        missing = self._asked(dict(zip(keys, requests, strict=True)), stored)
        repeated = self._progress.remaining + len(missing)
        self._progress.remaining = repeated if following is None else len(missing) * (1 + following)
        held: list[Response] = []  # rejections, until an answer has come
        for written in self._writer.respond(missing):
            held += [cut_response(response) for response in written]
            self._answered = self._answered or any(response.finish_reason != REJECTED for response in written)
            if self._answered or len(held) >= MOST_REJECTIONS:
                stored |= self._kept(held)
                held = []
            line = self._progress.line(len(written), time.monotonic())
            if line:
                print_progress(line)
        stored |= self._kept(held)
        for key, request in zip(keys, requests, strict=True):
            yield request, stored[key]

    def _asked(self, requests: Mapping[str, Request], stored: Mapping[str, Response]) -> dict[str, Request]:
        """Return the requests that have no response, or a rejection that this run has not met.

        Raises:
            InputError: a budget is spent, and some have no response.
        """
        missing = {key: request for key, request in requests.items() if key not in stored}
        if (spent := self._writer.spent_budget()) is not None:
            if missing:
                raise spent
            return {}
        if not self._writer.asks:
            return missing
        rejected = {key for key, response in stored.items() if response.finish_reason == REJECTED} - self._rejected
        return {key: request for key, request in requests.items() if key in missing or key in rejected}

    def _kept(self, responses: list[Response]) -> dict[str, Response]:
        """Keep responses; return what the store has of their keys, which may be another run's.

        Raises:
            InputError: all are rejections, and the model has answered nothing yet, nor in any run before.
        """
        if not responses:
            return {}
        name = f"{self._writer.model}@{self._writer.revision}"
        self._answered = self._answered or self._store.has_answer(name)
        if not self._answered:
            raise InputError(
                f"answers of {name}",
                expected="an answer to some of the requests",
                found=f"nothing but rejections: {responses[0].text}",
                count=len(responses),
                remedy="check the model, and server or engines; json_schema: false where they take no schema",
            )
        self._store.add(responses)
        self._rejected.update(response.key for response in responses if response.finish_reason == REJECTED)
        return self._store.get([response.key for response in responses])


class Progress:
    """How fast answers come, and how long the rest may take.

    >>> progress = Progress(now=0.0)
    >>> progress.remaining = 1200
    >>> progress.line(100, now=50.0)
    '100 answers, 2.0 a second, about 9 min left'
    >>> progress.line(1000, now=550.0)
    '1100 answers, 2.0 a second, about 50 s left'
    """

    def __init__(self, now: float) -> None:
        self.remaining = 0.0  # answers that are still to come
        self._asked, self._printed, self._started = 0, now, now

    def line(self, count: int, now: float) -> str:
        """Return what is printed after `count` more answers, or nothing soon after the last line.

        Args:
            count: answers that have just come.
            now: seconds.
        """
        self._asked += count
        self.remaining = max(0.0, self.remaining - count)
        if now - self._printed < PROGRESS_SECONDS:
            return ""
        self._printed = now
        rate = self._asked / (now - self._started)
        seconds = self.remaining / rate
        left = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
        left = f"{seconds / 3600:.0f} h" if seconds >= 7200 else left
        return f"{self._asked} answers, {rate:.1f} a second, about {left} left"


def _check_failed_share(tallies: Mapping[str, Tally], max_failed_share: float) -> None:
    """Raise where too many answers of a view cannot be used."""
    for view, tally in tallies.items():
        failed = sum(tally.failures.values())
        if failed > max_failed_share * tally.requested:
            reasons = ", ".join(f"{count} {FAILURES[name]}" for name, count in tally.failures.most_common())
            raise InputError(
                f"answers for the {view} view",
                expected=f"at most {max_failed_share:.0%} that cannot be used",
                found=f"{failed} of {tally.requested}: {reasons}",
                remedy="change the prompt or the model, or raise describe.max_failed_share; the answers are kept",
            )


def _report(
    frame: pl.DataFrame, item_count: int, views: Sequence[str], tallies: Mapping[str, Tally]
) -> dict[str, object]:
    """Return the flat report: counts of each view, and how alike its texts are."""
    report: dict[str, object] = {"items": item_count, "by_mllm": bool(frame["by_mllm"].any())}
    for view in views:
        texts, tally = frame.filter(pl.col("view") == view)["text"], tallies[view]
        report |= {
            f"{view}_views": texts.len(),
            f"{view}_share": texts.len() / item_count if item_count else 0.0,
            f"{view}_words": float(texts.str.split(" ").list.len().mean() or 0.0),  # type: ignore[arg-type]
            f"{view}_most_words": int(texts.str.split(" ").list.len().max() or 0),  # type: ignore[arg-type]
            f"{view}_distinct_share": texts.n_unique() / texts.len() if texts.len() else 0.0,
            f"{view}_repeated": int(texts.is_duplicated().sum()),
            f"{view}_failed": sum(tally.failures.values()),
            f"{view}_repaired": tally.repaired,
            f"{view}_asked_again": tally.asked_again,
        }
        report |= {f"{view}_unusable_{name}": count for name, count in sorted(tally.unusable.items())}
        report |= {f"{view}_failed_{name}": count for name, count in sorted(tally.failures.items())}
        report |= {f"{view}_empty_{name}": count for name, count in sorted(tally.empty.items())}
        report |= {f"{view}_input_tokens": tally.input_tokens, f"{view}_output_tokens": tally.output_tokens}
    report["input_tokens"] = sum(tally.input_tokens for tally in tallies.values())
    report["output_tokens"] = sum(tally.output_tokens for tally in tallies.values())
    return report
