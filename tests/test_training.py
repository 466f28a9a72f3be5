import copy
import dataclasses
import errno
import itertools
import math
import os
import random
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tlcourse import run as behind_the_loop
from tlcourse import training
from tlcourse.adapters import merge_lora
from tlcourse.backbones import attach_head
from tlcourse.data import make_task, random_flips
from tlcourse.evaluation import metrics
from tlcourse.plans import Plan, Rule
from tlcourse.rates import slanted_triangular, warmup_cosine
from tlcourse.strategies import (
    discriminative,
    feature_extraction,
    full_fine_tune,
    gradual_unfreezing,
    last_stages,
    lora,
    lp_ft,
)
from tlcourse.training import train

SCHEDULE = [  # step, steps in all, factor
    (0, 100, 0.1),
    (4, 100, 0.5),
    (9, 100, 1.0),
    (10, 100, 1.0),
    (55, 100, 0.5),
    (40, 100, 0.75),  # a third of the way down: (1 + cos 60 degrees) / 2
    (70, 100, 0.25),
    (100, 100, 0.0),
    (0, 1, 1.0),
    (0, 3, 1.0),
    (2, 3, 0.5),
]
PLANS = {
    "features": lambda model: feature_extraction(model, lr=0.3),
    "last": lambda model: last_stages(model, 1, lr=1e-2, head_lr=1e-2),
    "discriminative": lambda model: discriminative(model, lr=1e-2),
    "full": lambda model: full_fine_tune(model, lr=1e-2),
}
MOVING = {
    "features": {"head": 0.3},
    "last": {"block10": 1e-2, "head": 1e-2},
    "full": {"stem": 1e-2, "block1": 1e-2, "block10": 1e-2, "head": 1e-2},
}
PHASES = {  # schedules: what opens, what closes, what comes back, and what stays as it is
    "opening": (("features", 2), ("last", 1), ("full", 1)),
    "closing": (("full", 2), ("last", 1), ("features", 1)),
    "reopening": (("full", 1), ("features", 1), ("full", 2)),
    "one": (("last", 4),),
    "the same twice": (("last", 1), ("last", 3)),
}
BAD_SCHEDULES = [  # schedule, options, error, words
    (lambda plan: (), {}, TypeError, "a schedule (a tuple of pairs of a plan and its epochs) is needed, not ()"),
    (lambda plan: "full", {}, TypeError, "is needed, not 'full'"),
    (lambda plan: (plan, 3), {}, TypeError, "phase 1 of the schedule must be a pair"),
    (lambda plan: ((plan, 1), plan), {}, TypeError, "phase 2 of the schedule must be a pair"),
    (
        lambda plan: ((plan, 1), (plan, 0)),
        {},
        ValueError,
        "phase 2 of the schedule, 'full fine-tuning', takes 0 epochs",
    ),
    (lambda plan: ((plan, 1.5),), {}, ValueError, "takes 1.5 epochs: a whole number"),
    (
        lambda plan: ((plan, 1), (plan, 2)),
        {"epochs": 4},
        ValueError,
        "epochs=4, but the phases of the schedule take 1 + 2",
    ),
    (
        lambda plan: ((plan, 1), (Plan("later", (Rule("block2", 1e-3), Rule("*", 0.0))), 1)),
        {},
        ValueError,
        "plan 'later': the rule 'block2' matches nothing",
    ),
]
VALIDATION = [  # validation losses, patience, the epochs that are trained, the best one
    ((0.5, 0.4, 0.6, 0.7, 0.3, 0.2), 2, 4, 2),
    ((0.5, 0.4, 0.6, 0.3, 0.7, 0.6), 2, 6, 4),
    ((0.5, 0.4, 0.3, 0.2, 0.1, 0.6), 3, 6, 5),  # it never comes to the stop
    ((0.5, 0.5, 0.5, 0.5, 0.3, 0.2), 3, 4, 1),  # as good is not better
    ((0.1, 0.2, 0.1, 0.1, 0.1, 0.1), 1, 2, 1),
    ((0.6, 0.5, 0.4, 0.3, 0.2, 0.1), 1, 6, 6),
]
FROZEN = {"features": ["stem", "block1", "block10", "neck"], "last": ["stem", "block1"]}
BAD_ARGUMENTS = [  # options, error, words
    ({"epochs": 0}, ValueError, "epochs=0: a whole number, at least 1"),
    ({"epochs": -1}, ValueError, "epochs=-1: a whole number, at least 1"),
    ({"batch_size": 0}, ValueError, "batch_size=0: a whole number, at least 1"),
    ({"patience": 0}, ValueError, "patience=0: a whole number, at least 1"),
    ({"rates": lambda step, total: 1.0 - step}, ValueError, "the factor at step 2 of 12 is -1.0, not 0 or more"),
    ({"rates": lambda step, total: math.nan}, ValueError, "the factor at step 0 of 12 is nan"),
    ({"rates": lambda step, total: math.inf}, ValueError, "the factor at step 0 of 12 is inf"),
    ({"head": "other"}, KeyError, "['bright']; 'other' was asked for"),
    ({"device": "abacus"}, RuntimeError, "unknown device 'abacus'"),
    ({"resume": "nowhere.pt"}, ValueError, "resume='nowhere.pt': there is no such checkpoint"),
]
OTHER_RUNS = [  # what differs, what the refusal must name
    ({"epochs": 5}, "epochs: 4 there, 5 here"),
    ({"seed": 1}, "seed: 0 there, 1 here"),
    ({"batch_size": 16}, "batch_size: 32 there, 16 here"),
    ({"plan": "last"}, "plan: "),
    ({"plan": (("full", 3), ("last", 1))}, "plan: "),
    ({"plan": (("full", 3), ("full", 1))}, "epochs: 4 there, 3 + 1 here"),
    ({"rates": slanted_triangular}, "rates: warmup_cosine "),
    ({"rates": partial(warmup_cosine, warmup=0.5)}, "rates: warmup_cosine "),
    ({"patience": 2}, "patience: None there, 2 here"),
    ({"labels": 40}, "samples: 90 there, 40 here"),
    ({"name": "glowing"}, "task: bright there, glowing here"),
    ({"task_seed": 3}, "task seed: 0 there, 3 here"),
    ({"task_options": {"size": 64}}, "task options: [] there, [('size', 64)] here"),
    ({"rows": 1}, "samples drawn: "),
    ({"augment": random_flips}, "augment: none there, random_flips here"),
    ({"penalties": (lambda *state: 0.0,)}, "penalties:  there, <lambda> here"),
]
pytestmark = pytest.mark.usefixtures("one_thread")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Stop(Exception):
    """Stands for a kill: nothing in the library catches it."""


