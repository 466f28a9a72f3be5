import math

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from sklearn.covariance import ledoit_wolf

from tlcourse.evidence import log_evidence
from tlcourse.transferability import h_score, kendall, leep, logme, nce, transrate


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def doubled(x):
    return torch.cat([x, x])


def digits(n, classes, seed=0):
    """Labels of unequal frequency, each class at least twice."""
    drawn = torch.from_numpy(np.random.default_rng(seed).geometric(0.4, size=n) - 1).clamp(max=classes - 1)
    drawn[: 2 * classes] = torch.arange(2 * classes) % classes
    return drawn


LABELS = digits(30, 3)
CASES = {  # features, labels
    "tall": (normal(30, 4), LABELS),
    "wide": (normal(30, 70), LABELS),
    "rank-deficient": (normal(30, 3) @ normal(3, 8, seed=1), LABELS),
    "constant": (torch.full((30, 3), 0.1, dtype=torch.float64), LABELS),
    "constant up to the rounding of its mean": (torch.full((60, 3), 0.7, dtype=torch.float64), digits(60, 3)),
    "one column constant": (torch.cat([normal(30, 3), torch.full((30, 1), 1e3)], dim=1), LABELS),
    "a class missing": (normal(30, 4), LABELS * 2),
    "labels from elsewhere": (normal(30, 4), LABELS * 7 - 3),
    "duplicated": (doubled(normal(15, 4)), doubled(LABELS[:15])),
    "float32": (normal(30, 4).float() + 10, LABELS),
    "telling": (normal(30, 4) + 3 * LABELS[:, None], LABELS),
    "int32 labels": (normal(30, 4), LABELS.int()),
}
PROBABILITIES = {  # source probabilities, labels
    "soft": (normal(30, 5).softmax(dim=1), LABELS),
    "sharp": ((50 * normal(30, 5)).softmax(dim=1), LABELS),
    "float32": (normal(30, 5).float().softmax(dim=1), LABELS),
    "a source class without any": (torch.cat([normal(30, 4).softmax(dim=1), torch.zeros(30, 1)], dim=1), LABELS),
    "a class missing": (normal(30, 5).softmax(dim=1), LABELS * 2),
    "all alike": (torch.full((30, 4), 0.25), LABELS),
    "one source class": (torch.ones(30, 1), LABELS),
    "duplicated": (doubled(normal(15, 5).softmax(dim=1)), doubled(LABELS[:15])),
}


def slow_leep(p, labels):
    """Nguyen et al. 2020, section 3, steps 1 to 3, sample by sample."""
    p, y = p.double().tolist(), labels.tolist()
    n, sources = len(p), range(len(p[0]))
    joint = {(t, z): sum(p[i][z] for i in range(n) if y[i] == t) / n for t in set(y) for z in sources}
    marginal = [sum(joint[t, z] for t in set(y)) for z in sources]
    total = 0.0
    for i in range(n):
        total += math.log(sum(joint[y[i], z] / marginal[z] * p[i][z] for z in sources if marginal[z] > 0))
    return total / n


def slow_nce(source, labels):
    """Tran et al. 2019: the entropy of pairs less that of the source's labels."""
    pairs = list(zip(source.tolist(), labels.tolist(), strict=True))

    def entropy(values):
        return -sum(values.count(v) / len(values) * math.log(values.count(v) / len(values)) for v in set(values))

    return entropy([z for z, _ in pairs]) - entropy(pairs)


def covariances(x, labels):
    """Of the features, and of their class means in their places; both divided by n."""
    x, y = x.double().numpy(), labels.numpy()
    means = np.stack([x[y == label].mean(axis=0) for label in y])
    return np.cov(x, rowvar=False, bias=True), np.cov(means, rowvar=False, bias=True)


def slow_h_score(x, labels):
    whole, between = covariances(x, labels)
    scale = max(np.abs(whole).max(), 1e-300)
    return np.trace(np.linalg.pinv(whole, rcond=1e-12, hermitian=True) @ between) if scale > 1e-20 else 0.0


