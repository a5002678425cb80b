"""IDs of a fused vector, of two vectors side by side, and of two modalities joined: from vectors to a ranking."""

from pathlib import Path

import numpy as np
from ruamel.yaml import YAML
from tests.unit.generative.shop import COUNT, LOOP, SETTINGS
from tests.unit.sequential.cases import stage_main

from sidflow.artifacts.features import CONTENT_TABLE, EMBEDDING, read_item_rows
from sidflow.artifacts.recommenders import FACTORS
from sidflow.artifacts.semantic_ids import SEMANTIC_IDS
from sidflow.features.concat import concatenate
from sidflow.generative.serve import GenerativeRecommender
from sidflow.generative.vocabulary import IdParams, load_item_ids
from sidflow.ranking.rank import RankParams, rank_targets
from sidflow.sequences.histories import load_histories

VIEWS = ("view_text", "view_image")  # item 0 lacks the first, item 1 the second
TIGER = SETTINGS | {"loop": LOOP}
NO_GATE = dict.fromkeys(("least_code_usage", "most_collision_rate_distinct", "least_tau_triples"))


def trained(modalities, ids):
    """Return a recommender that generates `ids`: of modalities by {name: file of vectors}, quantized by k-means."""
    path = Path("params.yaml")
    content = YAML(typ="safe").load(path.read_text())
    content |= {
        "modality": {name: {"source": str(source)} for name, source in modalities.items()},
        "quantize": {"method": "rq-kmeans", "levels": 2, "codes": 4, "initialisation": "kmeans"},
        "assign": {"gate": NO_GATE, "reference": "none", "neighbours": 3, "triples": 100},
        "generate": {"tiger": TIGER | {"ids": {"modalities": ids}}},
        "recommenders": ["tiger"],
    }
    with path.open("w") as handle:
        YAML().dump(content, handle)
    for name in modalities:
        stage_main("modality")(name)
    stage_main("quantize")()
    stage_main("assign")()
    stage_main("generate")("tiger")
    return GenerativeRecommender("tiger")


def codes_of(modality):
    """The codes of every item, -1 where it has none."""
    codes = np.full((COUNT, 2), -1)
    rows = SEMANTIC_IDS.read().filter(modality=modality)
    codes[rows["item_id"].to_numpy()] = rows["codes"].to_numpy()
    return codes


def share_of_successors_first():
    ranking = rank_targets(FACTORS.read(model="tiger").arrays, load_histories(), COUNT, RankParams(negatives=5))
    return (ranking.rank == 1).mean()


def test_ids_of_what_dmesr_fused(shop):
    stage_main("train_multimodal")("dmesr_sasrec")
    recommender = trained({"fused": CONTENT_TABLE.at(model="dmesr_sasrec")}, ["fused"])
    assert recommender.ids.present.all()  # an item without one view has been fused of the others
    assert np.array_equal(recommender.ids.codes[:, :2], codes_of("fused"))
    assert share_of_successors_first() > 0.9


def test_ids_of_two_vectors_side_by_side(shop):
    rows = concatenate([read_item_rows(EMBEDDING.at(name=view)) for view in VIEWS], [1.0, 0.5])
    EMBEDDING.write({"values": rows.values, "present": rows.present}, {}, name="both")
    recommender = trained({"both": EMBEDDING.at(name="both")}, ["both"])
    assert np.array_equal(recommender.ids.codes[:, :2], codes_of("both"))
    assert share_of_successors_first() > 0.9


def test_ids_of_two_modalities_joined(shop):
    text, image = (EMBEDDING.at(name=view) for view in VIEWS)
    recommender = trained({"text": text, "image": image}, ["text", "image"])
    assert recommender.ids.vocabulary.sizes[:4] == (5, 5, 5, 5)  # a code of each level for what is absent
    both = np.concatenate([codes_of("text"), codes_of("image")], axis=1)
    assert both[0, :2].tolist() == both[1, 2:].tolist() == [-1, -1]
    assert np.array_equal(recommender.ids.codes[:, :4], np.where(both < 0, 4, both))
    assert share_of_successors_first() > 0.9
    counts = {"text": [4, 4], "image": [4, 4]}
    other = load_item_ids(COUNT, counts, IdParams(modalities=("image", "text"))).codes
    assert np.array_equal(other[:, :4], recommender.ids.codes[:, [2, 3, 0, 1]])
