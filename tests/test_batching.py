import math

import pytest
import torch

from tlcourse.backbones import attach_head
from tlcourse.batching import bucketed_order
from tlcourse.strategies import feature_extraction, last_stages
from tlcourse.training import train

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = [(1, 4), (7, 3), (100, 8), (64, 32), (33, 100), (500, 16)]


def order_of(lengths, batch_size, seed=0, **options):
    return bucketed_order(lengths, batch_size, torch.Generator().manual_seed(seed), **options)


def padding(lengths, order):
    taken = sum(len(batch) * int(lengths[batch].max()) for batch in order)
    return 1 - int(lengths.sum()) / taken


@pytest.mark.parametrize(("samples", "batch_size"), SIZES)
def test_every_sample_comes_once_in_batches_of_even_size(samples, batch_size):
    lengths = torch.randint(1, 60, (samples,), generator=torch.Generator().manual_seed(1))
    order = order_of(lengths, batch_size, window=3)
    assert sorted(torch.cat(order).tolist()) == list(range(samples))
    plain = torch.arange(samples).tensor_split(math.ceil(samples / batch_size))
    assert sorted(map(len, order)) == sorted(map(len, plain))
    assert max(map(len, order)) <= batch_size


def test_padding_falls_and_chance_stays():
    lengths = torch.randint(1, 60, (512,), generator=torch.Generator().manual_seed(1))
    plain = torch.randperm(512, generator=torch.Generator().manual_seed(2)).split(16)
    first, again, other = (order_of(lengths, 16, seed) for seed in (0, 0, 1))
    assert padding(lengths, first) < padding(lengths, plain) / 3
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert {frozenset(batch.tolist()) for batch in first} != {frozenset(batch.tolist()) for batch in other}
    longest = [int(lengths[batch].max()) for batch in first]
    assert longest[:16] != sorted(longest[:16])  # short texts do not all come first


@pytest.mark.parametrize("window", [1, 2, 3, 8])
def test_texts_are_sorted_within_a_window_and_no_further(window):
    """The oracle: the same shuffle, cut into 8 batches; those of a window are sorted together and cut again."""
    lengths = torch.randint(1, 60, (61,), generator=torch.Generator().manual_seed(1))
    plain = torch.randperm(61, generator=torch.Generator().manual_seed(5)).tensor_split(8)
    wanted = []
    for start in range(0, 8, window):
        rows = sorted(torch.cat(plain[start : start + window]).tolist(), key=lambda row: lengths[row].item())
        for batch in plain[start : start + window]:
            wanted.append(sorted(lengths[rows[: len(batch)]].tolist()))
            rows = rows[len(batch) :]
    found = [sorted(lengths[batch].tolist()) for batch in order_of(lengths, 8, 5, window=window)]
    assert sorted(found) == sorted(wanted)


def test_an_order_leaves_the_global_random_state():
    before = torch.get_rng_state()
    order_of(torch.arange(40), 4)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 4, "window": 0}])
def test_sizes_below_one_are_refused(options):
    with pytest.raises(ValueError, match="=0: at least 1 is needed"):
        bucketed_order(torch.ones(4).long(), generator=torch.Generator(), **options)


def test_training_in_buckets_learns_and_the_cache_changes_nothing(minilm, lines):
    losses, seen = {}, {}

    def counted(model, state, logits):
        seen.setdefault((bucket, cache), []).append(state.mask.sum(dim=1).tolist())
        return logits.new_zeros(())

    for bucket, cache in ((True, True), (True, False), (False, True)):
        model = attach_head(minilm, lines)
        plan = last_stages(model, 1, lr=1e-4, head_lr=1e-2)
        options = {"bucket": bucket, "cache": cache, "penalties": (counted,), "progress": False}
        history = train(model, lines, plan, epochs=2, batch_size=16, **options)
        losses[bucket, cache] = history.train_loss
        assert history.train_loss[1] < history.train_loss[0]
    assert losses[True, True] == pytest.approx(losses[True, False], abs=1e-5)
    assert losses[True, True] != losses[False, True]
    taken = {key: sum(len(batch) * max(batch) for batch in batches) for key, batches in seen.items()}
    assert seen[True, True] == seen[True, False]
    assert taken[True, True] < 0.85 * taken[False, True]  # with less padding
    assert seen[True, True][:3] != seen[True, True][3:]  # three batches an epoch, of other texts in the next one


def test_images_have_no_lengths(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    with pytest.raises(ValueError, match="'bright' holds images, which have no lengths"):
        train(model, tiny_task, feature_extraction(model), bucket=True, progress=False)