@pytest.fixture
def fresh(tiny_backbone, tiny_task):
    return lambda: attach_head(tiny_backbone, tiny_task)


@pytest.fixture
def run(fresh, tiny_task):
    """Train a new model on the CPU; what it returns is the model and its history."""

    def trained(plan="full", *, task=None, **options):
        model = fresh()
        settings = {"device": "cpu", "progress": False} | options
        if isinstance(plan, str):
            plan, settings = PLANS[plan](model), {"epochs": 4} | settings
        else:
            plan = tuple((PLANS[name](model), epochs) for name, epochs in plan)
        return model, train(model, task or tiny_task, plan, **settings)

    return trained


def stop_at(step, error=None):
    """A penalty that adds nothing and raises at a step, counted from 0; at None never."""
    steps = itertools.count()

    def penalty(model, state, logits):
        if next(steps) == step:
            raise error
        return logits.new_zeros(())

    return penalty


def same(first, second):
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(("step", "total", "factor"), SCHEDULE)
def test_rates_warm_up_and_fall_like_a_cosine(step, total, factor):
    assert warmup_cosine(step, total) == pytest.approx(factor)


def test_the_warm_up_has_the_stated_share():
    factors = [warmup_cosine(step, 40, warmup=0.5) for step in range(40)]
    assert factors[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert factors[20:] == sorted(factors[20:], reverse=True)


@pytest.mark.parametrize("plan", PLANS)
def test_the_loss_falls_and_the_record_is_whole(plan, run, tiny_task):
    model, history = run(plan, epochs=8)
    assert history.epochs == list(range(1, 9))
    assert history.train_loss[-1] < history.train_loss[0] - 0.05
    assert len(history.train_loss) == len(history.val) == len(history.lr) == len(history.seconds) == 8
    assert all(seconds > 0 for seconds in history.seconds)
    assert set(history.val[0]) == {"accuracy", "balanced_accuracy", "auc", "log_loss", "calibration_error"}
    assert not model.training
    last = metrics(tiny_task.val.labels, model(tiny_task.val.inputs).softmax(1).detach())
    assert history.val[-1] == pytest.approx(last, abs=1e-5)


def test_it_is_the_loop_that_one_writes_by_hand(fresh, run, tiny_task):
    """AdamW, cross-entropy, batches of equal size from the seed's order, warm-up and cosine: the same weights."""
    model, losses = fresh(), []
    split = tiny_task.train
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": matrices}, {"params": vectors, "weight_decay": 0.0}], lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)  # dropout
    steps = 4 * math.ceil(len(split) / 32)
    step = 0
    for _ in range(4):
        model.train()
        total = 0.0
        for index in torch.randperm(len(split), generator=generator).tensor_split(math.ceil(len(split) / 32)):
            for group in optimizer.param_groups:
                group["lr"] = 1e-2 * warmup_cosine(step, steps)
            loss = F.cross_entropy(model(split.inputs[index]), split.labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(index)
            step += 1
        losses.append(total / len(split))
    trained, history = run("full")
    assert history.train_loss == pytest.approx(losses, abs=1e-6)
    for key, value in trained.state_dict().items():
        assert torch.allclose(value, model.state_dict()[key], atol=1e-5)  # sums in another order


@pytest.mark.parametrize("plan", ["last", "full"])
def test_one_seed_gives_the_same_bits(plan, run):
    first, again, other = run(plan, seed=3), run(plan, seed=3), run(plan, seed=4)
    assert same(first[0], again[0])
    assert first[1].train_loss == again[1].train_loss
    assert first[1].train_loss != other[1].train_loss


@pytest.mark.parametrize("ends", ["well", "by an error"])
def test_the_global_random_state_is_as_before(ends, run):
    random.seed(5)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    if ends == "well":
        run()
    else:
        with pytest.raises(Stop):
            run(penalties=(stop_at(2, Stop()),))
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("plan", FROZEN)
def test_what_is_frozen_is_bit_identical_whoever_calls_train(plan, cache, fresh, tiny_task):
    model = fresh()
    before = {name: {k: v.clone() for k, v in stage.state_dict().items()} for name, stage in model.stages.items()}
    model.train()
    train(model, tiny_task, PLANS[plan](model), epochs=2, cache=cache, device="cpu", progress=False)
    model.train()
    with torch.no_grad():
        model(tiny_task.train.inputs)  # whoever goes on by hand does not move the statistics either
    for name, stage in model.stages.items():
        equal = [torch.equal(value, before[name][key]) for key, value in stage.state_dict().items()]
        assert all(equal) if name in FROZEN[plan] else not any(equal[:2])


def test_real_networks_keep_their_frozen_stages(lite0):
    images = torch.randint(0, 256, (24, 1, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    task = make_task("cells", images, torch.arange(24) % 2, class_names=("a", "b"))
    model = attach_head(lite0, task).train()
    train(model, task, last_stages(model, 1, lr=1e-2), epochs=1, cache=False, device="cpu", progress=False)
    before, after = lite0.state_dict(), model.backbone.state_dict()
    moved = {key.split(".")[1] for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"neck"}


def test_what_is_frozen_has_neither_gradient_nor_optimiser_state(fresh, tiny_task, monkeypatch):
    made = []
    original = torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda *args: made.append(original(*args)) or made[0])
    model = fresh()
    train(model, tiny_task, PLANS["last"](model), epochs=1, device="cpu", progress=False)
    for name, stage in model.stages.items():
        for parameter in stage.parameters():
            assert (parameter.grad is not None) is (name in ("block10", "head"))
            assert (parameter in made[0].state) is (name in ("block10", "head"))


def test_the_optimiser_holds_the_rates_of_the_plan_at_every_step(run, monkeypatch, fresh):
    rates, original = [], torch.optim.AdamW.step

    def step(self, *args, **options):
        rates.append({group["stage"]: group["lr"] for group in self.param_groups})
        return original(self, *args, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    _, history = run("discriminative", epochs=4)
    base = {"stem": 1e-2 / 2.6**3, "block1": 1e-2 / 2.6**2, "block10": 1e-2 / 2.6, "head": 1e-2}
    assert len(rates) == 12
    for number, row in enumerate(rates):
        assert row == pytest.approx({stage: rate * warmup_cosine(number, 12) for stage, rate in base.items()})
    assert history.lr == rates[2::3]


@pytest.mark.parametrize("batch_size", [1, 8, 32, 90, 500])
def test_an_epoch_takes_every_sample_once_in_batches_of_even_size(batch_size):
    images = torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1).expand(100, 1, 4, 4).contiguous()
    task = make_task("numbered", images, torch.arange(100) % 2, class_names=("a", "b"))
    seen = []

    def watch(batch, generator):
        seen.append(batch[:, 0, 0, 0].tolist())
        return batch

    model = attach_head(_flat(), task)
    train(model, task, full_fine_tune(model), epochs=2, batch_size=batch_size, augment=watch, progress=False)
    half = math.ceil(len(task.train) / batch_size)
    numbers = sorted(task.train.inputs[:, 0, 0, 0].tolist())
    epochs = [list(itertools.chain(*part)) for part in (seen[:half], seen[half:])]
    assert len(seen) == 2 * half
    assert sorted(epochs[0]) == sorted(epochs[1]) == numbers
    assert epochs[0] != epochs[1] != numbers
    sizes = {len(batch) for batch in seen}
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def _flat():
    from tlcourse.backbones import Backbone, ImagePreprocessing

    stages = {"only": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 4))}
    grey = ImagePreprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    return Backbone("flat", stages, feature_dim=4, preprocessing=grey, pretrained=False)


def test_augmentation_draws_from_the_seed_alone(run):
    first, again = run(augment=random_flips, seed=2), run(augment=random_flips, seed=2)
    assert same(first[0], again[0])
    assert not same(first[0], run(seed=2)[0])


def test_a_penalty_sees_the_state_and_the_logits_and_moves_the_weights(run, tiny_task):
    seen = set()

    def shrink(model, state, logits):
        seen.add((tuple(state.shape[1:]), tuple(logits.shape[1:])))
        return 10 * model.heads["bright"].weight.square().sum()

    plain, shrunk = run("last", epochs=12), run("last", epochs=12, penalties=(shrink,))
    assert seen == {((8, 6, 6), (2,))}  # what enters block10
    norms = [model.heads["bright"].weight.norm().item() for model, _ in (plain, shrunk)]
    assert norms[1] < 0.5 * norms[0]


@pytest.mark.parametrize(("options", "error", "words"), BAD_ARGUMENTS)
def test_bad_arguments_are_named(options, error, words, run):
    with pytest.raises(error) as raised:
        run(**options)
    assert words in str(raised.value)


def test_a_request_for_cuda_without_cuda_is_a_clear_error(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="'cuda' was asked for, but PyTorch"):
        run(device="cuda")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run(value, run, tmp_path):
    def explode(model, state, logits):
        return logits.sum() * value

    with pytest.raises(FloatingPointError, match=r"in epoch 1: lower the rates of plan 'full fine-tuning'"):
        run(penalties=(explode,), checkpoint=tmp_path / "run.pt")
    assert not list(tmp_path.iterdir())


def test_the_recorded_loss_holds_the_penalties(run):
    plain, more = run()[1], run(penalties=(lambda model, state, logits: logits.new_full((), 7.0),))[1]
    assert more.train_loss == pytest.approx([loss + 7 for loss in plain.train_loss], abs=1e-5)


def test_a_watcher_is_called_after_each_epoch(run):
    lengths = []
    run(progress=lambda history: lengths.append((len(history.epochs), len(history.val))))
    assert lengths == [(1, 1), (2, 2), (3, 3), (4, 4)]


@pytest.mark.parametrize(
    ("variable", "progress", "shown"), [("1", True, True), ("0", True, False), ("1", False, False)]
)
def test_the_progress_bar_is_shown_where_it_is_wanted(variable, progress, shown, run, monkeypatch, capsys):
    monkeypatch.setenv("TLCOURSE_PROGRESS", variable)
    run(progress=progress)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("full fine-tuning" in err) is shown


@pytest.mark.parametrize("plan", ["last", "full"])
@pytest.mark.parametrize("killed_at", [3, 4, 8, 11])  # 3 steps an epoch: at the edge, in the middle, at the last step
def test_a_killed_run_resumes_to_the_same_weights(killed_at, plan, run, tmp_path):
    whole, history = run(plan)
    with pytest.raises(Stop):
        run(plan, checkpoint=tmp_path / "run.pt", penalties=(stop_at(killed_at, Stop()),))
    resumed, went_on = run(plan, resume=tmp_path / "run.pt", checkpoint=tmp_path / "run.pt", penalties=(stop_at(None),))
    assert same(whole, resumed)
    assert (went_on.epochs, went_on.train_loss, went_on.val, went_on.lr) == (
        history.epochs,
        history.train_loss,
        history.val,
        history.lr,
    )


def test_augmented_runs_resume_too(run, tmp_path):
    whole, _ = run(augment=random_flips)
    with pytest.raises(Stop):
        run(augment=random_flips, checkpoint=tmp_path / "run.pt", penalties=(stop_at(7, Stop()),))
    assert same(whole, run(augment=random_flips, resume=tmp_path / "run.pt", penalties=(stop_at(None),))[0])


def test_a_resumed_run_reads_the_frozen_stages_of_its_checkpoint(run, fresh, tiny_task, tmp_path):
    """The prefix is computed from the weights that go on, not from those that happened to be in the model."""
    whole, history = run("last")
    with pytest.raises(Stop):
        run("last", checkpoint=tmp_path / "run.pt", penalties=(stop_at(7, Stop()),))
    other = fresh()
    with torch.no_grad():
        other.backbone.stages["stem"][0].weight.mul_(3)
    went_on = train(
        other,
        tiny_task,
        PLANS["last"](other),
        epochs=4,
        resume=tmp_path / "run.pt",
        penalties=(stop_at(None),),
        device="cpu",
        progress=False,
    )
    assert same(whole, other)
    assert went_on.train_loss == history.train_loss
    assert went_on.cached_stages == 2


def test_a_finished_run_resumes_to_itself(run, tmp_path):
    whole, history = run(checkpoint=tmp_path / "run.pt")
    again, same_history = run(resume=tmp_path / "run.pt")
    assert same(whole, again)
    assert same_history.train_loss == history.train_loss


@pytest.mark.parametrize(("difference", "words"), OTHER_RUNS)
def test_the_checkpoint_of_another_run_is_refused(difference, words, run, tiny_task, tmp_path):
    run(checkpoint=tmp_path / "run.pt")
    task = None
    if {"labels", "name"} & difference.keys():
        parts = (tiny_task.train, tiny_task.val, tiny_task.test)
        inputs, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("inputs", "labels"))
        task = make_task(
            difference.get("name", "bright"), inputs, labels, class_names="ab", labels=difference.get("labels")
        )
    options = {key: value for key, value in difference.items() if key not in ("labels", "name")}
    if "task_seed" in options:
        task = dataclasses.replace(tiny_task, seed=options.pop("task_seed"))
    if "task_options" in options:
        task = dataclasses.replace(tiny_task, options=options.pop("task_options"))
    if "rows" in options:
        index = tiny_task.train.index.roll(options.pop("rows"))
        task = dataclasses.replace(tiny_task, train=dataclasses.replace(tiny_task.train, index=index))
    with pytest.raises(ValueError) as error:
        run(task=task, resume=tmp_path / "run.pt", **({"head": "bright"} if task else {}), **options)
    assert "is of another run" in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(share, run, tmp_path):
    run(checkpoint=tmp_path / "run.pt")
    data = (tmp_path / "run.pt").read_bytes()
    (tmp_path / "run.pt").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match="is not a checkpoint"):
        run(resume=tmp_path / "run.pt")


