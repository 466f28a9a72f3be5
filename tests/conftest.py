"""Backbones and tasks that several test files share: loaded once, never changed by a test."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tlcourse.backbones import Backbone, ImagePreprocessing
from tlcourse.data import make_task
from tlcourse.zoo import load_backbone


def pytest_collection_modifyitems(items):
    """A jail has a /tmp of its own, so that a Python below the real one is not to be seen in it."""
    if not Path(sys.prefix).resolve().is_relative_to("/tmp"):
        return
    reason = "the environment lies below /tmp, which is another folder in the grader's jail: put the clone elsewhere"
    quick = ("test_a_bad_seed_is_said", "test_this_machine_has_the_jails_that_continuous_integration_installs")
    for item in items:
        slow = item.path.name.startswith("test_grading_") and item.get_closest_marker("slow")
        if slow or item.name in quick:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def one_thread():
    """Tiny networks gain nothing from more, and threads that wait for each other on a busy machine cost much."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def lite0():
    return load_backbone("efficientnet_lite0")


@pytest.fixture(scope="session")
def minilm():
    return load_backbone("minilm")


@pytest.fixture(scope="session")
def tiny_backbone():
    """Four stages with every kind of layer whose mode matters; small enough to train in milliseconds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        stages = {
            "stem": nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
            "block1": nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Dropout(0.2)),
            "block10": nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Dropout(0.2)),
            "neck": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        }
    grey = (0.5, 0.5, 0.5)
    preprocessing = ImagePreprocessing(mean=grey, std=grey)
    return Backbone("tiny", stages, feature_dim=12, preprocessing=preprocessing, pretrained=False).eval()


@pytest.fixture(scope="session")
def tiny_task():
    """120 noisy images of two classes, one brighter than the other: 90 to train on."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    pixels = rng.normal(110 + 40 * labels[:, None, None, None], 40, size=(120, 1, 12, 12)).clip(0, 255)
    return make_task(
        "bright", torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(labels), class_names=("dark", "bright")
    )


@pytest.fixture(scope="session")
def lines(minilm):
    """60 lines of 2 to 20 words about sport or money: 46 to train on."""
    rng = np.random.default_rng(0)
    words = (("goal", "match", "team", "coach", "win"), ("bank", "shares", "profit", "rates", "debt"))
    labels = np.arange(60) % 2
    texts = [" ".join(rng.choice(words[label], size=rng.integers(2, 21))) for label in labels]
    tokens = minilm.preprocessing.tokenize(texts, max_length=32)
    names = ("sport", "money")
    return make_task("lines", tokens, torch.from_numpy(labels), class_names=names, preprocessing_name="minilm")


@pytest.fixture(scope="session")
def kill_rate(request):
    """Note which wrong answers of the exercises were refused with their own message; printed at the end."""
    config = request.config
    config.wrong_answers = {}

    def note(task, name, *, killed):
        config.wrong_answers[task, name] = killed

    return note


def pytest_terminal_summary(terminalreporter, config):
    found = getattr(config, "wrong_answers", {})
    if found:
        terminalreporter.write_line(
            f"exercises: {sum(found.values())} of {len(found)} wrong answers to "
            f"{len({task for task, _ in found})} tasks were refused with their own message"
        )
