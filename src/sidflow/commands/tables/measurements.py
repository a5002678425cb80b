"""Tables of benchmarks/results: speed and memory, quantizers, settings, and what each part of MME-SID is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sidflow.commands import claims
from sidflow.commands.tables import markdown
from sidflow.contracts.documents import Document

FOLDER = Path("benchmarks/results")


def benchmarks() -> str:
    """Return the benchmarks, one row each; a ratio above 1 means that ours is better."""
    found = [Document(str(path)).read() for path in sorted(FOLDER.glob("*.json"))]
    return markdown.table(
        ["claim", "ours", "theirs", "ratio", "peak memory ours / theirs", "command"],
        [
            [
                one["claim"],
                f"{markdown.number(one['ours'])} {one['unit']}",
                "" if one.get("theirs") is None else f"{markdown.number(one['theirs'])} {one['unit']}",
                "" if one.get("ratio") is None else f"{one['ratio']:.2f}",
                " / ".join(
                    "-" if one.get(name) is None else f"{one[name]:,.0f} MB"
                    for name in ("peak_memory_ours", "peak_memory_theirs")
                ),
                f"`{one['command']}`",
            ]
            for one in found
        ],
    )


def findings() -> str:
    """Return what each benchmark found, in a sentence, and under which conditions."""
    parts = []
    for path in sorted(FOLDER.glob("*.json")):
        one = Document(str(path)).read()
        busy = f", load average {one['load_average']}" if "load_average" in one else ""
        told = f" {one['finding']}." if "finding" in one else ""
        parts.append(f"- **{one['claim']}.**{told} {one['machine']}{busy}, code `{one['commit']}` (`{path}`)")
    return "\n".join(parts)


def quantizers() -> str:
    """Return the audits of all methods of semantic IDs, one row per run, modality and method."""
    found = [Document(str(path)).read() for path in sorted((FOLDER / "quantizer").glob("*.json"))]
    rows = []
    for one in found:
        for row in one["rows"]:
            collisions, every = row.get("collisions"), row.get("collisions_all")
            told = f"{100 * every:.2f}% of all" if collisions is None else f"{100 * collisions:.2f}%"
            rows.append(
                [
                    "" if one["run"] == "published" else one["run"],
                    row["modality"],
                    row["method"],
                    f"{row['items']:,.0f}",
                    row["codes"],
                    f"{100 * row['usage']:.1f}%",
                    told,
                    *(f"{row[name]:.4f}" if name in row else "" for name in ("recall", "tau", "tau_triples", "error")),
                    str(row.get("seeds", "")),
                ]
            )
    head = ["run", "modality", "method", "items", "codes", "lowest code usage", "collisions", "recall@10 of neighbours"]
    return markdown.table([*head, "tau", "tau over triples", "reconstruction error", "seeds"], rows)


def ablations() -> str:
    """Return what each part of MME-SID is worth, one row per preset and part that is taken away."""
    rows = [
        [
            one["run"],
            row["row"],
            f"{row['mean']:.4f}",
            markdown.difference(row["difference"], row["low"], row["high"]) if "difference" in row else "",
            markdown.optional(row.get("detectable"), 4),
            *(markdown.optional(row[name], digits) for name, digits in (("effective_rank", 1), ("alive_share", 2))),
            markdown.optional(row["tau_of_codes"], 4),
            str(row["seeds"]),
        ]
        for one in (Document(str(path)).read() for path in sorted(claims.ABLATIONS.glob("*.json")))
        for row in one["rows"]
    ]
    head = ["run", "MME-SID", "nDCG@10", "less the whole, 95% interval", "smallest detectable"]
    return markdown.table(
        [*head, "effective rank of item tokens", "live dimensions", "tau of code vectors", "seeds"], rows
    )


def settings() -> str:
    """Return what validation says of each trained recommender's setting and its neighbours, one row per knob."""
    rows = []
    for path in sorted((FOLDER / "settings").glob("*.json")):
        one = Document(str(path)).read()
        standing = {row["model"]: row["valid_ndcg_at_10"] for row in one["rows"] if row["knob"] is None}
        tried: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in one["rows"]:
            if row["knob"] is not None:
                tried.setdefault((row["model"], row["knob"]), []).append(row)
        for (model, knob), each in tried.items():
            stands = each[0]["standing"]
            found = {row["value"]: row["valid_ndcg_at_10"] for row in each} | {stands: standing[model]}
            lower, higher = ([value for value in found if (value - stands) * way > 0] for way in (-1, 1))
            rows.append([one["run"], model, knob, *(_settings(found, part) for part in (lower, [stands], higher))])
    return markdown.table(["run", "recommender", "knob", "lower", "as it stands", "higher"], rows)


def _settings(found: dict[float, float], values: list[float]) -> str:
    best = max(found.values())
    told = {value: f"{value:g}: {found[value]:.4f}" for value in values}
    return ", ".join(f"**{text}**" if found[value] == best else text for value, text in told.items())
