import io
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tlcourse.backbones import Backbone, ImagePreprocessing, TextPreprocessing, attach_head
from tlcourse.data import Split, make_task, random_flips
from tlcourse.distillation import distill
from tlcourse.masked import Masked
from tlcourse.penalties import consolidate, ewc, l2_sp, without_decay
from tlcourse.plans import apply_plan
from tlcourse.replay import BalancedReservoir, Reservoir, rehearse
from tlcourse.runtime import seeded
from tlcourse.strategies import feature_extraction, full_fine_tune, gradual_unfreezing, last_stages
from tlcourse.text_stages import text_stages
from tlcourse.training import train

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = [Reservoir, BalancedReservoir]
REMEDIES = ["ewc", "l2_sp", "distillation", "replay", "early stopping"]
TOLERANCES = {"images": 1e-6, "texts": 1e-5}  # other rows in a batch of texts are other padding


def numbered(labels, *, first=0):
    """Images whose pixel is their number."""
    numbers = torch.arange(first, first + len(labels))
    return Split(numbers.to(torch.uint8).reshape(-1, 1, 1, 1), torch.as_tensor(labels), numbers)


def numbers(kept):
    return kept.inputs.flatten().tolist()


def same(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.fixture(scope="module")
def tiny_text():
    """An encoder of three layers, and texts of 1 to 14 tokens in two classes: 28 to train on."""
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    with seeded(0):
        stages = text_stages(BertModel(BertConfig(vocab_size=30, **sizes)))
        lengths = torch.randint(1, 15, (36,))
        tokens = torch.randint(0, 15, (36, 14)) + 15 * (torch.arange(36) % 2)[:, None]
    mask = torch.arange(14) < lengths[:, None]
    backbone = Backbone(
        "short", stages, feature_dim=16, preprocessing=TextPreprocessing("short", "nowhere"), pretrained=False
    ).eval()
    targets, names = torch.arange(36) % 2, ("low", "high")
    return backbone, make_task(
        "texts", Masked(tokens * mask, mask), targets, class_names=names, preprocessing_name="short"
    )


@pytest.fixture(params=["images", "texts"])
def pair(request, tiny_backbone, tiny_task):
    """A tiny backbone of four or five stages and its task."""
    return (tiny_backbone, tiny_task) if request.param == "images" else request.getfixturevalue("tiny_text")


def test_every_sample_has_the_same_chance():
    """Chi-square over 2000 buffers of 8 of 32."""
    counts = torch.zeros(32)
    for seed in range(2000):
        buffer = Reservoir(8, seed=seed)
        for part in numbered([0] * 13), numbered([1] * 19, first=13):
            buffer.add(part, head="a")
        counts[numbers(buffer.sample(8))] += 1
    assert counts.sum() == 16000
    # A buffer holds no sample twice, so the covariance of the counts is 500 * 24/31 (I - 1/32): chi-square with 31
    # degrees of freedom once divided by 24/31. Its 99.9 % point is 61.1, its 0.1 % point 11.
    statistic = ((counts - 500).square() / 500).sum().item() * 31 / 24
    assert 11 < statistic < 61.1


def test_within_a_class_every_sample_has_the_same_chance():
    counts = torch.zeros(40)
    for seed in range(1500):
        buffer = BalancedReservoir(8, seed=seed)
        buffer.add(numbered([0] * 16), head="a")
        buffer.add(numbered([0, 1] * 12, first=16), head="a")
        counts[numbers(buffer.sample(8))] += 1
    # Of 28 samples of one class and 12 of the other, 4 stay; the bounds are the 99.9 % points of chi-square.
    for label, bound in (0, 55.5), (1, 31.3):
        found = counts[[row for row in range(40) if (row >= 16 and row % 2) == label]]
        n = len(found)
        expected = 1500 * 4 / n
        assert found.sum() == 1500 * 4
        assert ((found - expected).square() / expected).sum().item() * (n - 1) / (n - 4) < bound


def test_a_sample_replaces_the_slot_that_was_drawn():
    buffer, generator = Reservoir(3, seed=5), torch.Generator().manual_seed(5)
    buffer.add(numbered(range(9)), head="a")
    slots = [0, 1, 2]
    for t in range(3, 9):
        slot = int(torch.randint(t + 1, (), generator=generator))
        if slot < 3:
            slots[slot] = t
    assert [numbers(kept)[0] for kept in buffer] == buffer.labels.tolist() == slots


SHARES = [  # capacity, the streams of labels of head a and head b, how many of each class stay
    (12, [0, 1, 2] * 10, [], [4, 4, 4]),
    (12, [0, 1, 2] * 10, [0, 1] * 5, [3, 3, 2, 2, 2]),
    (10, [0] * 20 + [1] + [2] * 20, [], [4, 1, 3]),
    (3, [2, 1, 0], [], [1, 1, 1]),
    (5, [0] * 40, [0] * 40, [3, 2]),
]


@pytest.mark.parametrize(("capacity", "a", "b", "shares"), SHARES)
def test_classes_have_equal_shares(capacity, a, b, shares):
    buffer = BalancedReservoir(capacity, seed=0)
    for head, labels in ("a", a), ("b", b):
        if labels:
            buffer.add(numbered(labels), head=head)
    met = dict.fromkeys([("a", label) for label in a] + [("b", label) for label in b])
    held = list(zip(buffer.heads, buffer.labels.tolist(), strict=True))
    assert [held.count(pair) for pair in met] == shares
    for kept in buffer:  # every image still has its own label and head
        assert ({"a": a, "b": b}[kept.heads[0]])[numbers(kept)[0]] == kept.labels.item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [False, True])
