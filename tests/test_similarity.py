import itertools

import numpy as np
import pytest
import torch

from tlcourse.similarity import MinibatchCKA, cka_matrix, linear_cka

SHAPES = [(4, 1, 1), (6, 3, 2), (7, 5, 9), (9, 20, 4)]  # samples, width, width
UNPAIRED = [  # shapes, words of the refusal
    (((10, 3), (9, 3)), "X has 10 rows and Y has 9: row i of both must be the same sample"),
    (((10, 3, 2), (10, 3)), r"X must be \(samples, width\), not \(10, 3, 2\)"),
    (((10, 3), (10,)), r"Y must be \(samples, width\), not \(10,\)"),
    (((0, 2), (0, 2)), "X holds no samples"),
    (((3, 2), (3, 2)), r"3 sample\(s\): debiased CKA needs at least 4"),
]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal(width, *, seed=0):
    return torch.linalg.qr(normal(width, width, seed=seed))[0]


def slow_debiased_hsic(k, l):  # noqa: E741
    """Song et al. 2012, section 3: the mean over distinct samples of what HSIC is the expectation of."""
    n = len(k)
    pairs = np.mean([k[i, j] * l[i, j] for i, j in itertools.permutations(range(n), 2)])
    fours = np.mean([k[i, j] * l[q, r] for i, j, q, r in itertools.permutations(range(n), 4)])
    threes = np.mean([k[i, j] * l[i, q] for i, j, q in itertools.permutations(range(n), 3)])
    return pairs + fours - 2 * threes


def slow_biased_hsic(k, l):  # noqa: E741
    """Kornblith et al. 2019, equation 3, with the centring written out."""
    n = len(k)
    h = np.eye(n) - 1 / n
    return np.trace(k @ h @ l @ h) / (n - 1) ** 2


def slow_cka(x, y, hsic):
    k, l = (x @ x.T).numpy(), (y @ y.T).numpy()  # noqa: E741
    return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))


@pytest.mark.parametrize("form", ["features", "gram", None])
@pytest.mark.parametrize(("n", "p", "q"), SHAPES)
def test_both_forms_are_the_definition(n, p, q, form):
    x = normal(n, p) + 2
    y = normal(n, q, seed=1) + x[:, :1] - 5
    for debiased, hsic in ((True, slow_debiased_hsic), (False, slow_biased_hsic)):
        assert linear_cka(x, y, debiased=debiased, form=form) == pytest.approx(slow_cka(x, y, hsic), abs=1e-10)


@pytest.mark.parametrize("debiased", [True, False])
def test_it_ignores_rotation_scale_and_shift_and_nothing_else(debiased):
    x = normal(60, 8)
    y = x[:, :3] + 0.5 * normal(60, 3, seed=1)
    assert linear_cka(x, x, debiased=debiased) == pytest.approx(1)
    value = linear_cka(x, y, debiased=debiased)
    assert 0.1 < value < 0.9
    turned = 7 * x @ orthogonal(8) + normal(8, seed=2)
    assert linear_cka(turned, y, debiased=debiased) == pytest.approx(value)
    assert linear_cka(y, turned, debiased=debiased) == pytest.approx(value)
    stretched = x @ torch.diag(torch.tensor([1, 1, 1, 1, 1, 1, 1, 30.0]).double())  # invertible, but not a rotation
    assert abs(linear_cka(stretched, y, debiased=debiased) - value) > 0.05


def test_independent_features_are_unrelated_only_when_debiased():
    """Mean of 20 draws, n 40, p = q = 200: the biased value has the floor p / (p + n), the debiased one none."""
    draws = [(normal(40, 200, seed=2 * draw), normal(40, 200, seed=2 * draw + 1)) for draw in range(20)]
    biased = [linear_cka(x, y, debiased=False) for x, y in draws]
    debiased = [linear_cka(x, y) for x, y in draws]
    assert np.mean(biased) == pytest.approx(200 / 240, abs=0.03)
    assert abs(np.mean(debiased)) < 3 * np.std(debiased, ddof=1) / 20**0.5 + 1e-3
    assert np.mean(debiased) < 0.05


def test_what_does_not_vary_is_refused():
    x = normal(10, 3)
    for constant in (torch.full((10, 4), 0.1), torch.zeros(10, 4), torch.full((10, 4), 1e6)):
        with pytest.raises(ValueError, match="Y does not vary"):
            linear_cka(x, constant)
        with pytest.raises(ValueError, match="X does not vary"):
            linear_cka(constant, x, debiased=False)
    lonely = torch.zeros(10, 4)
    lonely[3] = 1
    with pytest.raises(ValueError, match="Y does not vary between the samples .or one alone differs"):
        linear_cka(x, lonely)


def test_small_differences_on_a_large_mean_still_count():
    x = normal(30, 5)
    assert linear_cka((1e3 + 1e-2 * x).float(), x) > 0.999