@pytest.mark.parametrize("stored", [{"weights": torch.zeros(2)}, {"run": 3}, {"run": {"seed": 0}}, torch.zeros(2), [1]])
def test_a_file_that_is_no_checkpoint_is_refused(stored, run, tmp_path):
    torch.save(stored, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="is not a checkpoint of this version"):
        run(resume=tmp_path / "run.pt")


def test_another_backbone_of_the_same_shape_is_refused(run, tiny_backbone, tiny_task, tmp_path):
    run(checkpoint=tmp_path / "run.pt")
    other = copy.deepcopy(tiny_backbone)
    other.name = "small"
    model = attach_head(other, tiny_task)
    with pytest.raises(ValueError, match="backbone: tiny there, small here"):
        train(model, tiny_task, PLANS["full"](model), epochs=4, resume=tmp_path / "run.pt", progress=False)


def test_a_checkpoint_is_moved_into_its_place_whole(run, tmp_path):
    """Whoever holds the old file open, or links to it, keeps reading the old one."""
    run(checkpoint=tmp_path / "run.pt")
    before = (tmp_path / "run.pt").read_bytes()
    os.link(tmp_path / "run.pt", tmp_path / "held.pt")
    run(checkpoint=tmp_path / "run.pt", seed=1)
    assert (tmp_path / "held.pt").read_bytes() == before
    assert (tmp_path / "run.pt").read_bytes() != before


