import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tlcourse import layer_gradients
from tlcourse.layer_gradients import Use, read_call, sample_gradients, square_sums

pytestmark = pytest.mark.usefixtures("one_thread")
TOKENS = torch.tensor([[1, 0, 3, 3], [2, 2, 2, 0], [4, 1, 0, 1], [0, 0, 0, 0], [6, 5, 6, 5]])
LAYERS = [  # what makes a layer, its input for 5 samples
    (lambda: nn.Linear(3, 4), (5, 3)),
    (lambda: nn.Linear(3, 4, bias=False), (5, 1, 3)),
    (lambda: nn.Linear(3, 4), (5, 7, 3)),
    (lambda: nn.Linear(3, 4), (5, 2, 7, 3)),
    (lambda: nn.Conv2d(4, 6, 3), (5, 4, 7, 6)),
    (lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (5, 4, 9, 8)),
    (lambda: nn.Conv2d(4, 6, 3, padding=2, groups=2), (5, 4, 7, 6)),
    (lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4), (5, 4, 7, 6)),
    (lambda: nn.Conv2d(4, 4, (5, 3), stride=(2, 3), padding=(2, 1), dilation=(1, 2), groups=4), (5, 4, 9, 11)),
    (lambda: nn.Conv2d(4, 8, 3, stride=2, groups=4), (5, 4, 7, 7)),
    (lambda: nn.Conv2d(4, 6, 1), (5, 4, 3, 2)),
    (lambda: nn.Conv2d(4, 6, 1, stride=2, padding=1), (5, 4, 5, 6)),
    (lambda: nn.Conv2d(4, 6, 1, groups=2), (5, 4, 3, 2)),
    (lambda: nn.Conv2d(4, 4, 1, groups=4), (5, 4, 3, 2)),
    (lambda: nn.Conv2d(4, 6, (2, 3), padding="same", dilation=(3, 1)), (5, 4, 7, 6)),
    (lambda: nn.Conv2d(4, 6, 3, padding="valid"), (5, 4, 7, 6)),
    (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (5, 4, 7, 6)),
    (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2), (5, 4, 11)),
    (lambda: nn.Conv1d(4, 4, 3, padding=1, groups=4), (5, 4, 11)),
    (lambda: nn.Conv1d(4, 6, 2, padding="same", groups=2), (5, 4, 11)),
    (lambda: nn.LayerNorm(3), (5, 3)),
    (lambda: nn.LayerNorm((4, 3), eps=0.1), (5, 7, 4, 3)),
    (lambda: nn.GroupNorm(2, 4, eps=0.1), (5, 4)),
    (lambda: nn.GroupNorm(2, 4), (5, 4, 3, 2)),
    (lambda: used_norm(nn.BatchNorm1d(4)), (5, 4)),
    (lambda: used_norm(nn.BatchNorm1d(4, eps=0.1)), (5, 4, 3)),
    (lambda: used_norm(nn.BatchNorm2d(4)), (5, 4, 3, 2)),
    (lambda: nn.Embedding(7, 3), TOKENS),
    (lambda: nn.Embedding(7, 3, padding_idx=0), TOKENS),
    (lambda: Lookup(), TOKENS),
    (lambda: nn.Embedding(7, 3), TOKENS[:, 0]),
]
UNKNOWN = [  # what must not go by the rules
    (lambda: nn.Linear(3, 4), (3,)),  # one sample without an axis for samples
    (lambda: nn.Conv2d(4, 6, 3), (4, 7, 6)),
    (lambda: nn.Conv1d(4, 6, 3), (4, 7)),
    (lambda: nn.LayerNorm((4, 3)), (4, 3)),
    (lambda: nn.BatchNorm2d(4), (5, 4, 3, 2)),  # in train mode samples meet
    (lambda: nn.BatchNorm2d(4, track_running_stats=False).eval(), (5, 4, 3, 2)),
    (lambda: nn.Embedding(7, 3, scale_grad_by_freq=True), TOKENS),
    (lambda: nn.ConvTranspose2d(4, 6, 3), (5, 4, 7, 6)),
]


