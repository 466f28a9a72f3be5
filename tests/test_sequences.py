import numpy as np
import pytest
import torch

from tlcourse.data import load_task
from tlcourse.dense import dense_network
from tlcourse.evaluation import predict_probabilities
from tlcourse.penalties import without_decay
from tlcourse.remedies import Distillation, Remedy, Replay
from tlcourse.sequences import joint_reference, run_sequence, single_references, tasks_in_turn
from tlcourse.strategies import full_fine_tune

pytestmark = pytest.mark.usefixtures("one_thread")
PAIRS = [[0, 1], [4, 7], [3, 9]]


@pytest.fixture(scope="module")
def three():
    return tasks_in_turn(load_task("digits8", labels=300), PAIRS)


def plan(model):
    return without_decay(full_fine_tune(model, lr=3e-3))


def options(**changed):
    return {"backbone": dense_network(width=32, pixels=64), "plan": plan, "epochs": 4, **changed}


class Recorder(Remedy):
    """Notes what it is asked, in order, and which labels and outputs there are."""

    def __init__(self):
        self.asked = []

    def begin(self, model, *, head):
        self.asked.append(("begin", head, model.heads[head].out_features))

    def penalties(self, model, *, head):
        self.asked.append(("penalties", head))
        return ()

    def end(self, model):
        self.asked.append("end")

    def keep(self, model, task, *, head):
        self.asked.append(("keep", head, sorted(task.train.labels.unique().tolist())))


# scenario, grow -> head and outputs of each task, labels of each
SEEN = [
    ("task", True, [("task 1", 2), ("task 2", 2), ("task 3", 2)], [[0, 1]] * 3),
    ("domain", True, [("all", 2)] * 3, [[0, 1]] * 3),
    ("class", True, [("all", 2), ("all", 4), ("all", 6)], [[0, 1], [2, 3], [4, 5]]),
    ("class", False, [("all", 6)] * 3, [[0, 1], [2, 3], [4, 5]]),
]


@pytest.mark.parametrize(("scenario", "grow", "heads", "labels"), SEEN)
def test_what_a_scenario_asks(three, scenario, grow, heads, labels):
    recorder = Recorder()
    found = run_sequence(three, recorder, scenario=scenario, grow=grow, **options(epochs=1))
    wanted = []
    for (head, outputs), seen in zip(heads, labels, strict=True):
        wanted += [("begin", head, outputs), ("penalties", head), "end", ("keep", head, seen)]
    assert recorder.asked == wanted[:-1]  # after the last task nothing has to be kept
    above = np.isnan(found.R[np.triu_indices(3, k=1)])
    assert above.all() == (scenario != "domain") and not np.isnan(found.R[np.tril_indices(3)]).any()


def test_each_task_is_learnt_and_read_by_its_own_outputs(three):
    for scenario in ("task", "class"):
        R = run_sequence(three, scenario=scenario, **options(epochs=8)).R
        assert R.diagonal().min() > 0.8, scenario  # a guess: 0.5 and 0.17


def test_class_incremental_training_forgets_and_replay_holds(three):
    forgot = run_sequence(three, scenario="class", **options(epochs=8)).R
    held = run_sequence(three, Replay(60), scenario="class", **options(epochs=8)).R
    assert forgot[2, 0] < 0.5 < 0.8 < held[2, 0]


def test_a_growing_head_masks_what_has_not_come(three):
    """Only a head that has all outputs from the start learns to push down those of classes that have not come."""

    class Spread(Remedy):
        def keep(self, model, task, *, head):
            self.given = predict_probabilities(model, three[1].test.inputs, head=head)  # digits that come later

    spreads = {grow: Spread() for grow in (True, False)}
    for grow, spread in spreads.items():
        run_sequence(three[:2], spread, scenario="class", grow=grow, **options(epochs=30))
    assert spreads[True].given.shape[1] == 2 and spreads[False].given.shape[1] == 4
    assert spreads[False].given[:, 2:].sum(dim=1).mean() < 0.1  # 0.5 before training


def test_the_same_seed_gives_the_same_matrix_and_leaves_the_backbone(three):
    backbone = dense_network(width=32, pixels=64)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    runs = [run_sequence(three, **options(backbone=backbone, seed=seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0].R, runs[1].R)
    heads = [run.model.heads["task 1"].weight for run in runs]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert not torch.equal(runs[0].model.heads["task 1"].weight, runs[0].model.heads["task 2"].weight)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_distillation_in_both_kinds_of_heads(three):
    for scenario in ("task", "class"):
        found = run_sequence(three, Distillation(1.0), scenario=scenario, **options(epochs=2))
        assert np.isfinite(found.R[np.tril_indices(3)]).all() and found.kept_bytes > 0


def test_the_joint_reference_reads_by_scenario(three):
    task, domain, whole = (joint_reference(three, scenario=s, **options(epochs=8)) for s in ("task", "domain", "class"))
    assert task.shape == (3,) and (task >= whole).all()  # fewer classes to choose from, the same network
    assert whole.min() > 0.75 and domain.min() > 0.75


def test_single_references_are_the_first_task_of_a_sequence(three):
    alone = single_references(three, **options())
    assert alone[0] == run_sequence(three, **options()).R[0, 0]
    assert alone.min() > 0.9


REFUSED = [
    ({"scenario": "tasks"}, 3, "scenario='tasks': it is one of task, domain, class"),
    ({}, 0, "at least one task"),
]


@pytest.mark.parametrize(("changed", "count", "words"), REFUSED)
def test_refused(three, changed, count, words):
    with pytest.raises(ValueError, match=words):
        run_sequence(three[:count], **options(**changed))


def test_refused_tasks(three):
    task = load_task("digits8", labels=100)
    with pytest.raises(ValueError, match="class 1 occurs in two tasks"):
        tasks_in_turn(task, [[0, 1], [1, 2]])
    with pytest.raises(ValueError, match="numbers of classes differ"):
        run_sequence(tasks_in_turn(task, [[0, 1], [2, 3, 4]]), **options(scenario="domain"))
    with pytest.raises(ValueError, match="two tasks have one name"):
        run_sequence([three[0], three[0]], **options())
