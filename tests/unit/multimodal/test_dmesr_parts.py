"""DMESR's parts, each by its equations, on every base model."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from tests.unit.multimodal.test_dmesr import D, N, content_of, fused, units
from tests.unit.sequential.cases import CYCLE, quick, scores_of, stage_main

from sidflow.artifacts.features import CONTENT_TABLE, EMBEDDING, ITEM_TABLE, MODALITY, UNITS, ItemRows
from sidflow.core import params
from sidflow.core.errors import InputError
from sidflow.multimodal import dmesr
from sidflow.multimodal.dmesr import Content, DmesrItemEmbedding, DmesrParams
from sidflow.multimodal.features import FeatureItemEmbedding, FeaturesParams
from sidflow.multimodal.fit import item_maker, multimodal_params
from sidflow.sequences.histories import Histories, load_histories
from sidflow.sequential.fit import NextItemTask, answer_queries
from sidflow.sequential.model import IdEmbedding, SequenceModel
from sidflow.sequential.params import from_content

BASES = ("sasrec", "gru4rec", "bert4rec")
NOTHING = range(N)
WINDOWS = (torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0]]), torch.tensor([4, 3]))


def model_of(base, items, **more):
    settings = from_content({"dimensions": D, "dropout": 0.0, "item_dropout": 0.0, **more}, base, "test")
    torch.manual_seed(1)
    return SequenceModel(settings, items, torch.ones(N))


def losses_of(model):
    torch.manual_seed(2)  # of masks and negatives
    return model(*WINDOWS)


def test_alignment_by_hand():
    """Two items at temperature 1/2: cosines of texts with pictures are [[1, 0.6], [0, 0.8]]. Two more are opposite."""
    text, image = (np.array(rows, dtype=np.float32) for rows in ([[2, 0], [0, 1]], [[1, 0], [3, 4]]))
    content = {
        name: ItemRows(np.concatenate([rows, -rows]), np.ones(4, dtype=bool))
        for name, rows in {"text": text, "image": image}.items()
    }
    settings = DmesrParams(temperature=0.5, alignment_weight=0.7, heads=1)
    items = DmesrItemEmbedding(Content(content, None), 4, 2, 0.1, settings)
    for name in ("text", "image"):
        torch.nn.init.eye_(items.project[name].weight)
        torch.nn.init.zeros_(items.project[name].bias)
    weight, loss = items.auxiliary(lambda: torch.arange(2))["align"]
    texts = (math.log(1 + math.exp(-0.8)) + math.log(1 + math.exp(-1.6))) / 2
    pictures = (math.log(1 + math.exp(-2.0)) + math.log(1 + math.exp(-0.4))) / 2
    assert weight == 0.7
    assert float(loss.detach()) == pytest.approx((texts + pictures) / 2, rel=1e-6)


def test_an_absent_unit_or_view_has_no_influence_by_gradient():
    items = fused(content_of(text=[2], joint=[2, 4], fine=[5]))
    names = ("text", "image", "joint", "fine")
    values = [items.get_buffer(f"rows.{name}.values").requires_grad_() for name in names]
    ids = torch.tensor([1, 2, 4, 5, 6])
    gradients = torch.autograd.grad(items(ids).square().sum(), values)
    for name, gradient in zip(names, gradients, strict=True):
        read = items.get_buffer(f"rows.{name}.present").clone()
        read[[item for item in range(N) if item not in ids.tolist()]] = False
        assert gradient[read].abs().amax(1).min() > 0
        assert not gradient[~read].any()


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("mode", ["add", "concat"])
@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_items_without_content_are_as_in_the_base_model(base, mode, loss):
    """Losses and gradients are those of the base model; with `concat` at the start, when W0 is the identity."""
    items = fused(content_of(text=NOTHING, image=NOTHING, joint=NOTHING, fine=NOTHING), mode=mode)
    free = IdEmbedding(N, D)
    free.weight.data.copy_(items.weight)
    model, plain = (model_of(base, module, loss=loss, negatives=4) for module in (items, free))
    ours, theirs = losses_of(model), losses_of(plain)
    torch.testing.assert_close(ours["rank"], theirs["loss"])
    ours["rank"].backward()
    theirs["loss"].backward()
    torch.testing.assert_close(items.weight.grad, free.weight.grad)
    for name, parameter in plain.encoder.named_parameters():
        torch.testing.assert_close(dict(model.encoder.named_parameters())[name].grad, parameter.grad)


@pytest.mark.parametrize("fusion", ["views", "units"])
def test_one_direction_off_is_the_equation_without_it(fusion):
    whole, ids = fused(content_of(text=[1], fine=[2])), torch.arange(N)
    one = fused(content_of(text=[1], fine=[2]), fusion=fusion)
    one.load_state_dict({name: whole.state_dict()[name] for name in one.state_dict()})
    assert len(one.state_dict()) < len(whole.state_dict())
    coarse, fine = whole._coarse_vectors(ids), whole._fine_vectors(ids)
    alone = whole.view_side(*coarse, *fine) if fusion == "views" else whole.unit_side(*fine, *coarse)
    torch.testing.assert_close(one(), whole.weight + alone)


def test_no_fusion_reads_each_side_alone():
    items, ids = fused(content_of(text=[1], fine=[2]), fusion="none"), torch.arange(N)
    expected = items.weight.clone()
    for vectors, side in (
        (items._coarse_vectors(ids), items.view_side),
        (items._fine_vectors(ids), items.unit_side),
    ):
        for item in ids.tolist():
            own = vectors[0][item][vectors[1][item]]
            if len(own):
                expected[item] = expected[item] + side.out((side.fused.norm(own).mean(0) - side.mean) / D**0.5)
    torch.testing.assert_close(items(), expected)


def test_concat_is_a_linear_map_of_the_parts_side_by_side():
    items = fused(content_of(), mode="concat")
    torch.nn.init.normal_(items.out_free.weight)
    coarse, fine = items._coarse_vectors(torch.arange(N)), items._fine_vectors(torch.arange(N))
    sides = (items.view_side, (*coarse, *fine)), (items.unit_side, (*fine, *coarse))
    centred = [side.fused(*vectors) - side.mean * vectors[1].any(1, keepdim=True) for side, vectors in sides]
    parts = torch.cat([items.weight, *(part / D**0.5 for part in centred)], 1)
    together = torch.cat([items.out_free.weight, items.view_side.out.weight, items.unit_side.out.weight], 1)
    torch.testing.assert_close(items(), parts @ together.T)


def test_scale_is_that_of_both_maps_at_the_start():
    one, small = fused(content_of()), fused(content_of(), scale=0.25)
    for name in ("view_side", "unit_side"):
        torch.testing.assert_close(getattr(small, name).out.weight, 0.25 * getattr(one, name).out.weight)


@pytest.mark.parametrize("fusion", ["both", "none"])
def test_what_all_items_have_in_common_is_taken_off_at_the_start(fusion):
    items = fused(content_of(text=[1], image=[1], joint=[1], fine=[2]), fusion=fusion)
    coarse, fine = items._coarse_vectors(torch.arange(N)), items._fine_vectors(torch.arange(N))
    for side, vectors in ((items.view_side, (*coarse, *fine)), (items.unit_side, (*fine, *coarse))):
        brought = side(*vectors)
        has_side = vectors[1].any(1)
        assert has_side.any() and not has_side.all()
        torch.testing.assert_close(brought[has_side].mean(0), torch.zeros(brought.shape[1]), atol=1e-6, rtol=0)
        assert not brought[~has_side].any(), "an item without this side gets nothing, no negative mean either"
        assert side.fused.training is False and items.train().view_side.fused.training, "training goes on with dropout"
        items.eval()


@pytest.mark.parametrize("names", [("text",), ("image", "joint"), ("fine",), ("joint", "fine"), ("text", "image")])
def test_any_part_of_the_content_may_be_all_that_is_read(shop, names):
    fields = {"text": "text_view", "image": "image_view", "joint": "joint_view", "fine": "fine"}
    settings = DmesrParams(**{field: None for name, field in fields.items() if name not in names})
    params_of = {"kind": "dmesr", "model": quick(), **settings.model_dump(include=set(fields.values()))}
    chosen, base = multimodal_params(params_of, "params.yaml:x")
    items = item_maker(chosen, base, CYCLE + 1)()
    assert [*items.views, *(["fine"] if items.has_units else [])] == list(names)
    assert bool(items.auxiliary(lambda: torch.arange(5))) == ("text" in names and "image" in names)
    assert (items() - items.weight).detach().any(1).sum() >= CYCLE - 1


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"text_view": None, "image_view": None, "joint_view": None, "fine": None}, "to name an embedding"),
        ({"text_view": None, "image_view": None, "joint_view": None, "fusion": "views"}, "a view with `fusion: views`"),
        ({"fine": None, "fusion": "units"}, "`fine` with `fusion: units`"),
    ],
)
def test_parts_that_leave_nothing_are_refused(wrong, expected):
    with pytest.raises(InputError, match=expected):
        params.validate_params(wrong, DmesrParams, "params.yaml:train_multimodal.x")


@pytest.mark.parametrize("base", BASES)
def test_a_sampled_step_fuses_the_items_of_its_batch_alone(base, monkeypatch):
    model, ids = model_of(base, fused(content_of()), loss="sampled", negatives=2), []
    fuse = model.items.fuse
    monkeypatch.setattr(model.items, "fuse", lambda some: ids.append(some.tolist()) or fuse(some))
    losses_of(model)["loss"].backward()
    assert len(ids) == 1 and len(ids[0]) == len(set(ids[0])) <= 10
    assert set(ids[0]) <= {0, *range(1, 8)} | set(model.items.weight.grad.any(1).nonzero()[:, 0].tolist())
    with torch.no_grad():
        assert torch.equal(model.eval().items(), model.items())
    assert sorted(ids[1]) == list(range(N))


@pytest.mark.parametrize("base", BASES)
def test_an_evaluation_fuses_the_catalogue_once(base, monkeypatch):
    """That of the validation queries after an epoch, and that of all queries at the end."""
    model = model_of(base, fused(content_of()), max_length=3)
    items = np.arange(4 * N, dtype=np.int32) % N  # four users who walk through all items
    users, ends = np.repeat(np.arange(4), 2), np.tile([N - 2, N - 1], 4)
    histories = Histories(
        items, N * np.arange(5), np.full(4, N - 2), users, ends, ends == N - 2, items[users * N + ends]
    )
    task = NextItemTask(model, histories, N)
    forwards, fused_ids = [], []
    forward, fuse = DmesrItemEmbedding.forward, DmesrItemEmbedding.fuse
    monkeypatch.setattr(
        DmesrItemEmbedding, "forward", lambda self, ids=None: forwards.append(ids) or forward(self, ids)
    )
    monkeypatch.setattr(DmesrItemEmbedding, "fuse", lambda self, ids: fused_ids.extend(ids.tolist()) or fuse(self, ids))
    with torch.no_grad():
        states, rows = task.validation_factors()
    assert (states.shape, rows.shape) == ((4, D), (N, D))
    assert (forwards, fused_ids) == ([None], list(range(N)))
    forwards.clear()
    fused_ids.clear()
    answers = answer_queries(model, histories)
    assert (answers.states.shape, answers.matrix.shape) == ((8, D), (N, D))
    assert (forwards, fused_ids) == ([None], list(range(N)))


def test_no_more_items_are_aligned_than_said(monkeypatch):
    """Different ones each time, of those of the batch that have both views; fewer are taken as they are."""
    text = ItemRows(np.eye(N, dtype=np.float32), np.arange(N) != 9)
    image = ItemRows(np.eye(N, dtype=np.float32), np.ones(N, dtype=bool))
    settings = DmesrParams(alignment_items=3, heads=1)
    items = DmesrItemEmbedding(Content({"text": text, "image": image}, None), N, N, 0.1, settings)
    for name in ("text", "image"):
        torch.nn.init.eye_(items.project[name].weight)
        torch.nn.init.zeros_(items.project[name].bias)
    aligned = []
    monkeypatch.setattr(dmesr, "info_nce", lambda a, b, temperature: aligned.append((a.argmax(1), b.argmax(1))))
    torch.manual_seed(0)
    for _ in range(20):
        items.auxiliary(lambda: torch.tensor([1, 3, 4, 6, 7, 9]))
    assert all(torch.equal(texts, images) and len(set(texts.tolist())) == 3 for texts, images in aligned)
    assert {item for texts, _ in aligned for item in texts.tolist()} == {1, 3, 4, 6, 7}
    items.auxiliary(lambda: torch.tensor([1, 3, 9]))
    assert sorted(aligned[-1][0].tolist()) == [1, 3]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("more", [{}, {"mode": "replace"}, {"mode": "concat"}, {"fusion": "none"}, {"fusion": "views"}])
def test_every_weight_learns_on_every_base(base, more):
    model = model_of(base, fused(content_of(text=[1], image=[2], fine=[3]), **more), loss="sampled", negatives=4)
    losses_of(model)["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.items.parameters())


def test_what_content_brings_is_told_for_every_item_that_has_some():
    items = fused(content_of(text=[3], image=[3], joint=[3], fine=[3]), mode="concat")
    values, present = items.content()
    torch.testing.assert_close(items.weight + values, items())  # W0 is the identity at the start
    assert (~present).nonzero()[:, 0].tolist() == [3] and not values[3].any() and not values.requires_grad
    assert fused(Content({}, None)).content() is None
    bare = {"text": [3], "image": [3], "joint": [3]}  # what an item has on the other side alone brings nothing
    for absent, fusion in ((bare, "views"), ({"fine": [3]}, "units")):
        values, present = fused(content_of(**absent), fusion=fusion).content()
        assert (~present).nonzero()[:, 0].tolist() == [3] and not values[3].any()
    assert fused(Content({}, units()), fusion="views").content() is None
    view = content_of(text=[3, 4]).views["text"]
    featured = FeatureItemEmbedding({"text": view}, N, D, 0.5, FeaturesParams()).eval()
    values, present = featured.content()
    torch.testing.assert_close(featured.weight + values, featured())
    assert present.tolist() == view.present.tolist()
    assert FeatureItemEmbedding({}, N, D, 0.5, FeaturesParams()).content() is None
    assert IdEmbedding(N, D).content() is None


def _write_params(section):
    content = {"preset": "test", "seed": 3, "threads": 1, "rank": {"exclude_history": True}, **section}
    with Path("params.yaml").open("w") as handle:
        YAML().dump(content, handle)


@pytest.mark.parametrize("base", BASES)
def test_replace_recommends_a_cold_item_that_the_base_model_cannot(shop, base):
    """Nobody has had the last item, whose content is that of item 3."""
    rng = np.random.default_rng(0)
    files = [(EMBEDDING, f"view_{view}") for view in ("text", "image", "joint")] + [(UNITS, "fine_text")]
    for file, name in files:
        arrays = file.read(name=name).arrays
        values, present = arrays["values"].copy(), np.ones_like(arrays["present"])
        values[:] = rng.normal(size=values.shape)
        values[CYCLE] = values[3]
        file.write({"values": values, "present": present}, {}, name=name)
    loop = {"epochs": 30 if base == "bert4rec" else 15, "patience": 0, "learning_rate": 0.01}
    model = quick(loop=loop | {"schedule": "cosine"})
    dmesr = {"kind": "dmesr", "base": base, "mode": "replace", "dropout": 0.0, "model": model}
    _write_params({"train_sequential": {base: model}, "train_multimodal": {"dmesr_replace": dmesr}})
    stage_main("train_sequential")(base)
    stage_main("train_multimodal")("dmesr_replace")
    known = load_histories()
    after_2 = [query for query in range(known.query_count) if known.history(query)[-1] == 2]
    assert len(after_2) >= 3
    seen = known.seen(CYCLE + 1).toarray()[after_2]
    ranks = {}
    for name in (base, "dmesr_replace"):
        scores = np.where(seen, -np.inf, scores_of(name)[after_2])
        ranks[name] = (scores > scores[:, [CYCLE]]).sum(1) + 1
    assert (ranks["dmesr_replace"] <= 2).all()  # beside item 3 itself
    assert (ranks[base] > 2).all()
    cold = CONTENT_TABLE.read(model="dmesr_replace").arrays
    assert cold["present"][CYCLE] and not ITEM_TABLE.read(model="dmesr_replace").arrays["present"][CYCLE]


def test_a_modality_can_be_made_of_what_dmesr_fused(shop):
    model = quick(loop={"epochs": 1, "patience": 0, "learning_rate": 0.01})
    source = "artifacts/recommenders/dmesr_x/content.safetensors"
    _write_params(
        {
            "train_multimodal": {"dmesr_x": {"kind": "dmesr", "model": model}},
            "modality": {"fused": {"source": source, "normalise": "none"}},
        }
    )
    stage_main("train_multimodal")("dmesr_x")
    stage_main("modality")("fused")
    made, fused_items = MODALITY.read(name="fused").arrays, CONTENT_TABLE.read(model="dmesr_x").arrays
    assert made["present"].all() and made["values"].shape == (CYCLE + 1, 16)
    assert np.array_equal(made["values"], fused_items["values"])
