import random

import numpy as np
import pytest
import torch

from tlcourse import runtime

DEVICES = [  # argument, TLCOURSE_DEVICE, type
    ("cpu", None, "cpu"),
    ("meta", None, "meta"),
    (None, "cpu", "cpu"),
    (None, "meta", "meta"),
    ("cpu", "meta", "cpu"),  # the argument wins
    (torch.device("cpu"), None, "cpu"),
]
REFUSED = [  # argument, what the message must hold
    ("gpu0", ["unknown device 'gpu0'", "'cuda', 'mps' or 'cpu'"]),
    ("cuda", ["'cuda'", "finds none", "tlcourse doctor"]),
    ("cuda:1", ["'cuda:1'", "finds none"]),
    ("mps", ["'mps'", "finds none"]),
]
BEST = [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")]


def machine(monkeypatch, *, cuda, mps):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.delenv("TLCOURSE_DEVICE", raising=False)


@pytest.mark.parametrize(("name", "variable", "kind"), DEVICES)
def test_the_argument_then_the_variable_name_the_device(monkeypatch, name, variable, kind):
    machine(monkeypatch, cuda=True, mps=True)
    if variable:
        monkeypatch.setenv("TLCOURSE_DEVICE", variable)
    assert runtime.pick_device(name).type == kind


def test_an_empty_variable_names_no_device(monkeypatch):
    machine(monkeypatch, cuda=False, mps=False)
    monkeypatch.setenv("TLCOURSE_DEVICE", "")
    assert runtime.pick_device().type == "cpu"


@pytest.mark.parametrize(("cuda", "mps", "kind"), BEST)
def test_the_fastest_device_is_the_default(monkeypatch, cuda, mps, kind):
    machine(monkeypatch, cuda=cuda, mps=mps)
    assert runtime.pick_device().type == kind


@pytest.mark.parametrize(("name", "words"), REFUSED)
def test_a_device_that_is_not_there_is_a_clear_error(monkeypatch, name, words):
    machine(monkeypatch, cuda=False, mps=False)
    with pytest.raises(RuntimeError) as error:
        runtime.pick_device(name)
    assert all(word in str(error.value) for word in words)


def test_a_second_card_where_there_is_one(monkeypatch):
    machine(monkeypatch, cuda=True, mps=False)
    with pytest.raises(RuntimeError, match=r"'cuda:1': this machine has 1 CUDA"):
        runtime.pick_device("cuda:1")


def test_one_seed_gives_the_same_draws_everywhere():
    def draws(seed):
        runtime.seed_everything(seed)
        return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002 - the global state is meant

    assert draws(3) == draws(3)
    assert all(a != b for a, b in zip(draws(3), draws(4), strict=True))


def test_seeded_draws_are_the_seeds_and_leave_the_state_alone(monkeypatch):
    def refuse(*seed):
        raise AssertionError("every card was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    before = torch.get_rng_state()
    draws = []
    for seed in (3, 3, 4):
        with runtime.seeded(seed, torch.device("cpu")):
            draws.append(torch.rand(1).item())
    assert draws[0] == draws[1] != draws[2]
    with pytest.raises(ZeroDivisionError), runtime.seeded(3):
        torch.rand(1).item() / 0
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_beyond_32_bits_is_taken():
    runtime.seed_everything(2**40 + 1)


def test_the_cpu_computes_in_float32():
    with runtime.autocast(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_on_cards_that_have_it_alone(monkeypatch, native):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: asked.append((args, options)))
    runtime.autocast(torch.device("cuda"))
    assert asked == ([(("cuda",), {"dtype": torch.bfloat16})] if native else [])


def test_the_cache_folder_is_the_users_choice(monkeypatch, tmp_path):
    import platformdirs

    monkeypatch.setenv("TLCOURSE_CACHE", str(tmp_path))
    assert runtime.cache_dir() == tmp_path
    monkeypatch.setenv("TLCOURSE_CACHE", "off")
    assert runtime.cache_dir() is None
    for unset in (lambda: monkeypatch.setenv("TLCOURSE_CACHE", ""), lambda: monkeypatch.delenv("TLCOURSE_CACHE")):
        unset()
        assert str(runtime.cache_dir()) == platformdirs.user_cache_dir("tlcourse")


@pytest.mark.parametrize(("value", "shown"), [("0", False), ("1", True), (None, True)])
def test_progress_bars_can_be_switched_off(monkeypatch, value, shown):
    monkeypatch.delenv("TLCOURSE_PROGRESS", raising=False)
    if value is not None:
        monkeypatch.setenv("TLCOURSE_PROGRESS", value)
    assert runtime.show_progress() is shown
