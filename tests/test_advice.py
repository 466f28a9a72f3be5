from dataclasses import replace

import pytest
import torch

from tlcourse import attach_head, make_task
from tlcourse.advice import Pilot, _half, _judged, advise, recipes, rules
from tlcourse.caching import extract_features
from tlcourse.evaluation import metrics
from tlcourse.probes import fit_probe
from tlcourse.resplits import over_splits, resplit
from tlcourse.training import train

PROBE, LAST, FULL = "probe", "last 2 stages", "full fine-tuning"

# Labels, similarity, complexity -> the ranking.
RULES = [
    (60, None, "several classes", (PROBE, LAST, FULL)),
    (99, "near", "two classes", (PROBE, LAST, FULL)),
    (100, None, "several classes", (LAST, PROBE, FULL)),
    (10_000, None, "several classes", (LAST, PROBE, FULL)),
    (10_001, None, "several classes", (FULL, PROBE, LAST)),
    (500, "near", "two classes", (PROBE, LAST, FULL)),
    (500, "far", "pixels", (FULL, LAST, PROBE)),
    (500, "far", "several classes", (LAST, FULL, PROBE)),
]


@pytest.mark.parametrize(("labels", "similarity", "complexity", "expected"), RULES)
def test_rules(labels, similarity, complexity, expected):
    advice = rules(labels=labels, similarity=similarity, complexity=complexity)
    assert tuple(each.strategy for each in advice.ranking) == expected
    assert advice.kind == "rules of thumb" and advice.pilot is None
    assert all(each.expected is None and each.seconds is None for each in advice.ranking)


def test_every_rule_names_its_source_and_what_would_change_it():
    for labels, similarity, complexity, _ in RULES:
        for suggestion in rules(labels=labels, similarity=similarity, complexity=complexity).ranking:
            assert all("et al." in why or "practice" in why or why == "no rule names it" for why in suggestion.why)
    assert any("2e-5 to 5e-5" in doubt for doubt in rules(labels=50, text=True).doubts)
    assert any("near to the source" in doubt for doubt in rules(labels=50).doubts)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": 0}, "labels=0"),
        ({"labels": 9, "similarity": "close"}, "similarity='close'"),
        ({"labels": 9, "complexity": "hard"}, "complexity='hard'"),
    ],
)
def test_rules_check_their_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        rules(**wrong)


@pytest.fixture(scope="module")
def advice(tiny_task, tiny_backbone):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = advise(tiny_task, tiny_backbone)
    torch.set_num_threads(threads)
    return found


def test_the_pilot_is_probes_on_the_splits(advice, tiny_task, tiny_backbone):
    pilot = advice.pilot
    assert advice.kind == "measurements" and pilot.seeds == (0, 1, 2, 3, 4)
    for seed, score in zip(pilot.seeds, pilot.probe, strict=True):
        dealt = resplit(tiny_task, seed=seed)
        x, y = (extract_features(tiny_backbone, split.inputs) for split in (dealt.train, dealt.val))
        probe = fit_probe(x, dealt.train.labels, strengths=(pilot.strength,))
        assert score == metrics(dealt.val.labels, probe.probabilities(y))["balanced_accuracy"]
    aside = resplit(tiny_task, seed=10_000)
    x, y = (extract_features(tiny_backbone, split.inputs) for split in (aside.train, aside.val))
    assert pilot.strength == fit_probe(x, aside.train.labels, validation=(y, aside.val.labels)).C


def test_the_penalty_is_that_of_the_split_of_its_own(tiny_task, tiny_backbone, one_thread):
    """Labels by chance ask for the strongest one, with which the scores are not those of a weak one."""
    inputs, labels = _whole(tiny_task)
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    task = make_task("chance", inputs, shuffled, class_names=("dark", "bright"))
    pilot = advise(task, tiny_backbone, seeds=(0, 1, 2)).pilot

    def scores(strength):
        found = []
        for seed in pilot.seeds:
            dealt = resplit(task, seed=seed)
            x, y = (extract_features(tiny_backbone, split.inputs) for split in (dealt.train, dealt.val))
            probe = fit_probe(x, dealt.train.labels, strengths=(strength,))
            found.append(metrics(dealt.val.labels, probe.probabilities(y))["balanced_accuracy"])
        return tuple(found)

    assert pilot.strength < 1 and pilot.probe == scores(pilot.strength) != scores(1.0)


def test_what_was_not_tried_has_no_score_and_everything_a_cost(advice):
    by_name = {each.strategy: each for each in advice.ranking}
    assert by_name[PROBE].expected == over_splits(advice.pilot.probe)
    assert by_name[LAST].expected is by_name[FULL].expected is None
    assert all(each.seconds > 0 and each.memory > 0 for each in advice.ranking)
    assert by_name[PROBE].memory < by_name[LAST].memory < by_name[FULL].memory
    assert "not tried" in str(advice) and "advice from measurements" in str(advice)


def test_the_test_split_is_not_opened(tiny_task, tiny_backbone, advice, one_thread):
    spoilt = replace(tiny_task, test=None)
    assert advise(spoilt, tiny_backbone).pilot == advice.pilot


