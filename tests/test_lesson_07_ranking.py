"""What the experiment of lesson 07 ranks, what it returns, and one drawn point again."""

import copy
import math

import numpy as np
import pytest
import torch

from tlcourse.backbones import Backbone, Model
from tlcourse.caching import extract_features
from tlcourse.data import load_task
from tlcourse.evaluation import evaluate
from tlcourse.experiments import ranking
from tlcourse.experiments.lesson07_ranking import RANKING
from tlcourse.experiments.ranking import CLASSIFIERS, CUTS, SOURCES, TRUTH, UNTRAINED, WHOLE, candidate, source_task
from tlcourse.hierarchy import stage_features
from tlcourse.results import load_results
from tlcourse.transferability import leep, logme, nce

ALL = (*CUTS, *UNTRAINED, *SOURCES)
# source -> classes, side of its images
TASKS = {
    "small, 2 digits": (2, 28),
    "small, 10 digits": (10, 28),
    "small, world at 0 %": (8, 32),
    "small, world at 100 %": (8, 32),
    "small, orientation world": (4, 32),
}
EVERY = {"logme", "h_score", "h_score_plain", "probe_val", "probe"}


@pytest.fixture(scope="module")
def images():
    return load_task("digits", labels=10, seed=0).train.inputs


@pytest.fixture
def few(monkeypatch):
    """Everything as in the experiment, but 20 labels and one pass over them and over the source."""
    monkeypatch.setattr(ranking, "LABELS", 20)
    monkeypatch.setattr(ranking, "EPOCHS", 1)
    monkeypatch.setattr(ranking, "IMAGES_SEEN", 1)
    candidate.cache_clear()
    yield
    candidate.cache_clear()


@pytest.fixture
def nothing_kept():
    """Tasks and features with 20 labels stay from test to test; the experiment's own have more."""
    for kept in (candidate, ranking._target, ranking._features_of_cuts):
        kept.cache_clear()


@pytest.mark.parametrize(("place", "name"), list(enumerate(CUTS[:-1])))
def test_a_cut_puts_out_the_mean_over_space_of_its_stage(lite0, images, place, name):
    stage = list(lite0.stages)[place]
    expected = stage_features(lite0, images)[stage]
    cut = candidate(name, seed=0)
    assert name.endswith(stage) and cut.pretrained and cut.feature_dim == expected.shape[1]
    torch.testing.assert_close(extract_features(cut, images), expected)


def test_the_whole_network_says_what_imagenet_taught_it(lite0, images):
    import timm

    from tlcourse.sources import package_path

    model = candidate(WHOLE, seed=0)
    reference = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    packaged = torch.load(package_path("efficientnet_lite0"), map_location="cpu", weights_only=True)
    reference.load_state_dict(dict(zip(reference.state_dict(), packaged.values(), strict=True)))
    with torch.no_grad():
        expected = reference(lite0.preprocessing(images))
        torch.testing.assert_close(model(images, head="source"), expected, atol=1e-4, rtol=1e-4)


def test_those_without_training_are_drawn_from_the_seed(images):
    for name in UNTRAINED:
        one, again, other = (extract_features(candidate(name, seed=seed), images) for seed in (0, 0, 1))
        assert torch.equal(one, again) and not torch.equal(one, other)
        assert not candidate(name, seed=0).pretrained


@pytest.mark.parametrize(("name", "expected"), TASKS.items())
def test_sources_differ_in_their_classes(name, expected):
    task = source_task(name, seed=3)
    assert (len(task.class_names), task.train.inputs.shape[-1]) == expected
    assert task.train.inputs.dtype == torch.uint8
    assert task.train.labels.unique().tolist() == list(range(expected[0]))


def test_digits_of_fewer_classes_are_among_those_of_more():
    few, more = (set(source_task(f"small, {count} digits", seed=1).class_names) for count in (2, 5))
    assert few < more
    assert few != set(source_task("small, 2 digits", seed=2).class_names)


def test_enlarged_digits_are_the_same_pictures():
    small, large = load_task("digits8", seed=0), source_task("small, 10 digits", seed=0)
    assert torch.equal(small.test.labels, large.test.labels)
    blocks = large.test.inputs.float().unfold(2, 7, 7).unfold(3, 7, 7).mean(dim=(-2, -1))  # (n, 1, 4, 4)
    halves = small.test.inputs.float().unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(-2, -1))
    assert np.corrcoef(blocks.flatten(), halves.flatten())[0, 1] > 0.97