def test_a_buffer_goes_on_from_its_state(kind, texts, tiny_text):
    inputs, labels = tiny_text[1].train.inputs, tiny_text[1].train.labels
    inputs = inputs if texts else torch.arange(len(labels), dtype=torch.uint8).reshape(-1, 1, 1, 1)
    first, second = (
        Split(inputs[torch.arange(a, b)], labels[a:b], torch.arange(a, b)) for a, b in ((0, 15), (15, len(labels)))
    )
    whole = kind(6, seed=1)
    whole.add(first, head="a")
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    resumed = kind(6, seed=2)
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    drawn = []
    for buffer in (whole, resumed):
        buffer.sample(2)
        buffer.add(second, head="a")
        kept = buffer.sample(9)
        values = kept.inputs.values if texts else kept.inputs
        drawn.append((values.tolist(), kept.labels.tolist(), kept.heads, buffer.nbytes))
    assert drawn[0] == drawn[1]
    with pytest.raises(ValueError, match="capacity 6; this one's is 7"):
        kind(7, seed=1).load_state_dict(whole.state_dict())
    other = KINDS[1 - KINDS.index(kind)]
    with pytest.raises(ValueError, match=f"kind '{kind.__name__}'; this one's is '{other.__name__}'"):
        other(6, seed=1).load_state_dict(whole.state_dict())


def test_a_sample_is_drawn_again_only_after_all_others():
    buffer = Reservoir(4, seed=0)
    buffer.add(numbered([0, 1, 2, 3]), head="a")
    assert sorted(numbers(buffer.sample(4))) == [0, 1, 2, 3]
    assert sorted(torch.tensor(numbers(buffer.sample(6))).bincount().tolist()) == [1, 1, 2, 2]


def test_texts_of_different_lengths_are_padded():
    buffer = Reservoir(8, seed=0)
    for rows, length in ((2, 3), (1, 5)):
        tokens = Masked(torch.full((rows, length), length), torch.ones(rows, length, dtype=torch.bool))
        buffer.add(Split(tokens, torch.zeros(rows, dtype=torch.int64), torch.arange(rows)), head="a")
    assert buffer.inputs.values.tolist() == [[3, 3, 3, 0, 0]] * 2 + [[5] * 5]
    assert [kept.inputs.values.shape[1] for kept in buffer] == [3, 3, 5]
    assert buffer.nbytes == 3 * (5 * 8 + 5 + 8)


TOKENS = Masked(torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.bool))
REFUSED = [
    (torch.zeros(2, 3, 4, 4), r"uint8 images .* not torch.float32 values \(n, 3, 4, 4\)"),
    (torch.zeros(2, 4, dtype=torch.uint8), "a buffer keeps raw inputs"),
    (TOKENS.with_values(torch.zeros(2, 3, 5)), r"masked values \(2, 3, 5\)"),
    (torch.zeros(2, 1, 4, 5, dtype=torch.uint8), r"keeps images \(n, 1, 4, 4\), these are images \(n, 1, 4, 5\)"),
    (TOKENS, r"keeps images \(n, 1, 4, 4\), these are texts"),
]


