"""DMESR's item vectors: what is missing is missing, what is there is used."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from sidflow.artifacts.features import EMBEDDING, UNITS, ItemRows
from sidflow.core.errors import InputError
from sidflow.multimodal.cross_attention import CrossAttention
from sidflow.multimodal.dmesr import Content, DmesrItemEmbedding, DmesrParams, Units, read_content
from sidflow.sequential.model import SequenceModel
from sidflow.sequential.params import from_content

N, D = 10, 8


def view(missing=(), width=5, seed=0):
    present = np.ones(N, dtype=bool)
    present[list(missing)] = False
    values = np.random.default_rng(seed).normal(size=(N, width)).astype(np.float32)
    return ItemRows(values * present[:, None], present)


def units(missing=()):
    present = np.random.default_rng(4).random((N, 3)) < 0.7
    present[:, 0] = True
    present[list(missing)] = False
    values = np.random.default_rng(5).normal(size=(N, 3, 6)).astype(np.float32)
    return Units(values * present[..., None], present)


def content_of(text=(), image=(), joint=(), fine=()):
    views = {"text": view(text, seed=1), "image": view(image, 4, seed=2), "joint": view(joint, seed=3)}
    return Content(views, units(fine))


def fused(held, **settings):
    torch.manual_seed(0)
    items = attending(DmesrItemEmbedding(held, N, D, 0.5, DmesrParams(**settings)).eval())
    items._centre()
    return items.eval()


def attending(module):
    """Draw the weights that make attention start at zero."""
    for cross in module.modules():
        if isinstance(cross, CrossAttention):
            cross.o_proj.reset_parameters()
    return module


@pytest.mark.parametrize(("own_vectors", "other_vectors"), [(2, 3), (3, 2), (1, 8), (8, 1), (2, 2)])
def test_cross_attention_is_that_of_the_textbook(own_vectors, other_vectors):
    """On whichever side the weights are multiplied: softmax(q k / sqrt(w)) v over the present vectors, head by head."""
    torch.manual_seed(0)
    cross = attending(CrossAttention(8, 2, 0.0).eval())
    own, other = torch.randn(5, own_vectors, 8), torch.randn(5, other_vectors, 8)
    other_there = torch.rand(5, other_vectors) < 0.6
    other_there[:4, 0], other_there[4] = True, False  # the last item has nothing to attend to
    heads = [
        part.unflatten(2, (2, 4)).transpose(1, 2)
        for part in (cross.q_proj(own), cross.k_proj(other), cross.v_proj(other))
    ]
    mask = other_there | ~other_there.any(1, keepdim=True)
    attended = functional.scaled_dot_product_attention(*heads, attn_mask=mask[:, None, None])
    attended = cross.o_proj(attended.transpose(1, 2).flatten(2)) * other_there.any(1)[:, None, None]
    answer = cross(own, torch.ones(5, own_vectors, dtype=torch.bool), other, other_there)
    torch.testing.assert_close(answer, cross.norm(own + attended).mean(1))


def test_attention_starts_at_zero():
    torch.manual_seed(0)
    cross = CrossAttention(8, 2, 0.0)
    own, other = torch.randn(5, 2, 8), torch.randn(5, 3, 8)
    there = torch.ones(5, 3, dtype=torch.bool)
    torch.testing.assert_close(cross(own, there[:, :2], other, there), cross.norm(own).mean(1))
    cross(own, there[:, :2], other, there).square().sum().backward()
    assert cross.o_proj.weight.grad.any()  # and learns from the first step on


def test_two_heads_attend_apart_by_hand():
    """Two vectors ask, q = (1, 1) and (0, 0) in either head, and two answer; values are 4 times the vector.

    Scores are q . k / sqrt(2). Keys of the first head are (0, 0) and (ln 3 / sqrt 2, ln 3 / sqrt 2): the first vector
    weighs 1/4 and 3/4, the second 1/2 and 1/2. Keys of the second head are zero: 1/2 and 1/2.
    """
    cross = CrossAttention(4, 2, 0.0).eval()
    for layer in (cross.q_proj, cross.k_proj, cross.v_proj, cross.o_proj):
        torch.nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            torch.nn.init.zeros_(layer.bias)
    with torch.no_grad():
        cross.q_proj.weight[:, 0] = 0.1
        cross.k_proj.weight[:2, 0] = math.log(3) / math.sqrt(2)  # keys of the first head
        cross.v_proj.weight[:] = 4 * torch.eye(4)
        cross.o_proj.weight[:] = torch.eye(4)
    cross.norm = torch.nn.Identity()
    own = torch.tensor([[[10.0, 20.0, 30.0, 40.0], [0.0, 40.0, 60.0, 80.0]]])
    other = torch.tensor([[[0.0, 1.0, 2.0, 3.0], [1.0, 5.0, 6.0, 7.0]]])
    there = torch.ones(1, 2, dtype=torch.bool)
    first = [10 + 4 * 3 / 4, 20 + 4 * (1 / 4 + 15 / 4), 30 + 4 * 4, 40 + 4 * 5]
    second = [4 * 1 / 2, 40 + 4 * 3, 60 + 4 * 4, 80 + 4 * 5]
    torch.testing.assert_close(cross(own, there, other, there), torch.tensor([first, second]).mean(0, keepdim=True))


def test_an_item_without_anything_is_its_free_vector():
    items = fused(content_of(text=[3], image=[3], joint=[3], fine=[3]))
    assert torch.equal(items()[3], items.weight[3])
    assert (items() - items.weight).abs().amax(1).ne(0).sum() == N - 1


def test_replace_leaves_it_zero():
    items = fused(content_of(text=[3], image=[3], joint=[3], fine=[3]), mode="replace")
    assert not items()[3].any() and items()[2].any()
    assert "weight" not in dict(items.named_parameters())


@pytest.mark.parametrize("missing", ["text", "image", "joint", "fine"])
def test_what_is_absent_is_not_read(missing):
    """Whatever stands in an absent row, vectors and gradients stay finite and the same."""
    held = content_of(**{missing: [2, 5]})
    items = fused(held)
    before = items()
    buffer = items.get_buffer(f"rows.{missing}.values")
    buffer[~items.get_buffer(f"rows.{missing}.present")] = 50.0
    assert torch.equal(before, items())
    items().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in items.parameters() if p.grad is not None)


@pytest.mark.parametrize(("views", "fine"), [(True, False), (False, True), (False, False)])
def test_whole_sides_may_be_missing(views, fine):
    held = content_of()
    items = fused(Content(held.views if views else {}, held.units if fine else None))
    vectors = items()
    assert torch.isfinite(vectors).all()
    assert torch.equal(vectors, items.weight) == (not views and not fine)


def test_some_items_are_as_in_the_whole():
    items = fused(content_of(text=[1], fine=[2]))
    ids = torch.tensor([7, 1, 2, 7])
    torch.testing.assert_close(items(ids), items()[ids])


def test_alignment_is_over_items_with_both_views():
    items = fused(content_of(text=[1, 2], image=[3]), alignment_weight=0.3)
    torch.manual_seed(0)
    weight, loss = items.auxiliary(lambda: torch.tensor([0, 1, 2, 3, 4]))["align"]
    assert weight == 0.3 and float(loss.detach()) > 0
    alone = items.auxiliary(lambda: torch.tensor([1, 2, 3, 4]))["align"][1]
    assert float(alone.detach()) == 0  # one item alone has nothing to tell
    assert not fused(content_of(), alignment_weight=0).auxiliary(lambda: torch.arange(4))


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_padding_is_not_aligned(loss, monkeypatch):
    settings = from_content({"dimensions": D, "loss": loss, "negatives": 4}, "sasrec", "test")
    model = SequenceModel(settings, fused(content_of(text=[], image=[], fine=[])), torch.ones(N))
    seen = []
    monkeypatch.setattr(model.items, "auxiliary", lambda batch: seen.append(batch().tolist()) or {})
    model(torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]]), torch.tensor([4, 2]))
    assert seen == [[1, 2, 3, 4, 5, 6]]


def test_alignment_and_ranking_train_all_of_it():
    torch.manual_seed(0)
    settings = from_content({"dimensions": D, "loss": "sampled", "negatives": 4}, "gru4rec", "test")
    model = SequenceModel(settings, fused(content_of(text=[1], image=[2], fine=[3])), torch.ones(N))
    losses = model(torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0]]), torch.tensor([4, 3]))
    assert set(losses) == {"loss", "rank", "align"}
    torch.testing.assert_close(losses["loss"], losses["rank"] + 0.1 * losses["align"])
    losses["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.items.parameters())


def test_absent_artifacts_rows_are_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    none = {"values": np.zeros((N, 1), np.float32), "present": np.zeros(N, bool)}
    EMBEDDING.write(view()._asdict(), {}, name="view_text")
    for name in ("view_image", "view_joint"):
        EMBEDDING.write(none, {}, name=name)
    UNITS.write({"values": np.zeros((N, 2, 1), np.float32), "present": np.zeros((N, 2), bool)}, {}, name="fine_text")
    found = read_content(DmesrParams(), N - 2)
    assert list(found.views) == ["text"] and found.units is None and len(found.views["text"].values) == N - 2
    assert read_content(DmesrParams(mode="replace", fusion="views"), N - 2).views
    with pytest.raises(InputError, match="content to stand for items in mode `replace`"):
        read_content(DmesrParams(mode="replace", fusion="units"), N)  # there are no units
    EMBEDDING.write(none, {}, name="view_text")
    assert read_content(DmesrParams(), N) == Content({}, None)
    with pytest.raises(InputError, match="mode: add"):
        read_content(DmesrParams(mode="replace"), N)
    with pytest.raises(InputError, match="a row for each of 11 core items"):
        read_content(DmesrParams(), N + 1)


def test_the_mean_is_over_the_views_that_an_item_has():
    """By hand: an item with the first of two views is that view fused, not half of it; absent rows are not read."""
    torch.manual_seed(0)
    cross = attending(CrossAttention(4, 1, 0.0).eval())
    own, other = torch.randn(3, 2, 4), torch.randn(3, 1, 4)
    own_present = torch.tensor([[True, False], [True, True], [False, False]])
    found = cross(own, own_present, other, torch.ones(3, 1, dtype=torch.bool))
    # of one vector to attend to, all attention is on it
    fused = cross.norm(own + cross.o_proj(cross.v_proj(other)))
    torch.testing.assert_close(found, torch.stack([fused[0, 0], fused[1].mean(0), torch.zeros(4)]))


def test_what_cross_attention_brings_is_dropped_in_training_alone():
    torch.manual_seed(0)
    cross = attending(CrossAttention(64, 1, 0.5))
    own, other = torch.randn(20, 1, 64), torch.randn(20, 1, 64)
    present = torch.ones(20, 1, dtype=torch.bool)
    whole = cross.eval()(own, present, other, present)
    assert torch.equal(whole, cross(own, present, other, present))
    cross.train()
    assert not torch.equal(cross(own, present, other, present), cross(own, present, other, present))
    cross.dropout = torch.nn.Dropout(1.0)
    torch.testing.assert_close(cross(own, present, other, present), cross.norm(own)[:, 0])  # its own vector stays


def test_dropout_of_the_settings_reaches_both_cross_attentions():
    items = fused(content_of(), dropout=0.25)
    assert (items.view_side.fused.dropout.p, items.unit_side.fused.dropout.p) == (0.25, 0.25)
    items.train()
    assert not torch.equal(items(), items())
