"""Where the work runs: the device, the seed, the precision, the cache folder. Lesson 00 introduces it."""

import os
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch

__all__ = ["autocast", "cache_dir", "pick_device", "seed_everything", "seeded", "show_progress"]


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """Choose where to compute.

    Parameters
    ----------
    name
        ``"cuda"``, ``"mps"``, ``"cpu"``, ``"meta"``, or None: ``TLCOURSE_DEVICE`` if set, else the fastest there is.

    Raises
    ------
    RuntimeError
        If the named device is unknown or is not on this machine.

    Examples
    --------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    name = name or os.environ.get("TLCOURSE_DEVICE") or None
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RuntimeError(f"unknown device {name!r}: use 'cuda', 'mps' or 'cpu'") from error
    missing = {"cuda": not torch.cuda.is_available(), "mps": not torch.backends.mps.is_available()}
    if missing.get(device.type, False):
        raise RuntimeError(
            f"device {str(name)!r} was asked for, but PyTorch {torch.__version__} finds none on this machine. "
            "Leave the device out to use what there is, or see `python -m tlcourse doctor`."
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RuntimeError(f"device {str(name)!r}: this machine has {torch.cuda.device_count()} CUDA device(s)")
    return device


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (all devices), for code that takes no generator of its own."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 -- for code that takes no generator
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """PyTorch's draws on the CPU, and on the device, come from the seed inside; afterwards the states are as before.

    `torch.manual_seed` would also seed every other device and leave it so. On MPS the state before is not restored.
    """
    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device is not None and device.type == "mps":
            torch.mps.manual_seed(seed)
        yield


def autocast(device: torch.device) -> AbstractContextManager:
    """bfloat16 on a CUDA device that computes in it, else no change.

    Never on the CPU: without AMX units, bfloat16 there is many times slower than float32.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


def cache_dir() -> Path | None:
    """Folder for decoded arrays: ``TLCOURSE_CACHE``, else the user's cache folder; None where that is ``off``."""
    chosen = os.environ.get("TLCOURSE_CACHE")
    if chosen == "off":
        return None
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("tlcourse"))


def show_progress() -> bool:
    """False where ``TLCOURSE_PROGRESS=0``, as in builds: progress bars would end up in compared output."""
    return os.environ.get("TLCOURSE_PROGRESS") != "0"