@pytest.mark.parametrize(("inputs", "words"), REFUSED)
def test_inputs_that_do_not_belong_are_refused(inputs, words):
    buffer = Reservoir(8, seed=0)
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    buffer.add(Split(images, torch.tensor([0, 1]), torch.arange(2)), head="a")
    with pytest.raises(ValueError, match=words):
        buffer.add(Split(inputs, torch.tensor([0, 1]), torch.arange(2)), head="a")
    assert len(buffer) == 2


def test_bad_numbers_are_named(tiny_backbone, tiny_task):
    with pytest.raises(ValueError, match="capacity=0"):
        Reservoir(0, seed=0)
    small = BalancedReservoir(2, seed=0)
    with pytest.raises(ValueError, match="capacity=2: with head 'a' there are 3 classes"):
        small.add(numbered([0, 1, 2]), head="a")
    assert len(small) == 0
    small.add(numbered([0, 1]), head="a")
    for ratio in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="ratio="):
            rehearse(small, ratio=ratio)
    with pytest.raises(ValueError, match="the buffer is empty"):
        Reservoir(2, seed=0).sample(1)
    model = attach_head(tiny_backbone, tiny_task)
    with pytest.raises(KeyError, match="'a' was asked for"):
        rehearse(small)(model, model.backbone.preprocessing(tiny_task.train.inputs[:4]), torch.zeros(4, 2))


