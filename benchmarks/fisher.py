"""How much faster the exact Fisher information is than a loop over single samples.

Every parameter moves. The loop runs each sample by itself and goes back once for each label; `fisher_diagonal` runs
batches and goes back once less than there are labels; with two classes a factor of up to two is that. The bars: 20
times for a small MLP, 2 times for EfficientNet-Lite0 at 64 px and for MiniLM at 32 tokens. Both sides run by turns, and
the quickest round of each is compared: what else runs on the machine only ever adds.

    python benchmarks/fisher.py
"""

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tlcourse import Masked, Model, fisher_diagonal, load_backbone

ROUNDS = 3


def mlp() -> tuple[nn.Module, Tensor]:
    """784 -> 100 -> 100 -> 10, on 512 samples."""
    network = nn.Sequential(nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    return network.eval(), torch.rand(512, 784)


def efficientnet() -> tuple[nn.Module, Tensor]:
    """32 photographs of 64 px, two classes."""
    return _with_head(load_backbone("efficientnet_lite0")), torch.randint(256, (32, 3, 64, 64), dtype=torch.uint8)


def minilm() -> tuple[nn.Module, Masked]:
    """32 texts of 32 tokens, two classes."""
    return _with_head(load_backbone("minilm")), Masked(torch.randint(1000, 20000, (32, 32)), torch.ones(32, 32).bool())


def _with_head(backbone) -> Model:
    model = Model(backbone)
    model.add_head("two", 2)
    return model.eval()


NETWORKS: dict[str, tuple[Callable, float]] = {  # name -> what makes it, and how many times faster it has to be
    "MLP": (mlp, 20),
    "EfficientNet-Lite0, 64 px": (efficientnet, 2),
    "MiniLM, 32 tokens": (minilm, 2),
}


def loop(model: nn.Module, inputs: Tensor | Masked) -> dict[str, Tensor]:
    """The definition, a sample and a label at a time."""
    parameters = dict(model.named_parameters())
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for row in range(len(inputs)):
        log_p = model(inputs[row : row + 1]).log_softmax(1)[0]
        for value in log_p:
            gradients = torch.autograd.grad(value, list(parameters.values()), retain_graph=True)
            for name, gradient in zip(parameters, gradients, strict=True):
                total[name] += gradient.square() * (value.detach().exp() / len(inputs))
    return total


def main() -> int:
    """Time all; 0 where every bar is reached."""
    torch.manual_seed(0)
    missed = 0
    print(f"exact Fisher information, {torch.get_num_threads()} threads, best of {ROUNDS}")
    for name, (make, bar) in NETWORKS.items():
        model, inputs = make()
        seconds = {loop: [], fisher_diagonal: []}
        found = {}
        for _ in range(ROUNDS):
            for way, times in seconds.items():
                start = time.perf_counter()
                found[way] = way(model, inputs)
                times.append(time.perf_counter() - start)
        slow, fast = (1000 * min(times) / len(inputs) for times in seconds.values())
        missed += slow / fast < bar
        # Of the largest of all: a key's bias has none, and there rounding is compared with rounding.
        largest = max(value.max() for value in found[loop].values())
        gap = max((found[fisher_diagonal][key] - value).abs().max() for key, value in found[loop].items()) / largest
        print(
            f"  {name:26} loop {slow:8.3f} ms a sample, batched {fast:8.3f}: {slow / fast:5.1f} times faster "
            f"(bar: {bar}); they differ by {gap:.0e} of the largest"
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