@pytest.mark.parametrize(("shapes", "words"), UNPAIRED)
def test_samples_that_do_not_pair_are_refused(shapes, words):
    with pytest.raises(ValueError, match=words):
        linear_cka(*(normal(*shape) for shape in shapes))


def test_what_is_no_number_and_no_form_is_refused():
    x = normal(10, 3)
    x[2, 1] = float("nan")
    with pytest.raises(ValueError, match="Y holds 1 values that are not finite"):
        linear_cka(normal(10, 3), x)
    with pytest.raises(ValueError, match="form='grams': use 'features', 'gram'"):
        linear_cka(normal(10, 3), normal(10, 3), form="grams")


def test_the_inputs_stay_as_they_are():
    x, y = normal(10, 3).requires_grad_(), normal(10, 2, seed=1)
    before = x.detach().clone(), y.clone()
    linear_cka(x, y)
    linear_cka(x, y, form="gram")
    assert torch.equal(x.detach(), before[0])
    assert torch.equal(y, before[1])


@pytest.mark.parametrize("debiased", [True, False])
def test_the_matrix_holds_every_pair_in_order(debiased):
    a = {"late": normal(12, 3), "early": normal(12, 5, seed=1)}
    b = {"early": a["early"] * 2, "odd": normal(12, 2, seed=2), "wide": normal(12, 40, seed=3)}
    matrix = cka_matrix(a, b, debiased=debiased)
    for i, x in enumerate(a.values()):
        for j, y in enumerate(b.values()):
            assert matrix[i, j].item() == pytest.approx(linear_cka(x, y, debiased=debiased))
    assert matrix.shape == (2, 3)
    assert matrix[1, 0].item() == pytest.approx(1)


def test_the_matrix_names_what_is_wrong():
    x = normal(12, 3)
    with pytest.raises(ValueError, match="stem has 12 rows and neck has 8"):
        cka_matrix({"stem": x}, {"neck": normal(8, 3)})
    with pytest.raises(ValueError, match="neck does not vary"):
        cka_matrix({"stem": x}, {"neck": torch.ones(12, 2)})
    with pytest.raises(ValueError, match=r"features_b\['neck'\] must be"):
        cka_matrix({"stem": x}, {"neck": torch.ones(12, 2, 2)})
    with pytest.raises(ValueError, match=r"3 sample\(s\)"):
        cka_matrix({"stem": x[:3]}, {"neck": x[:3]})


def test_batches_give_the_mean_of_each_alignment_over_them():
    x = normal(18, 5)
    y = x[:, :2] + normal(18, 2, seed=1)
    parts = [slice(0, 8), slice(8, 14), slice(14, 18)]
    cka, means = MinibatchCKA(), np.zeros(3)
    for part in parts:
        cka.add(x[part], y[part])
        k, l = (x[part] @ x[part].T).numpy(), (y[part] @ y[part].T).numpy()  # noqa: E741
        means += len(k) / 18 * np.array([slow_debiased_hsic(a, b) for a, b in ((k, l), (k, k), (l, l))])
    assert cka.value() == pytest.approx(means[0] / np.sqrt(means[1] * means[2]))


def test_one_batch_is_the_whole_and_maps_are_flattened():
    maps, y = normal(10, 3, 4, 4), normal(10, 6, seed=1)
    cka = MinibatchCKA()
    cka.add(maps, y)
    assert cka.value() == pytest.approx(linear_cka(maps.flatten(1), y))


def test_batches_approach_the_value_of_all_samples():
    x = normal(2000, 6)
    y = x @ normal(6, 4, seed=1) + normal(2000, 4, seed=2)
    cka = MinibatchCKA()
    biased = []
    for rows in torch.arange(2000).split(20):
        cka.add(x[rows], y[rows])
        biased.append(linear_cka(x[rows], y[rows], debiased=False))
    whole = linear_cka(x, y)
    assert cka.value() == pytest.approx(whole, abs=0.02)
    assert np.mean(biased) > whole + 0.04  # so that a biased sum over batches could not pass


def test_batches_are_checked_too():
    cka = MinibatchCKA()
    with pytest.raises(ValueError, match="no batch was added"):
        cka.value()
    with pytest.raises(ValueError, match=r"y must be \(samples, width\), not \(5,\)"):
        cka.add(normal(5, 2), normal(5))
    with pytest.raises(ValueError, match="x holds no samples"):
        cka.add(normal(0, 2, 3, 3), normal(0, 2))
    with pytest.raises(ValueError, match="X has 5 rows and Y has 6"):
        cka.add(normal(5, 2), normal(6, 2))
    with pytest.raises(ValueError, match="needs at least 4"):
        cka.add(normal(3, 2), normal(3, 2))
    cka.add(torch.ones(5, 2), normal(5, 2))
    with pytest.raises(ValueError, match="X does not vary"):
        cka.value()


def test_the_biased_value_needs_two_samples():
    x = normal(2, 3)
    assert linear_cka(x, 2 * x, debiased=False) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"1 sample\(s\): biased CKA needs at least 2"):
        linear_cka(x[:1], x[:1], debiased=False)