def slow_shrunk_h_score(x, labels):
    whole, share = ledoit_wolf(x.double().numpy())
    return np.trace(np.linalg.solve(whole, (1 - share) * covariances(x, labels)[1]))


def slow_transrate(x, labels, eps):
    z, y = x.double().numpy(), labels.numpy()
    z = z - z.mean(axis=0)

    def rate(part):
        return np.linalg.slogdet(np.eye(z.shape[1]) + part.T @ part / (len(part) * eps))[1] / 2

    return rate(z) - sum((y == label).mean() * rate(z[y == label]) for label in np.unique(y))


@pytest.mark.parametrize("name", CASES)
def test_logme_is_the_mean_over_the_classes_that_occur(name):
    """`test_evidence` holds the evidence itself against the written-out form."""
    x, labels = CASES[name]
    each = [log_evidence(x, (labels == label).double()[:, None]).item() for label in labels.unique()]
    assert logme(x, labels) == pytest.approx(np.mean(each), abs=1e-9)


@pytest.mark.parametrize("name", ["tall", "wide", "rank-deficient", "a class missing", "float32", "telling"])
def test_logme_is_where_the_fixed_point_of_the_authors_ends(name):
    """MacKay's updates, 20,000 of them in place of 11, without what is added to the denominators."""
    x, labels = CASES[name]
    u, s, _ = np.linalg.svd(x.double().numpy(), full_matrices=False)
    s2 = s[s > 1e-9] ** 2
    n, found = len(x), []
    for label in labels.unique().tolist():
        y = (labels == label).double().numpy()
        z2 = np.square(u.T @ y)[: len(s2)]
        rest = max(np.square(y).sum() - z2.sum(), 0.0) if len(s2) < n else 0.0
        alpha, beta, before = 1.0, 1.0, 0.0
        for _ in range(20_000):
            t = alpha / beta
            if t > 1e9 * s2.max() or abs(before / t - 1) < 1e-14:
                break  # the features are of no use, and alpha goes on growing; or it is there
            gamma = (s2 / (s2 + t)).sum()
            length, misfit = (s2 * z2 / (t + s2) ** 2).sum(), (z2 / (1 + s2 / t) ** 2).sum() + rest
            alpha, beta, before = gamma / length, (n - gamma) / misfit, t
        evidence = len(s2) * np.log(alpha) + n * np.log(beta) - np.log(alpha + beta * s2).sum()
        found.append((evidence - beta * misfit - alpha * length - n * np.log(2 * np.pi)) / 2 / n)
    assert logme(x, labels) == pytest.approx(np.mean(found), abs=1e-6)


def test_logme_prefers_what_tells_the_classes_apart_and_ignores_scale():
    x, labels = normal(60, 5), digits(60, 3)
    telling = x + torch.nn.functional.one_hot(labels, 5)
    assert logme(telling, labels) > logme(x, labels) + 0.05
    assert logme(1e4 * telling, labels) == pytest.approx(logme(telling, labels), abs=1e-9)
    assert logme(torch.nn.functional.one_hot(labels).double(), labels) == math.inf


@pytest.mark.parametrize("name", PROBABILITIES)
def test_leep_is_its_three_steps(name):
    p, labels = PROBABILITIES[name]
    assert leep(p, labels) == pytest.approx(slow_leep(p, labels), abs=1e-9)
    assert leep(p, labels) <= 1e-12


def test_leep_of_certain_probabilities_is_nce():
    source = digits(30, 4, seed=3)
    assert leep(torch.nn.functional.one_hot(source).double(), LABELS) == pytest.approx(nce(source, LABELS), abs=1e-12)


@pytest.mark.parametrize("labels", [LABELS, LABELS * 2, LABELS - 5])
@pytest.mark.parametrize("source", [digits(30, 4, seed=3), digits(30, 2, seed=4) * 9, torch.zeros(30).long(), LABELS])
def test_nce_is_a_difference_of_entropies(source, labels):
    assert nce(source, labels) == pytest.approx(slow_nce(source, labels), abs=1e-9)