class Lookup(nn.Module):
    """An embedding whose padding is counted from the end, which nn.Embedding itself turns around."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(7, 3))

    def forward(self, tokens):
        return F.embedding(tokens, self.weight, padding_idx=-2)


def used_norm(layer):
    """A BatchNorm that has seen data whose mean is not 0."""
    layer(torch.randn(50, layer.num_features, *[2] * isinstance(layer, nn.BatchNorm2d) * 2) * 2 + 3)
    return layer.eval()


def made(make, shape):
    torch.manual_seed(0)
    layer = make()
    x = shape if isinstance(shape, torch.Tensor) else torch.randn(*shape) + 1
    return layer.double(), x.double() if x.is_floating_point() else x


class Calls(torch.overrides.TorchFunctionMode):
    """What `read_call` makes of every call, as `per_sample` sees them."""

    def __init__(self, layer):
        super().__init__()
        self.wanted, self.found = [id(value) for value in layer.parameters()], []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        call = read_call(function, args, kwargs or {}, self.wanted)
        self.found += [call] if call else []
        return function(*args, **(kwargs or {}))


def uses(layer, x):
    """The uses of weight and bias, and the gradient of each sample by autograd, for some gradient of the output."""
    with Calls(layer) as calls:
        output = layer(x)
    gradient = torch.randn(output.shape, dtype=output.dtype)
    expected = {}
    for name, value in layer.named_parameters():
        rows = [
            torch.autograd.grad(layer(x[row : row + 1]), value, gradient[row : row + 1])[0] for row in range(len(x))
        ]
        expected[name] = torch.stack(rows)
    (call,) = calls.found
    assert call.parameters.keys() == expected.keys()
    return {name: Use(call, name, gradient) for name in expected}, expected


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # a copy that torch makes
@pytest.mark.parametrize("block", [1, 10, 2**18])
@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_a_rule_is_autograd_on_each_sample(make, shape, block, monkeypatch):
    monkeypatch.setitem(layer_gradients.BLOCK, "cpu", block)
    found, expected = uses(*made(make, shape))
    for name, use in found.items():
        assert torch.allclose(sample_gradients([use]), expected[name], rtol=1e-9, atol=1e-9), name
        assert torch.allclose(square_sums([use]), expected[name].square().sum(0), rtol=1e-9, atol=1e-9), name


@pytest.mark.parametrize(("make", "shape"), LAYERS[:5])
def test_channels_last_changes_nothing(make, shape):
    layer, x = made(make, shape)
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    found, expected = uses(layer, x)
    assert torch.allclose(sample_gradients([found["weight"]]), expected["weight"])


def test_uses_add_before_they_are_squared():
    layer, x = made(lambda: nn.Linear(3, 4), (5, 3))
    found, expected = uses(layer, x)
    twice = [found["weight"]] * 2
    assert torch.allclose(sample_gradients(twice), 2 * expected["weight"])
    assert torch.allclose(square_sums(twice), 4 * expected["weight"].square().sum(0))


@pytest.mark.parametrize(("make", "shape"), UNKNOWN)
def test_what_has_no_rule_is_not_a_call(make, shape):
    layer, x = made(make, shape)
    with Calls(layer) as calls:
        layer(x)
    assert not calls.found


def test_a_parameter_as_input_is_not_a_call():
    layer = nn.Linear(3, 3)
    assert read_call(F.linear, (layer.weight, layer.weight), {}, [id(layer.weight)]) is None
    assert read_call(F.linear, (torch.zeros(2, 3), layer.weight), {}, []) is None


def test_half_precision_is_squared_in_float32():
    layer = nn.Linear(1, 1, bias=False).half()
    call = read_call(F.linear, (torch.full((2, 1), 1e-4).half(), layer.weight), {}, [id(layer.weight)])
    found = square_sums([Use(call, "weight", torch.ones(2, 1).half())])
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(2e-8, rel=1e-2)