def test_nothing_is_changed_and_nothing_random_is_left(tiny_task, tiny_backbone, one_thread):
    before = {name: value.clone() for name, value in tiny_backbone.state_dict().items()}
    state = torch.random.get_rng_state()
    advise(tiny_task, tiny_backbone, seeds=(0, 1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in tiny_backbone.state_dict().items())


def test_the_distance_is_from_the_reference(tiny_task, tiny_backbone, one_thread):
    features = extract_features(tiny_backbone, tiny_task.train.inputs)
    near = advise(tiny_task, tiny_backbone, seeds=(0, 1), reference=features).pilot.a_distance
    far = advise(tiny_task, tiny_backbone, seeds=(0, 1), reference=features + 5).pilot.a_distance
    assert near.value < 0.7 < 1.8 < far.value


def test_every_split_keeps_groups_together(tiny_task, tiny_backbone, one_thread, monkeypatch):
    groups, dealt = torch.arange(120) // 4, []  # of four, two a class

    def noting(*arguments, **options):
        dealt.append(resplit(*arguments, **options))
        return dealt[-1]

    monkeypatch.setattr("tlcourse.advice.resplit", noting)
    task = make_task("groups", *_whole(tiny_task), class_names=("dark", "bright"), groups=groups)
    advise(task, tiny_backbone, seeds=(0, 1), groups=groups)
    assert len(dealt) == 3
    for part in dealt:
        assert not set(groups[part.train.index].tolist()) & set(groups[part.val.index].tolist())


def _whole(task):
    splits = (task.train, task.val, task.test)
    order = torch.cat([split.index for split in splits]).argsort()
    return torch.cat([split.inputs for split in splits])[order], torch.cat([split.labels for split in splits])[order]


def pilot(probe=0.8, half=0.8, earlier=0.7, spread=0.001, a_distance=None):
    def around(mean):
        return tuple(mean + spread * step for step in (-1, 0, 1))

    # The half and the earlier one do not move with the probe: their differences have a spread.
    return Pilot((0, 1, 2), around(probe), (half,) * 3, (earlier,) * 3, 0.1, 0.0, 0.5, a_distance)


# What was measured -> the order, and a word of each doubt that must be there.
JUDGED = {
    "nothing left": (pilot(0.99, half=0.99), 300, (PROBE, LAST, FULL), "rules of thumb put last 2 stages"),
    "few": (pilot(), 60, (PROBE, LAST, FULL), "more than 100 labels"),
    "some": (pilot(), 300, (LAST, FULL, PROBE), "a trial"),
    "late stages harm": (pilot(0.8, earlier=0.9), 300, (FULL, LAST, PROBE), "a trial"),
    "rising": (pilot(0.8, half=0.7), 300, (LAST, FULL, PROBE), "more labels: from half of them"),
    "wide": (pilot(spread=0.05), 300, (LAST, FULL, PROBE), "the probe's interval is"),
}


@pytest.mark.parametrize("case", JUDGED)
def test_the_judgement_follows_what_was_measured(case):
    measured, labels, order, doubt = JUDGED[case]
    images = torch.zeros(round(labels * 1.3), 1, 2, 2, dtype=torch.uint8)
    task = make_task("t", images, torch.arange(len(images)) % 3, class_names=tuple("abc"))
    pool = len(task.train) + len(task.val)
    assert (pool < 100) == (labels < 100)
    found, why, doubts = _judged(task, measured)
    assert found == order and any(doubt in said for said in doubts) and set(why) == set(order)
    assert (case == "rising") == any("still rose" in said for said in doubts)
    assert (case == "wide") == any("interval is" in said for said in doubts)


def test_half_of_the_labels_keeps_the_shares(tiny_task):
    half = _half(tiny_task.train)
    assert half.labels.bincount().tolist() == [-(-n // 2) for n in tiny_task.train.labels.bincount().tolist()]
    assert set(half.index.tolist()) < set(tiny_task.train.index.tolist())


def test_every_recipe_can_be_trained(tiny_task, tiny_backbone, one_thread):
    for name, recipe in recipes(attach_head(tiny_backbone, tiny_task)).items():
        history = train(attach_head(tiny_backbone, tiny_task), tiny_task, recipe.plan, epochs=1, progress=False)
        assert (history.cached_stages > 0) == (name != FULL)


def test_rates_of_texts_are_those_of_bert(minilm, lines):
    plans = recipes(attach_head(minilm, lines))
    rates = {rule.lr for rule in plans[FULL].plan.rules if rule.pattern != "head"}
    assert rates <= {2e-5, 3e-5, 5e-5} and plans[FULL].epochs == 3


def test_one_split_is_not_enough(tiny_task, tiny_backbone):
    with pytest.raises(ValueError, match=r"1 split\(s\): an interval needs at least 2"):
        advise(tiny_task, tiny_backbone, seeds=(0,))


def test_a_backbone_that_cannot_read_the_task_is_refused(tiny_task, minilm):
    with pytest.raises(ValueError, match="holds images, but backbone 'minilm' reads texts"):
        advise(tiny_task, minilm)
