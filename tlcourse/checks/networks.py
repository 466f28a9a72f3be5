"""Networks that a task can train in milliseconds: rows of four numbers stand for images."""

from collections import OrderedDict

import torch
from torch import nn

__all__ = ["small_network"]


def small_network(seed: int, width: int) -> nn.Sequential:
    """Stem, block and head on rows of four numbers: every kind of layer whose mode matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stem = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.5))
        block = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.5))
        return nn.Sequential(OrderedDict(stem=stem, block=block, head=nn.Linear(width, 2)))