def test_nce_is_zero_where_the_source_settles_it():
    assert nce(LABELS + 4, LABELS) == 0
    assert nce(torch.arange(30), LABELS) == 0


@pytest.mark.parametrize("name", CASES)
def test_h_score_is_its_trace(name):
    x, labels = CASES[name]
    assert h_score(x, labels) == pytest.approx(slow_h_score(x, labels), abs=1e-6)
    assert -1e-9 <= h_score(x, labels) <= len(labels.unique()) - 1 + 1e-9


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("constant")])
def test_shrunk_h_score_is_its_trace(name):
    x, labels = CASES[name]
    assert h_score(x, labels, shrinkage=True) == pytest.approx(slow_shrunk_h_score(x, labels), abs=1e-6)


def test_wide_features_say_nothing_but_with_shrinkage():
    x, labels = normal(30, 70), LABELS
    telling = x + 2 * labels[:, None]
    assert h_score(x, labels) == pytest.approx(h_score(telling, labels)) == pytest.approx(2)
    assert h_score(telling, labels, shrinkage=True) > h_score(x, labels, shrinkage=True) + 0.2


def test_h_score_ignores_every_invertible_map():
    x, labels = CASES["telling"]
    assert h_score(x @ normal(4, 4, seed=5) + 7, labels) == pytest.approx(h_score(x, labels), abs=1e-9)


@pytest.mark.parametrize("eps", [1e-4, 1.0])
@pytest.mark.parametrize("name", CASES)
def test_transrate_is_its_determinants(name, eps):
    x, labels = CASES[name]
    assert transrate(x, labels, eps=eps) == pytest.approx(slow_transrate(x, labels, eps), abs=1e-6)
    assert transrate(x, labels, eps=eps) >= -1e-9


def test_transrate_does_not_see_two_equal_classes_whose_means_differ():
    shape = normal(20, 3)
    x, labels = torch.cat([shape, -shape]), torch.arange(40) // 20
    apart = x + 5 * (labels * 2 - 1)[:, None]
    assert transrate(apart, labels) == pytest.approx(0, abs=1e-9)
    assert h_score(apart, labels) > 0.9


def test_features_of_any_device_type_are_left_as_they_are():
    x = normal(30, 4).requires_grad_()
    before = x.detach().clone()
    for score in (logme, h_score, transrate):
        assert isinstance(score(x, LABELS), float)
    assert torch.equal(x.detach(), before)


KENDALLS = [  # scores, truths
    ([1, 2, 3, 4, 5, 6, 7, 8], [2, 1, 4, 3, 6, 5, 8, 7]),
    ([1, 1, 2, 2, 3, 3, 3], [1, 2, 2, 1, 3, 4, 5]),  # ties, more of them in one
    ([0.1, -4, 3, 7, 2], [9, 2, 4, 1, 0]),
]


@pytest.mark.parametrize(("scores", "truths"), KENDALLS)
def test_kendall_is_scipys_with_an_interval_around_it(scores, truths):
    found = kendall(scores, truths, seed=1)
    assert found.value == pytest.approx(kendalltau(scores, truths).statistic, abs=1e-12)
    assert -1 <= found.low < found.value < found.high <= 1
    assert found == kendall(scores, truths, seed=1)
    narrow = kendall(scores, truths, level=0.5)
    assert found.low <= narrow.low <= narrow.high <= found.high
    mirrored = kendall([-score for score in scores], truths, seed=1)
    assert (mirrored.value, mirrored.low, mirrored.high) == pytest.approx((-found.value, -found.high, -found.low))


