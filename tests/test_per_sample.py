import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tlcourse import per_sample
from tlcourse.per_sample import squared_gradients

pytestmark = pytest.mark.usefixtures("one_thread")
IMAGES, TOKENS = (7, 3, 9, 8), torch.randint(0, 9, (7, 5), generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """Embeddings, positions, attention without nn.MultiheadAttention, a residual, the first token."""

    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(9, 8, padding_idx=0), nn.Embedding(5, 8)
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]).unsqueeze(0))
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v))
        return self.head(x[:, 0])


class Attention(nn.Module):
    """Its parameters are read outside of the call of their layers."""

    def __init__(self):
        super().__init__()
        self.tokens, self.attention = nn.Embedding(9, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, tokens):
        x = self.tokens(tokens)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Direct(nn.Module):
    """A parameter used in the layer above itself and by hand; a scale that is no layer; an activation in place."""

    def __init__(self):
        super().__init__()
        self.first, self.scale, self.head = nn.Linear(6, 6), nn.Parameter(torch.rand(6)), nn.Linear(6, 4)

    def forward(self, x):
        x = self.first(x).relu_() * self.scale
        return self.head(x @ self.first.weight)


class Twice(nn.Module):
    """One layer called twice, and its weight tied to another."""

    def __init__(self):
        super().__init__()
        self.layer, self.tied, self.head = nn.Linear(6, 6), nn.Linear(6, 6, bias=False), nn.Linear(6, 4)
        self.tied.weight = self.layer.weight

    def forward(self, x):
        return self.head(self.tied(self.layer(self.layer(x).tanh()).relu()))


class TimeFirst(nn.Module):
    """(L, n, D) inside, with as many positions as samples: no shape tells them apart."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 4)

    def forward(self, x):
        x = self.second(self.first(x).transpose(0, 1).relu())
        return self.head(x[0] if x.shape[0] < 3 else x[:3].sum(0))


class Looks(nn.Module):
    """It looks at values, which torch.func cannot trace."""

    def __init__(self):
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.ones(6)), nn.Linear(6, 4)

    def forward(self, x):
        scaled = x * self.scale
        return self.head(scaled.relu() if bool((x > -99).all()) else scaled)


class Changing(nn.Module):
    """Where a sample is far, a parameter is used in a second way too."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x):
        far = (x[:, :1] > 0).float()
        x = self.first(x)
        return self.head(x + far * (x @ self.first.weight) if far.any() else x)


class Dead(nn.Module):
    """A branch that goes nowhere, an unused layer, and a frozen one."""

    def __init__(self):
        super().__init__()
        self.first, self.dead, self.unused, self.head = (nn.Linear(6, n) for n in (6, 6, 2, 4))
        self.first.requires_grad_(False)

    def forward(self, x):
        x = self.first(x)
        self.dead(x)
        return self.head(x)


class Squeezed(nn.Module):
    """It relies on its positions being (1, L, D)."""

    def __init__(self):
        super().__init__()
        self.positions, self.head = nn.Embedding(5, 6), nn.Linear(5, 4)

    def forward(self, x):
        positions = self.positions(torch.arange(5).unsqueeze(0)).squeeze(0)  # (L, D)
        return self.head((x @ positions.mT).tanh())


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.GroupNorm(2, 8), nn.Dropout(0.5), nn.Hardswish(inplace=True),
        nn.Conv2d(8, 6, 1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 4),
    )  # fmt: skip


