"""Lesson 11: its own functions, and the recipes that it mends."""

import inspect
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_images

from tests.lesson_functions import cut_out
from tlcourse.towers import imagenet_head, join_towers, rank_of_own


def scores(order, texts, weights, *, strength=1.0):
    score = cut_out(
        "11",
        "found_by_name",
        join_towers=join_towers,
        rank_of_own=rank_of_own,
        head=type("H", (), {"weights": weights}),
    )
    return score(texts, order[:30], order[30:], strength)


def test_classes_are_found_by_name_where_names_tell_their_place_and_not_where_they_are_dealt():
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(60, 4, generator=generator)
    weights = texts @ torch.randn(4, 9, generator=generator)
    order = torch.randperm(60, generator=generator)
    assert scores(order, texts, weights, strength=1e-6) == 1.0
    dealt = texts[torch.randperm(60, generator=generator)]
    assert scores(order, dealt, weights, strength=1e-6) < 0.2


def test_the_strength_is_chosen_without_the_classes_that_are_scored():
    seen = []

    def found_by_name(texts, fit, held_out, strength):
        seen.append((fit.tolist(), held_out.tolist(), strength))
        return -abs(strength - 10.0)

    tuned = cut_out("11", "tuned", found_by_name=found_by_name, STRENGTHS=(1.0, 10.0, 100.0))
    tuned(torch.zeros(1000, 1), torch.arange(1000))
    *chosen, last = seen
    assert all((fit, held_out) == (list(range(600)), list(range(600, 800))) for fit, held_out, _ in chosen)
    assert last == (list(range(800)), list(range(800, 1000)), 10.0)


def test_pieces_come_from_both_photographs_and_depend_on_the_seed():
    names = {"np": np, "torch": torch, "F": F, "load_sample_images": load_sample_images}
    pieces = cut_out("11", "pieces", **names)
    first = pieces(0, count=3, side=32)
    assert (first.shape, first.dtype) == ((6, 3, 32, 32), torch.uint8)
    assert torch.equal(first, pieces(0, count=3, side=32))
    assert not torch.equal(first, pieces(1, count=3, side=32))
    red, blue = (first.float().mean(dim=(2, 3))[:, channel] for channel in (0, 2))
    assert (blue[:3] > red[:3] - 60).all()
    assert (red[3:] > blue[3:]).any()


def test_all_classes_compete_in_the_trap():
    """With names that say everything, the own row is nearest among all; with none, a seen one is."""
    weights = torch.eye(1000, 40) + 0.1 * torch.randn(1000, 40, generator=torch.Generator().manual_seed(0))
    head = type("H", (), {"weights": weights})
    space = {"torch": torch, "F": F, "join_towers": join_towers, "head": head, "STRENGTH": 1.0}
    found = cut_out("11", "among_all", words={"all synonyms": weights}, **space)(0)
    assert found["found"] > 0.5
    nothing = cut_out("11", "among_all", words={"all synonyms": torch.zeros(1000, 3)}, **space)(0)
    assert nothing["found"] < 0.05


def test_no_class_is_called_building_or_plant():
    synonyms = {word.strip().lower() for name in imagenet_head().names for word in name.split(",")}
    assert not {"building", "plant"} & synonyms
    assert {"palace", "daisy"} <= synonyms


def test_an_end_is_told_by_its_class():
    how_it_ends = cut_out("11", "how_it_ends", warnings=warnings)
    assert how_it_ends(lambda: None) == "runs"
    assert how_it_ends(lambda: {}["a"]) == "KeyError: 'a'"
    assert how_it_ends(lambda: warnings.warn("old", UserWarning, stacklevel=1)) == "warns, and is to go"


@pytest.mark.parametrize(
    ("of", "old", "now"),
    [("TrainingArguments", "evaluation_strategy", "eval_strategy"), ("Trainer", "tokenizer", "processing_class")],
)
def test_the_mended_arguments_are_those_of_this_version(of, old, now):
    import transformers

    names = inspect.signature(getattr(transformers, of).__init__).parameters
    assert now in names
    assert old not in names