@pytest.mark.parametrize(("scores", "truths"), KENDALLS)
def test_the_resampled_taus_are_scipys(scores, truths, monkeypatch):
    """The interval, its resamples drawn here and each given to scipy; all tied is NaN there."""
    monkeypatch.setattr("tlcourse.transferability.RESAMPLES", 200)
    scores, truths = (np.asarray(values, dtype=float) for values in (scores, truths))
    rows = np.random.default_rng(3).integers(len(scores), size=(200, len(scores)))
    taus = [kendalltau(scores[row], truths[row]).statistic for row in rows]
    found = kendall(scores, truths, seed=3)
    assert (found.low, found.high) == pytest.approx(tuple(np.nanquantile(taus, [0.025, 0.975])))


@pytest.mark.parametrize("n", [5, 8, 20])
def test_full_agreement_is_no_certainty(n):
    found, against = kendall(range(n), range(n)), kendall(range(n), range(n, 0, -1))
    assert found.value == pytest.approx(1)
    assert found.high == 1
    assert 0 < found.low < 1 - 2 / (n * (n - 1))
    assert (against.low, against.high) == (-found.high, -found.low)
    assert found.low < kendall(range(n + 1), range(n + 1)).low


@pytest.mark.slow
@pytest.mark.parametrize(("n", "tau"), [(8, 0.0), (8, 0.5), (8, 0.8), (20, 0.5)])
def test_the_interval_covers_about_what_it_says(n, tau):
    """Bivariate normal with this tau, 300 draws: the standard error of a coverage of 0.95 is 0.013."""
    rng, r, hits = np.random.default_rng(0), np.sin(np.pi * tau / 2), 0
    for _ in range(300):
        a, noise = rng.standard_normal((2, n))
        found = kendall(a, r * a + np.sqrt(1 - r**2) * noise)
        hits += found.low <= tau <= found.high
    assert 0.90 <= hits / 300 <= 0.995


X, SEVEN = normal(7, 3), torch.arange(7) % 2
BAD = [  # a call, words of the refusal
    (lambda: logme(X, SEVEN[:6]), "features has 7 rows and labels 6: row i of both"),
    (lambda: logme(X, torch.ones(7).long()), r"all 7 labels are \[1\]: there is nothing to tell apart"),
    (lambda: logme(X, SEVEN.float()), r"labels must be whole numbers \(n,\), not torch.float32 \(7,\)"),
    (lambda: logme(X[None], SEVEN), r"features must be \(samples, width\), not \(1, 7, 3\)"),
    (lambda: h_score(X.masked_fill(X > 1, math.nan), SEVEN), "are not finite"),
    (lambda: h_score(X, SEVEN[:, None]), r"labels must be whole numbers \(n,\), not torch.int64 \(7, 1\)"),
    (lambda: transrate(X, SEVEN[:5]), "features has 7 rows and labels 5"),
    (lambda: transrate(X, SEVEN, eps=0), "eps=0: a distortion above 0"),
    (lambda: leep(X, SEVEN), "row 0 of source_probabilities sums to .*: give probabilities, not logits"),
    (lambda: leep(torch.tensor([[1.5, -0.5]] * 7), SEVEN), "its smallest entry is -0.5"),
    (lambda: leep(X.softmax(dim=1), SEVEN[:3]), "source_probabilities has 7 rows and labels 3"),
    (lambda: leep(X.softmax(dim=1), SEVEN * 0), r"all 7 labels are \[0\]"),
    (lambda: nce(SEVEN[:4], SEVEN), "source_labels has 4 rows and labels 7"),
    (lambda: nce(X, SEVEN), r"source_labels must be whole numbers \(n,\), not torch.float64 \(7, 3\)"),
    (lambda: kendall([1, 2, 3, 4], [1, 2, 3, 4]), "4 candidates: a rank correlation needs at least 5"),
    (lambda: kendall(range(6), range(5)), r"scores \(6,\) and truths \(5,\)"),
    (lambda: kendall([1] * 5, range(5)), "all 5 scores are 1.0: there is no order"),
    (lambda: kendall(range(5), [1, 2, 3, 4, math.inf]), "truths holds inf for a candidate"),
    (lambda: kendall(range(5), range(5), level=95), "level=95: between 0 and 1"),
]


@pytest.mark.parametrize(("call", "words"), BAD)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