def test_a_kill_while_writing_leaves_the_checkpoint_before_it(run, tmp_path, monkeypatch):
    run(checkpoint=tmp_path / "run.pt")
    before = (tmp_path / "run.pt").read_bytes()

    def killed(stored, path):
        path.write_bytes(b"half")
        raise Stop

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(Stop):
        run(checkpoint=tmp_path / "run.pt", seed=1)
    assert (tmp_path / "run.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_a_checkpoint_with_code_in_it_is_refused(run, tmp_path):
    class Harmful:
        def __reduce__(self):
            return (tmp_path.joinpath("harm").touch, ())

    torch.save({"run": Harmful()}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        run(resume=tmp_path / "run.pt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("file write failed")])
def test_a_full_disk_leaves_the_checkpoint_before_it(error, run, tmp_path, monkeypatch):
    whole, _ = run()
    saves, save = itertools.count(), torch.save

    def full(stored, path):
        if next(saves) < 2:
            return save(stored, path)
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="could not be written.*the one before it is intact"):
        run(checkpoint=tmp_path / "run.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]
    monkeypatch.setattr(torch, "save", save)
    assert same(run(resume=tmp_path / "run.pt")[0], whole)


def test_an_interrupt_says_where_it_is_and_how_to_go_on(run, tmp_path):
    whole, _ = run()
    checkpoint = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt) as error:
        run(checkpoint=checkpoint, penalties=(stop_at(7, KeyboardInterrupt()),))
    assert str(error.value) == (
        f"stopped in epoch 3 of 4, after step 7 of 12; resume={str(checkpoint)!r} goes on after epoch 2"
    )
    assert same(run(resume=checkpoint, penalties=(stop_at(None),))[0], whole)


def test_an_interrupt_names_no_checkpoint_that_is_not_written_yet(run, tmp_path):
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=first, penalties=(stop_at(7, KeyboardInterrupt()),))
    with pytest.raises(KeyboardInterrupt, match="first.pt' goes on after epoch 2"):
        run(resume=first, checkpoint=second, penalties=(stop_at(1, KeyboardInterrupt()),))
    assert not second.exists()


@pytest.mark.parametrize("checkpoint", [None, "run.pt"])
def test_an_interrupt_before_there_is_a_checkpoint_says_so(checkpoint, fresh, tiny_task, tmp_path):
    model = fresh().train()
    path = checkpoint and tmp_path / checkpoint
    with pytest.raises(KeyboardInterrupt, match=r"epoch 1 of 4, after step 1 of 12; give checkpoint="):
        train(
            model,
            tiny_task,
            PLANS["full"](model),
            epochs=4,
            checkpoint=path,
            penalties=(stop_at(1, KeyboardInterrupt()),),
            device="cpu",
            progress=False,
        )
    assert not model.training
    assert not list(tmp_path.iterdir())


def by_hand(model, task, phases, rates):
    """The oracle: each stage has an optimiser of its own, made when the stage opens and thrown away when it closes."""
    split, optimizers, losses, step = task.train, {}, [], 0
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)  # dropout
    each = math.ceil(len(split) / 32)
    total = each * sum(epochs for _, epochs in phases)
    for moving in (MOVING[name] for name, epochs in phases for _ in range(epochs)):
        model.train()
        for name, stage in model.stages.items():
            stage.requires_grad_(name in moving)
            stage.train(name in moving or (name == "neck" and "block10" in moving))
        optimizers = {name: optimizers.get(name) or _optimizer(model.stages[name]) for name in moving}
        loss_sum = 0.0
        for index in torch.randperm(len(split), generator=generator).tensor_split(each):
            loss = F.cross_entropy(model(split.inputs[index]), split.labels[index])
            model.zero_grad()
            loss.backward()
            for name, optimizer in optimizers.items():
                for group in optimizer.param_groups:
                    group["lr"] = moving[name] * rates(step, total)
                optimizer.step()
            loss_sum += loss.item() * len(index)
            step += 1
        losses.append(loss_sum / len(split))
    return losses


