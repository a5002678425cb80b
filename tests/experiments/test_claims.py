"""What the paper claims, beside what was found here."""

import json

import numpy as np
import polars as pl
import pytest
from experiments.runs import Run

from experiments import claims, paired, published, results
from sidflow.core.errors import InputError

FILE = """
sources: {paper: {title: "Paper, Table 1", url: "https://arxiv.org/abs/1"}}
protocols: {}
caveats: {}
figures: []
claims:
  gain: {what: more, published: "+10%", source: paper}
  live_dimensions: {what: alive, published: most, source: paper}
  forgetting: {what: kept, published: some, source: paper}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "FOLDER", tmp_path / "none")
    path = tmp_path / published.PUBLISHED_PATH
    path.parent.mkdir()
    path.write_text(FILE)
    claims.ABLATIONS_FOLDER.mkdir(parents=True)
    return path


def test_gains_are_those_over_the_best_baseline_at_five(file, monkeypatch):
    results.FOLDER.mkdir()
    (results.FOLDER / "tiny.json").write_text("{}")
    users = {"user_id": np.arange(40)}
    ranks = {"mme_sid.rank": np.full(40, 1), "ease.rank": np.full(40, 3), "sasrec.rank": np.full(40, 6)}
    run = Run({"preset": "tiny", "best_baseline": "ease"}, pl.DataFrame(users | ranks))
    monkeypatch.setattr(paired, "read_runs", lambda preset: [run])
    (ours,) = claims.results_beside_claims()
    assert (ours.claim.published, ours.subject) == ("+10%", "tiny, mme_sid over ease")
    assert ours.result == "+100.0%, +0.5000 [+0.5000, +0.5000]: shown"  # 1 against 1 / log2(3 + 1)


def test_dimensions_and_tau_come_from_the_kept_measurements(file):
    shares = {"MME-SID": [1.0], "rows": [0.25], "mapped": [0.375, 0.625]}
    forms = {name: [{"alive_share": share} for share in seeds] for name, seeds in shares.items()}
    claims.COLLAPSE_PATH.write_text(json.dumps({"per_seed": forms, "command": "collapse"}))
    whole, random = ({str(seed): {"tau_of_codes": tau + seed / 10} for seed in (0, 1)} for tau in (0.7, 0.1))
    for name, runs in {"a": {"whole": whole, "codebooks at random": random}, "b": {"whole": whole}}.items():
        (claims.ABLATIONS_FOLDER / f"{name}.json").write_text(
            json.dumps({"run": name, "runs": runs, "command": "ablate"})
        )
    assert [(ours.subject, ours.result, ours.command) for ours in claims.results_beside_claims()] == [
        ("MME-SID against rows", "100.0% [100.0%, 100.0%] against 25.0% [25.0%, 25.0%]", "collapse"),
        ("MME-SID against mapped", "100.0% [100.0%, 100.0%] against 50.0% [37.5%, 62.5%]", "collapse"),
        ("a", "0.7500 [0.7000, 0.8000] against 0.1500 [0.1000, 0.2000]", "ablate"),
    ]


def test_a_claim_without_a_source_is_one_line(file):
    file.write_text(FILE.replace("most, source: paper", "most, source: rumour"))
    with pytest.raises(InputError, match=r"claims\.live_dimensions.*rumour"):
        list(claims.results_beside_claims())


def test_without_claims_nothing_is_told(file):
    file.write_text(FILE[: FILE.index("claims:")])
    assert not list(claims.results_beside_claims())