@pytest.fixture(scope="module")
def plain_backbone():
    """Without normalisation and dropout, so that a sample's gradient does not depend on its batch."""
    with seeded(0):
        stages = {
            "first": nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh()),
            "last": nn.Sequential(nn.Conv2d(4, 5, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        }
    half = (0.5, 0.5, 0.5)
    return Backbone("plain", stages, feature_dim=5, preprocessing=ImagePreprocessing(half, half), pretrained=False)


@pytest.mark.parametrize("augment", [None, random_flips])
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("ratio", [0.25, 1.0, 2.0])
def test_a_kept_sample_counts_as_much_as_a_new_one(ratio, cached, augment, plain_backbone, tiny_task):
    """The gradient is that of the mean over new and kept samples together, times how many more they are."""
    model = attach_head(plain_backbone, tiny_task).train()
    model.add_head("old", 2, seed=1)
    if cached:
        apply_plan(model, last_stages(model, 1))
    kept, new = tiny_task.val, tiny_task.train.inputs[:12]
    buffer, count = Reservoir(40, seed=0), round(12 * ratio)
    buffer.add(Split(kept.inputs[:3], kept.labels[:3], kept.index[:3]), head="old")
    buffer.add(Split(kept.inputs[3:], kept.labels[3:], kept.index[3:]), head="bright")
    raw, labels = model.backbone.preprocessing(new), tiny_task.train.labels[:12]
    state = model.backbone.run(raw, stop=1) if cached else raw
    penalty = rehearse(buffer, ratio=ratio, augment=augment)

    logits = model.run(state, start=int(cached), head="bright")
    torch.manual_seed(3)
    (F.cross_entropy(logits, labels) + penalty(model, state, logits)).backward()
    found = {name: value.grad for name, value in model.named_parameters()}

    model.zero_grad(set_to_none=True)
    torch.manual_seed(3)
    drawn = torch.cat([torch.randperm(len(buffer)) for _ in range(-(-count // len(buffer)))])[:count]
    inputs = buffer.inputs[drawn] if augment is None else augment(buffer.inputs[drawn], torch.default_generator)
    losses = [F.cross_entropy(model(new, head="bright"), labels, reduction="none")]
    for image, row in zip(inputs, drawn.tolist(), strict=True):
        answer = model(image[None], head=buffer.heads[row])
        losses.append(F.cross_entropy(answer, buffer.labels[row][None], reduction="none"))
    joint = torch.cat(losses)
    assert len(joint) == 12 + count
    (joint.mean() * (12 + count) / 12).backward()
    for name, parameter in model.named_parameters():
        assert (found[name] is None) == (parameter.grad is None)
        assert found[name] is None or torch.allclose(found[name], parameter.grad, atol=1e-6), name
    assert found["heads.old.weight"].abs().max() > 1e-3


def test_at_least_one_is_drawn(plain_backbone, tiny_task):
    model, buffer = attach_head(plain_backbone, tiny_task), Reservoir(1, seed=0)
    buffer.add(tiny_task.val, head="bright")
    state = model.backbone.preprocessing(tiny_task.train.inputs[:4])
    loss = F.cross_entropy(model(buffer.inputs), buffer.labels)
    assert torch.allclose(rehearse(buffer, ratio=1e-9)(model, state, torch.zeros(4, 2)), loss / 4)


def counted(model, stage):
    """How many rows pass a stage from now on, one entry a pass."""
    rows = []
    model.backbone.stages[stage].register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    return rows


def test_the_frozen_prefix_is_computed_once_for_the_buffer(pair):
    backbone, task = pair
    model = attach_head(backbone, task)
    apply_plan(model, last_stages(model, 1))
    model.train()
    buffer, names = Reservoir(6, seed=0), list(backbone.stages)
    buffer.add(task.train, head=task.name)
    penalty, drawn = rehearse(buffer, ratio=0.5), len(task.val) // 2
    depth = next(number for number, name in enumerate(names) if name not in model.frozen_stages)
    state = model.backbone.run(model.backbone.preprocessing(task.val.inputs), stop=depth)
    logits = model.run(state, start=depth)
    first, moving = counted(model, names[0]), counted(model, names[depth])
    penalty(model, state, logits)
    steps = len(moving)
    assert first == [1] + [drawn] * (6 // drawn), "one to see what it takes, then all in batches as they are drawn"
    penalty(model, state, logits)
    assert sum(first) == 7
    assert len(moving) == 2 * steps
    with torch.no_grad():
        for parameter in model.backbone.stages[names[0]].parameters():
            parameter += 0.1
    penalty(model, state, logits)
    assert sum(first) == 14, "the stage changed, so what was kept no longer holds"
    buffer.add(task.val, head=task.name)
    penalty(model, state, logits)
    assert sum(first) == 21, "the buffer changed"
    raw = model.backbone.preprocessing(task.val.inputs)
    penalty(model, raw, logits)
    assert first[-1] == drawn, "raw inputs enter at the first stage"


def test_one_pass_serves_all_heads(plain_backbone, tiny_task):
    model, buffer = attach_head(plain_backbone, tiny_task), Reservoir(9, seed=0)
    for head in ("bright", "b", "c"):
        if head != "bright":
            model.add_head(head, 2)
        buffer.add(tiny_task.val, head=head)
    rows = counted(model, "first")
    state = model.backbone.preprocessing(tiny_task.train.inputs[:8])
    rehearse(buffer)(model, state, torch.zeros(8, 2))
    assert len(set(buffer.heads)) == 3
    assert rows == [8]


def test_what_takes_too_much_memory_is_computed_for_every_batch(monkeypatch, tiny_backbone, tiny_task):
    losses = {}
    for small in (False, True):
        if small:
            monkeypatch.setattr("tlcourse.replay.cached_prefix", lambda *args, **options: None)
        model, buffer = attach_head(tiny_backbone, tiny_task), Reservoir(20, seed=0)
        buffer.add(tiny_task.val, head="bright")
        plan = last_stages(model, 1)
        options = {"epochs": 2, "device": "cpu", "progress": False}
        losses[small] = train(model, tiny_task, plan, penalties=(rehearse(buffer),), **options).train_loss
    assert losses[True] == pytest.approx(losses[False], abs=1e-6)


def stop_at(step, error):
    steps = itertools.count()

    def penalty(model, state, logits):
        if next(steps) == step:
            raise error
        return logits.new_zeros(())

    return penalty


class Stop(Exception):
    pass


@pytest.mark.parametrize("plan", [full_fine_tune, lambda model: last_stages(model, 1)])
def test_a_resumed_run_ends_with_the_same_weights(plan, pair, tmp_path):
    backbone, task = pair

    def run(step=None, **options):
        model, buffer = attach_head(backbone, task), Reservoir(10, seed=0)
        buffer.add(task.val, head=task.name)
        penalties = (rehearse(buffer, ratio=0.5), stop_at(step, Stop()))
        settings = {"epochs": 3, "batch_size": 16, "device": "cpu", "progress": False}
        history = train(model, task, plan(model), penalties=penalties, **settings, **options)
        return model, history.train_loss

    whole, losses = run()
    steps = -(-len(task.train) // 16)
    with pytest.raises(Stop):
        run(2 * steps, checkpoint=tmp_path / "run.pt")
    resumed, again = run(resume=tmp_path / "run.pt")
    assert same(whole, resumed)
    assert losses == again


@pytest.mark.parametrize("remedy", REMEDIES)
def test_the_cache_changes_no_loss(remedy, pair):
    """{cache on, off} x {EWC, L2-SP, distillation, replay, early stopping}: the same losses, and the remedy counts."""
    backbone, task = pair
    tolerance = TOLERANCES["texts" if task.preprocessing_name else "images"]
    epochs, lr = (12, 1e-2) if remedy == "early stopping" else (3, 3e-3)  # fast enough to get worse again

    def run(cache, used=True):
        model = attach_head(backbone, task)
        model.add_head("old", 3, seed=1)
        options = {}
        if remedy == "ewc":
            fisher = {name: torch.ones_like(value) for name, value in model.named_parameters()}
            options["penalties"] = (ewc(consolidate(model, fisher), strength=5.0),)
        elif remedy == "l2_sp":
            options["penalties"] = (l2_sp(model, strength=5.0, head_strength=5.0, head=task.name),)
        elif remedy == "distillation":
            model.heads["old"].weight.data *= 20  # answers that are far from flat, so that they can be lost
            options["penalties"] = (distill(model, strength=5.0, head="old"),)
        elif remedy == "replay":
            buffer = BalancedReservoir(12, seed=0)
            buffer.add(task.val, head="old")
            options["penalties"] = (rehearse(buffer, ratio=0.5),)
        else:
            options["patience"] = 2
        plan = without_decay(last_stages(model, 1, lr=lr, head_lr=lr))
        options = options if used else {}
        history = train(
            model, task, plan, epochs=epochs, batch_size=8, cache=cache, device="cpu", progress=False, **options
        )
        assert bool(history.cached_stages) is cache
        return history

    kept, direct, plain = run(True), run(False), run(True, used=False)
    assert kept.train_loss == pytest.approx(direct.train_loss, abs=tolerance)
    losses = [[entry["log_loss"] for entry in history.val] for history in (kept, direct)]
    assert losses[0] == pytest.approx(losses[1], abs=tolerance)
    if remedy == "early stopping":
        assert len(kept.train_loss) == len(direct.train_loss) < epochs == len(plain.train_loss)
    else:
        assert kept.train_loss != pytest.approx(plain.train_loss, abs=1e-3)


def test_nothing_moves_and_replay_still_trains_the_heads(tiny_backbone, tiny_task):
    model, buffer = attach_head(tiny_backbone, tiny_task), Reservoir(12, seed=0)
    model.add_head("old", 2, seed=1)
    before = model.heads["old"].weight.detach().clone()
    buffer.add(tiny_task.val, head="old")
    penalties = (rehearse(buffer),)
    train(model, tiny_task, feature_extraction(model), epochs=1, penalties=penalties, device="cpu", progress=False)
    assert not torch.equal(model.heads["old"].weight, before)


def test_the_prefix_follows_a_schedule_that_opens_stages(pair):
    """The state enters one stage earlier in each phase; what is kept of the buffer, and the teacher, follow."""
    backbone, task = pair
    losses = {}
    for cache in (True, False):
        model, buffer = attach_head(backbone, task), Reservoir(6, seed=0)
        buffer.add(task.val, head=task.name)
        penalties = (rehearse(buffer), distill(model, strength=1.0))
        schedule = gradual_unfreezing(model, lr=1e-3)
        history = train(model, task, schedule, cache=cache, penalties=penalties, device="cpu", progress=False)
        losses[cache] = history.train_loss
    assert len(losses[True]) == len(schedule) > 3
    assert losses[True] == pytest.approx(
        losses[False], abs=TOLERANCES["texts" if task.preprocessing_name else "images"]
    )