def _optimizer(stage):
    decayed = [parameter for parameter in stage.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in stage.parameters() if parameter.dim() == 1]
    return torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}])


@pytest.fixture
def optimizers(monkeypatch):
    """Every AdamW that is made."""
    made, original = [], torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda *args: made.append(original(*args)) or made[-1])
    return made


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("rates", [warmup_cosine, slanted_triangular])
@pytest.mark.parametrize("phases", PHASES)
def test_a_schedule_is_one_optimiser_a_stage_from_its_opening_to_its_closing(
    phases, rates, cache, run, fresh, tiny_task
):
    expected = fresh()
    losses = by_hand(expected, tiny_task, PHASES[phases], rates)
    trained, history = run(PHASES[phases], rates=rates, cache=cache)
    assert history.train_loss == pytest.approx(losses, abs=1e-5)
    for key, value in trained.state_dict().items():
        assert torch.allclose(value, expected.state_dict()[key], atol=1e-4)  # sums in another order, at a rate of 0.3


def test_the_sum_of_a_schedule_may_be_said(run):
    assert same(run(PHASES["opening"])[0], run(PHASES["opening"], epochs=4)[0])


@pytest.mark.parametrize("plan", ["last", (("last", 6),)])
def test_six_epochs_are_the_default_of_a_plan_alone(plan, run, tiny_task, fresh):
    model = fresh()
    assert len(train(model, tiny_task, PLANS["last"](model), device="cpu", progress=False).epochs) == 6
    assert len(run((("last", 2), ("full", 1)))[1].epochs) == 3


@pytest.mark.parametrize("phases", [(("last", 4),), (("last", 1), ("last", 3))])
def test_a_phase_that_changes_nothing_changes_no_bit(phases, run):
    assert same(run("last")[0], run(phases)[0])


@pytest.mark.parametrize(("make", "options", "error", "words"), BAD_SCHEDULES)
def test_a_bad_schedule_is_refused_before_anything_is_trained(make, options, error, words, fresh, tiny_task):
    model = fresh()
    before = copy.deepcopy(model)
    with pytest.raises(error) as raised:
        train(model, tiny_task, make(PLANS["full"](model)), device="cpu", progress=False, **options)
    assert words in str(raised.value)
    assert same(before, model)


def test_what_opens_has_no_momentum_and_what_closes_leaves_no_trace(run, optimizers):
    """Three steps an epoch: AdamW counts the steps that each tensor took since its stage opened."""
    model, history = run((("full", 1), ("features", 1), ("last", 2)))
    first, second, third = optimizers
    head, block10 = model.heads["bright"].weight, model.backbone.stages["block10"][0].weight
    assert third.state[head]["step"] == 12
    assert third.state[block10]["step"] == 6
    for name, stage in model.stages.items():
        for parameter in stage.parameters():
            assert (parameter in third.state) is (name in ("block10", "head"))
            assert (parameter in second.state) is (name == "head")
            assert (parameter.grad is not None) is parameter.requires_grad is (name in ("block10", "head"))
    assert [set(row) for row in history.lr] == [set(MOVING[name]) for name in ("full", "features", "last", "last")]