def test_a_network_learns_its_source(one_thread):
    name = "small, world at 50 %"
    model = candidate(name, seed=0)
    assert evaluate(model, source_task(name, seed=0).test, head="source")["accuracy"] > 0.6  # chance is 1 in 8


@pytest.mark.parametrize("name", ["no such", "Lite0 to block8", "small, 4 digits"])
def test_unknown_candidates_are_refused(name):
    with pytest.raises(KeyError, match=r"no s|there are"):
        candidate(name, seed=0)


@pytest.mark.parametrize("name", ["Lite0 to block1", "untrained small", "small, 2 digits"])
def test_a_point_foretells_before_it_trains(few, one_thread, name):
    scores = ranking.run_candidate(name, "digits", tuned=False, seed=3)
    more = {"leep", "nce", "source_accuracy"} if name in SOURCES else set()
    assert set(scores) == EVERY | more
    assert all(math.isfinite(value) for value in scores.values())
    network, task = candidate(name, seed=3), load_task("digits", labels=20, seed=3)
    backbone = network.backbone if isinstance(network, Model) else network
    assert scores["logme"] == logme(extract_features(backbone, task.train.inputs), task.train.labels)
    if name in SOURCES:
        with torch.no_grad():
            p = network(task.train.inputs, head="source").softmax(dim=1)
        assert scores["leep"] == pytest.approx(leep(p, task.train.labels))
        assert scores["nce"] == pytest.approx(nce(p.argmax(dim=1), task.train.labels))


@pytest.mark.parametrize("name", ["Lite0 to stem", "small, 2 digits"])
def test_a_fine_tune_leaves_the_candidate_as_it_was(few, one_thread, name):
    network = candidate(name, seed=3)
    before = copy.deepcopy(network.state_dict())
    ranking.run_candidate(name, "digits", tuned=True, seed=3)
    assert candidate(name, seed=3) is network
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_everything_is_tuned_and_the_test_split_opened_once(few, one_thread, monkeypatch):
    tuned = []
    monkeypatch.setattr(ranking, "evaluate", lambda *found: tuned.append(found) or {"balanced_accuracy": 0.5})
    assert ranking.run_candidate("Lite0 to block1", "digits", tuned=True, seed=3)["fine_tuned"] == 0.5
    ((model, split),) = tuned
    assert torch.equal(split.labels, load_task("digits", seed=3).test.labels)
    assert not model.frozen_stages
    start = candidate("Lite0 to block1", seed=3).state_dict()
    assert all(not torch.equal(value, start[key]) for key, value in model.backbone.named_parameters())


def test_without_bound_is_kept_as_the_largest_number(few, one_thread, monkeypatch):
    monkeypatch.setattr(ranking, "logme", lambda features, labels: math.inf)
    assert ranking.run_candidate("Lite0 to stem", "digits", tuned=False, seed=3)["logme"] == ranking.NO_BOUND


def test_at_least_eight_candidates_and_eight_with_a_classifier():
    assert len(set(ALL)) == len(ALL) >= 8
    assert len(CLASSIFIERS) >= 8 and set(CLASSIFIERS) <= set(ALL)
    for target in TRUTH:
        assert {setting["name"] for setting in RANKING.settings if setting["target"] == target} == set(ALL)
        assert {setting["tuned"] for setting in RANKING.settings if setting["target"] == target} == {target == "digits"}


@pytest.mark.parametrize("name", CUTS)
def test_what_has_a_classifier_is_a_model(name):
    assert isinstance(candidate(name, seed=0), Model if name in CLASSIFIERS else Backbone)


@pytest.mark.slow
def test_a_point_that_is_run_again_falls_among_the_kept_ones(nothing_kept, one_thread):
    """Not close to its own seed, as `Kept.rerun` asks: another processor moves single runs at the usual rate far."""
    kept = load_results(RANKING)
    setting, seed = kept.drawn()
    live = ranking.run_candidate(seed=seed, **setting)
    assert set(live) == set(kept.points(**setting)[0]["scores"])
    for metric, value in live.items():
        scores = kept.scores(metric, **setting)
        low, high = scores.prediction_interval(0.99)
        floor = 0.002 * abs(scores.mean)
        assert low - floor <= value <= high + floor, (metric, setting, seed)