def timm_block():
    from timm.layers import BatchNormAct2d
    from timm.layers.conv2d_same import Conv2dSame

    return nn.Sequential(
        Conv2dSame(3, 6, 3, stride=2, bias=False), BatchNormAct2d(6), Conv2dSame(6, 6, 5, stride=2, groups=6),
        BatchNormAct2d(6, act_layer=nn.ReLU6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip


NETWORKS = {  # name -> what makes it, its input, whether every parameter goes by the rules
    "mlp": (lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), (7, 6), True),
    "cnn": (cnn, IMAGES, True),
    "timm": (timm_block, IMAGES, True),
    "block": (Block, TOKENS, True),
    "attention": (Attention, TOKENS, False),
    "direct": (Direct, (7, 6), False),
    "twice": (Twice, (7, 6), True),
    "time first": (TimeFirst, (7, 7, 6), False),
    "looks at values": (Looks, (7, 6), False),
    "dead": (Dead, (7, 6), True),
    "squeezed": (Squeezed, (7, 6), False),
}
WAYS = ["auto", "vmap", "loop"]


def made(name):
    make, shape, by_rules = NETWORKS[name]
    torch.manual_seed(0)
    network = make()
    x = shape if isinstance(shape, torch.Tensor) else torch.randn(*shape)
    if x.is_floating_point():
        network(x)  # running statistics that are not 0 and 1
    return network.eval(), x, by_rules


def flowing(logits, before):
    """Two passes, different for each sample."""
    generator = torch.Generator().manual_seed(0)
    every = torch.randn(2, 7, 4, generator=generator)
    return every[:, before : before + len(logits)]


def by_hand(network, parameters, x):
    """Each sample's sum of squares over the passes (n, ...)."""
    back = flowing(x, 0)
    found = {}
    for name, value in parameters.items():
        rows = []
        for row in range(len(x)):
            logits = network(x[row : row + 1])
            grads = [
                torch.autograd.grad(logits, value, b[row : row + 1], retain_graph=True, allow_unused=True)[0]
                for b in back
            ]
            rows.append(sum(torch.zeros_like(value) if g is None else g.square() for g in grads))
        found[name] = torch.stack(rows)
    return found


def measured(network, x, *, batch_size=7, **options):
    parameters = {name: value for name, value in network.named_parameters() if value.requires_grad}
    batches = [(x[start : start + batch_size],) for start in range(0, len(x), batch_size)]
    return parameters, squared_gradients(network, parameters, batches, flowing, **options)


@pytest.mark.parametrize("scatter", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_way_is_autograd_on_each_sample(name, way, scatter):
    network, x, _ = made(name)
    if (name, way) == ("looks at values", "vmap"):
        with pytest.raises(RuntimeError, match="data-dependent control flow"):
            measured(network, x, way=way, scatter=scatter)
        return
    for batch_size in (7, 3):
        parameters, found = measured(network, x, way=way, scatter=scatter, batch_size=batch_size)
        expected = by_hand(network, parameters, x)
        assert found.count == 7
        assert found.sums.keys() == parameters.keys()
        for key, value in expected.items():
            assert torch.allclose(found.sums[key], value.sum(0), rtol=1e-4, atol=1e-5 * float(value.sum(0).max())), key
            if scatter:
                wanted = (value - value.mean(0)).square().sum(0)
                assert torch.allclose(found.scatters[key], wanted, rtol=1e-3, atol=1e-5 * float(wanted.max())), key


@pytest.mark.parametrize("name", NETWORKS)
def test_rules_are_used_where_they_hold_and_only_there(name, monkeypatch):
    network, x, by_rules = made(name)
    others = []
    monkeypatch.setattr(per_sample, "_by_samples", lambda network, parameters, *rest: others.extend(parameters))
    measured(network, x)
    assert (not others) is by_rules


def test_a_network_that_changes_from_batch_to_batch():
    network = Changing()
    x = torch.randn(7, 6)
    x[:, 0] = torch.tensor([-1.0] * 5 + [1.0] * 2)
    parameters, found = measured(network, x, batch_size=3)
    for key, value in by_hand(network, parameters, x).items():
        assert torch.allclose(found.sums[key], value.sum(0), rtol=1e-4, atol=1e-6), key


def test_one_sample_and_one_chunk_at_a_time(monkeypatch):
    monkeypatch.setattr(per_sample, "LARGEST_CHUNK", 1)
    network, x, _ = made("attention")
    parameters, found = measured(network, x, way="vmap")
    for key, value in by_hand(network, parameters, x).items():
        assert torch.allclose(found.sums[key], value.sum(0), rtol=1e-4, atol=1e-6)
    parameters, alone = measured(network, x[:1])
    assert all(torch.isfinite(value).all() for value in alone.sums.values())
    assert alone.count == 1


def test_a_norm_that_mixes_samples_is_refused():
    network = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, track_running_stats=False)).eval()
    with pytest.raises(ValueError, match="normalises by the batch"):
        measured(network, torch.randn(7, 6))


def test_anomaly_detection_and_no_grad_around_it_change_nothing():
    network, x, _ = made("cnn")
    _, expected = measured(network, x)
    with torch.autograd.set_detect_anomaly(True), torch.no_grad():
        _, found = measured(network, x)
        assert torch.is_anomaly_enabled()
    with torch.inference_mode():
        _, inside = measured(network, x.clone())
    for key, value in expected.sums.items():
        assert torch.equal(found.sums[key], value)
        assert torch.equal(inside.sums[key], value)