def test_a_stage_that_opens_joins_at_the_present_factor(run, monkeypatch):
    rates, original = [], torch.optim.AdamW.step

    def step(self, *args, **options):
        rates.append({group["stage"]: group["lr"] for group in self.param_groups})
        return original(self, *args, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    run(PHASES["opening"])
    for number, row in enumerate(rates):
        moving = MOVING["features" if number < 6 else "last" if number < 9 else "full"]
        assert row == pytest.approx({stage: rate * warmup_cosine(number, 12) for stage, rate in moving.items()})


@pytest.mark.parametrize(
    ("phases", "passes", "kept"),
    [  # how often all training and validation images go through the stem
        ((("features", 2), ("last", 2)), 2, 2),
        ((("last", 1), ("last", 3)), 1, 2),
        ((("last", 2), ("full", 2)), 3, 0),
        ((("full", 1), ("features", 5)), 2, 4),
    ],
)
def test_the_prefix_is_computed_again_where_its_depth_changes(phases, passes, kept, fresh, tiny_task):
    model, seen = fresh(), []
    model.backbone.stages["stem"].register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    plans = tuple((PLANS[name](model), epochs) for name, epochs in phases)
    history = train(model, tiny_task, plans, device="cpu", progress=False)
    measured = 2 * len({name for name, _ in phases} - {"full"})  # one sample each, to measure its size
    assert sum(seen) == passes * (len(tiny_task.train) + len(tiny_task.val)) + measured
    assert history.cached_stages == kept


@pytest.mark.parametrize("killed_at", [1, 3, 6, 7, 11])  # in each phase, and where the next one begins
@pytest.mark.parametrize("phases", ["opening", "closing", "reopening"])
def test_a_killed_schedule_resumes_to_the_same_weights(phases, killed_at, run, tmp_path):
    """Twice stopped: the second time within the first epoch after the resumption."""
    phases, path = PHASES[phases], tmp_path / "run.pt"
    whole, history = run(phases, rates=slanted_triangular)
    options = {"rates": slanted_triangular, "checkpoint": path}
    with pytest.raises(Stop):
        run(phases, penalties=(stop_at(killed_at, Stop()),), **options)
    if path.exists():
        with pytest.raises(Stop):
            run(phases, penalties=(stop_at(1, Stop()),), resume=path, **options)
    resumed, went_on = run(phases, penalties=(stop_at(None),), resume=path if path.exists() else None, **options)
    assert same(whole, resumed)
    assert [parameter.requires_grad for parameter in whole.parameters()] == [
        parameter.requires_grad for parameter in resumed.parameters()
    ]
    assert (went_on.train_loss, went_on.val, went_on.lr, went_on.cached_stages) == (
        history.train_loss,
        history.val,
        history.lr,
        history.cached_stages,
    )


def test_the_bar_names_the_phase(run, monkeypatch, capsys):
    monkeypatch.setenv("TLCOURSE_PROGRESS", "1")
    run((("features", 1), ("full", 1)), progress=True)
    shown = capsys.readouterr().err
    assert "feature extraction" in shown
    assert "full fine-tuning" in shown


@pytest.fixture
def judged(fresh, tiny_task, monkeypatch, optimizers):
    """Train under given validation losses; keep the weights and the optimiser's state after each epoch."""

    def trained(losses, plan="full", *, done=0, **options):
        model, after, given = fresh(), [], iter(losses[done:])
        monkeypatch.setattr(behind_the_loop, "metrics", lambda *args: {"log_loss": next(given)})

        def remember(history):
            after.append(copy.deepcopy((dict(model.state_dict()), optimizers[-1].state_dict())))

        if isinstance(plan, str):
            plan = ((plan, len(losses)),)
        phases = tuple((PLANS[name](model), epochs) for name, epochs in plan)
        history = train(model, tiny_task, phases, device="cpu", progress=remember, **options)
        return model, history, after

    return trained


def equal(first, second):
    """Nested dicts, lists and tensors, to the last bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(equal, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


@pytest.mark.parametrize(("losses", "patience", "trained", "best"), VALIDATION)
def test_patience_goes_back_to_the_best_epoch(losses, patience, trained, best, judged, optimizers):
    model, history, after = judged(losses, patience=patience)
    assert history.epochs == list(range(1, trained + 1))
    assert history.best_epoch == best
    assert not model.training
    assert equal(dict(model.state_dict()), after[best - 1][0])
    assert equal(optimizers[-1].state_dict(), after[best - 1][1])
    others = [state for number, (state, _) in enumerate(after, start=1) if number != best]
    assert not any(
        equal(state["backbone.stages.stem.1.running_mean"], after[best - 1][0]["backbone.stages.stem.1.running_mean"])
        for state in others
    )


def test_without_patience_the_last_epoch_stays_and_the_best_is_named(judged):
    model, history, after = judged((0.5, 0.1, 0.3))
    assert history.best_epoch == 2
    assert equal(dict(model.state_dict()), after[-1][0])


def test_before_the_first_epoch_none_is_the_best():
    assert behind_the_loop.History().best_epoch == 0


def test_patience_goes_back_into_an_earlier_phase(judged, optimizers):
    """Also what moved there: freezing and groups are those of the best epoch."""
    model, history, after = judged((0.5, 0.4, 0.6, 0.7), (("full", 1), ("last", 1), ("features", 2)), patience=3)
    assert (history.best_epoch, len(history.epochs)) == (2, 4)
    assert equal(dict(model.state_dict()), after[1][0])
    assert equal(optimizers[-1].state_dict(), after[1][1])
    assert {name for name, stage in model.stages.items() if any(p.requires_grad for p in stage.parameters())} == {
        "block10",
        "head",
    }


@pytest.mark.parametrize("plan", ["full", (("full", 3), ("last", 3))])
@pytest.mark.parametrize("killed_at", [4, 8, 11, 13])
def test_a_killed_run_with_patience_goes_back_to_the_same_epoch(killed_at, plan, judged, tmp_path):
    losses, path = (0.5, 0.3, 0.4, 0.6, 0.7, 0.1), tmp_path / "run.pt"
    whole, history, _ = judged(losses, plan, patience=3)
    assert (history.best_epoch, len(history.epochs)) == (2, 5)
    with pytest.raises(Stop):
        judged(losses, plan, patience=3, checkpoint=path, penalties=(stop_at(killed_at, Stop()),))
    options = {"resume": path, "checkpoint": path, "penalties": (stop_at(None),)}
    resumed, went_on, _ = judged(losses, plan, patience=3, done=killed_at // 3, **options)
    assert same(whole, resumed)
    assert (went_on.epochs, went_on.train_loss, went_on.best_epoch) == (history.epochs, history.train_loss, 2)
    again, unchanged, _ = judged(losses, plan, patience=3, done=5, **options)  # it is over: nothing is trained
    assert same(whole, again)
    assert unchanged.epochs == history.epochs


def test_patience_stops_in_the_same_epoch_with_and_without_the_cache(run):
    phases = (("features", 2), ("last", 18))
    histories = [run(phases, cache=cache, patience=2) for cache in (True, False)]
    (kept_model, kept), (direct_model, direct) = histories
    assert (kept.cached_stages, direct.cached_stages) == (2, 0)
    assert kept.epochs == direct.epochs
    assert kept.best_epoch == direct.best_epoch == len(kept.epochs) - 2 < 18
    assert kept.train_loss == pytest.approx(direct.train_loss, abs=1e-5)
    for key, value in kept_model.state_dict().items():
        assert torch.allclose(value, direct_model.state_dict()[key], atol=1e-4)


def test_an_interrupt_keeps_the_last_weights_also_with_patience(judged, tmp_path):
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt, match="goes on after epoch 2"):
        judged((0.1, 0.5, 0.6), patience=3, checkpoint=path, penalties=(stop_at(6, KeyboardInterrupt()),))
    stored = torch.load(path, weights_only=True)
    assert not equal(stored["model"], stored["best"]["model"])


@pytest.mark.parametrize("rates", [slanted_triangular, partial(warmup_cosine, warmup=0.5), lambda step, total: 0.5])
def test_the_rates_are_those_of_the_given_function(rates, run):
    _, history = run("full", rates=rates)
    assert [row["stem"] for row in history.lr] == pytest.approx([1e-2 * rates(step, 12) for step in (2, 5, 8, 11)])


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("plan", ["last", "full"])
def test_a_gpu_gives_what_the_cpu_gives(plan, run, monkeypatch):
    """In float32 to 2e-2: sums in another order, over twelve steps of AdamW; dropout off, whose draws differ."""
    from contextlib import nullcontext

    monkeypatch.setattr(training, "autocast", lambda device: nullcontext())
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)
    losses = [run(plan, device=device)[1].train_loss for device in ("cpu", "cuda")]
    assert losses[1] == pytest.approx(losses[0], abs=2e-2)


@pytest.mark.gpu
@GPU
def test_a_gpu_trains_in_bfloat16_where_it_computes_in_it(run):
    kinds = set()

    def watch(model, state, logits):
        kinds.add(logits.dtype)
        return logits.new_zeros(())

    model, history = run(penalties=(watch,), device="cuda", epochs=8)
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    assert kinds == {torch.bfloat16 if native else torch.float32}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert history.train_loss[-1] < history.train_loss[0] - 0.05


@pytest.mark.gpu
@GPU
def test_the_cache_gives_the_same_losses_on_a_gpu(run, monkeypatch):
    from contextlib import nullcontext

    monkeypatch.setattr(training, "autocast", lambda device: nullcontext())
    losses = [run("last", device="cuda", cache=cache)[1].train_loss for cache in (True, False)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)  # cuDNN may choose another algorithm for another batch


@pytest.mark.gpu
@GPU
def test_a_killed_run_resumes_on_a_gpu(run, tmp_path):
    whole, history = run(device="cuda")
    with pytest.raises(Stop):
        run(device="cuda", checkpoint=tmp_path / "run.pt", penalties=(stop_at(7, Stop()),))
    _, went_on = run(device="cuda", resume=tmp_path / "run.pt", penalties=(stop_at(None),))
    assert went_on.train_loss == pytest.approx(history.train_loss, abs=1e-3)  # atomic additions have no fixed order


SCHEDULED = [  # what returns the schedule, epochs in all, which stages move in the last epoch
    (lambda model: lp_ft(model, head_epochs=2, epochs=1, lr=1e-2), 3, {"stem", "block1", "block10", "head"}),
    (lambda model: gradual_unfreezing(model, lr=1e-2), 4, {"stem", "block1", "block10", "head"}),
]


@pytest.mark.parametrize(("make", "epochs", "moving"), SCHEDULED)
def test_the_loop_takes_what_the_strategies_return(make, epochs, moving, fresh, tiny_task):
    model = fresh()
    history = train(model, tiny_task, make(model), device="cpu", progress=False)
    assert len(history.epochs) == epochs
    assert (set(history.lr[0]), set(history.lr[-1])) == ({"head"}, moving)
    assert history.train_loss[-1] < history.train_loss[0]


@pytest.mark.parametrize("cache", [True, False])
def test_lora_is_one_more_thing_that_the_loop_trains(cache, fresh, tiny_task, tmp_path):
    """Behind the kept prefix, through a kill, and with every tensor of the base as it was."""

    def trained(**options):
        model = fresh()
        plan = lora(model, rank=2, targets=("block10/0",), lr=1e-2)
        return model, train(model, tiny_task, plan, epochs=3, cache=cache, device="cpu", progress=False, **options)

    model, history = trained()
    assert history.cached_stages == (2 if cache else 0)
    assert history.train_loss[-1] < history.train_loss[0]
    base = {name.replace(".base_layer", ""): value for name, value in model.backbone.state_dict().items()}
    assert all(torch.equal(base[name], value) for name, value in fresh().backbone.state_dict().items())
    with pytest.raises(Stop):
        trained(checkpoint=tmp_path / "run.pt", penalties=(stop_at(7, Stop()),))
    assert same(model, trained(resume=tmp_path / "run.pt", penalties=(stop_at(None),))[0])


def test_a_later_phase_may_bring_lora(fresh, tiny_task):
    model = fresh()
    phases = ((feature_extraction(model), 1), (lora(model, rank=2, targets=("block10/0",)), 1))
    history = train(model, tiny_task, phases, device="cpu", progress=False)
    assert [set(row) for row in history.lr] == [{"head"}, {"block10", "head"}]


def with_lora(model):
    return lora(model, rank=2, targets=("block10/0",), lr=1e-2)


def reset_then(model, stage):
    return Plan("anew", feature_extraction(model, lr=0.3).rules, prepare=(("reset", stage, 3),))


def test_the_prefix_is_computed_again_where_a_phase_draws_one_of_its_stages_anew(fresh, tiny_task):
    losses = {}
    for cache in (True, False):
        model = fresh()
        phases = ((feature_extraction(model, lr=0.3), 2), (reset_then(model, "block1"), 2))
        losses[cache] = train(model, tiny_task, phases, cache=cache, device="cpu", progress=False).train_loss
    assert losses[True] == pytest.approx(losses[False], abs=1e-5)


@pytest.mark.parametrize("bringing", [with_lora, lambda model: reset_then(model, "block10")])
@pytest.mark.parametrize("killed_at", [4, 7, 10])
def test_a_run_resumes_past_a_phase_that_changed_the_network(killed_at, bringing, fresh, tiny_task, tmp_path):
    def trained(**options):
        model = fresh()
        phases = ((feature_extraction(model), 1), (bringing(model), 1), (full_fine_tune(model), 2))
        return model, train(model, tiny_task, phases, device="cpu", progress=False, **options)

    whole, history = trained()
    with pytest.raises(Stop):
        trained(checkpoint=tmp_path / "run.pt", penalties=(stop_at(killed_at, Stop()),))
    resumed, went_on = trained(resume=tmp_path / "run.pt", penalties=(stop_at(None),))
    assert same(whole, resumed)
    assert went_on.train_loss == history.train_loss


def test_merged_lora_is_another_run(fresh, tiny_task, tmp_path):
    models = [fresh(), fresh()]
    for model in models:
        train(model, tiny_task, with_lora(model), epochs=1, device="cpu", progress=False)
    merge_lora(models[0])
    options = {"epochs": 2, "device": "cpu", "progress": False}
    train(models[0], tiny_task, feature_extraction(models[0]), checkpoint=tmp_path / "run.pt", **options)
    with pytest.raises(ValueError, match="LoRA merged: True there, False here"):
        train(models[1], tiny_task, feature_extraction(models[1]), resume=tmp_path / "run.pt", **options)


def scaled(model, state, logits, strength):
    return strength * logits.square().mean()


def test_a_penalty_of_another_strength_is_another_run(run, tmp_path):
    run(checkpoint=tmp_path / "run.pt", penalties=(partial(scaled, strength=1.0),))
    with pytest.raises(ValueError, match=r"scaled\(strength=1.0\) there, scaled\(strength=9.0\) here"):
        run(resume=tmp_path / "run.pt", penalties=(partial(scaled, strength=9.0),))


def test_a_model_with_one_more_head_is_another_run(fresh, run, tiny_task, tmp_path):
    run(checkpoint=tmp_path / "run.pt")
    model = fresh()
    model.add_head("other", 3)
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match=r"heads: bright \(2, 12\) there, bright \(2, 12\), other \(3, 12\) here"):
        train(model, tiny_task, PLANS["full"](model), epochs=4, head="bright", resume=tmp_path / "run.pt")
    assert same(before, model)


def test_patience_does_not_go_back_past_a_phase_that_changes_the_network(fresh, tiny_task):
    model = fresh()
    phases = ((feature_extraction(model), 2), (with_lora(model), 3))
    with pytest.raises(ValueError, match=r"patience=2 may go back to an epoch before \('lora', 2"):
        train(model, tiny_task, phases, patience=2, device="cpu", progress=False)
    history = train(model, tiny_task, ((with_lora(model), 1), (with_lora(model), 1)), patience=2, progress=False)
    assert len(history.epochs) == 2


def test_a_later_phase_may_name_what_an_earlier_one_brings(fresh, tiny_task):
    model = fresh()
    only = Plan("LoRA alone", (Rule("*lora_*", 1e-2), Rule("*", 0.0)))
    history = train(model, tiny_task, ((with_lora(model), 1), (only, 1)), device="cpu", progress=False)
    assert set(history.lr[-1]) == {"block10"}


def test_a_later_phase_that_cannot_be_prepared_is_refused_at_once(fresh, tiny_task):
    model = fresh()
    before = copy.deepcopy(model)
    phases = ((feature_extraction(model), 1), (lora(model, targets=("nothing",)), 1))
    with pytest.raises(ValueError, match="LoRA on .'nothing'."):
        train(model, tiny_task, phases, device="cpu", progress=False)
    assert same(before, model)


def test_the_record_names_the_highest_rate_of_a_stage(fresh, tiny_task):
    model = fresh()
    rules = (Rule("block10/0.weight", 1e-2), Rule("block10", 1e-4), Rule("head", 1e-3), Rule("*", 0.0))
    history = train(model, tiny_task, Plan("two rates", rules), epochs=1, rates=lambda step, total: 1.0, progress=False)
    assert history.lr == [{"block10": 1e-2, "head": 1e-3}]


def test_an_interrupt_while_writing_names_the_epoch_that_is_kept(run, tmp_path, monkeypatch):
    saves, save = itertools.count(), torch.save

    def interrupted(stored, path):
        if next(saves) == 1:
            raise KeyboardInterrupt
        save(stored, path)

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt, match="goes on after epoch 1"):
        run(checkpoint=tmp_path / "run.pt")


@pytest.mark.parametrize("epochs", [2.0, "2"])
def test_epochs_are_a_whole_number(epochs, run):
    with pytest.raises(ValueError, match=f"epochs={epochs}: a whole number, at least 1"):
        run(epochs=epochs)
    assert len(run((("last", np.int64(1)), ("full", 1)))[1].epochs) == 2
