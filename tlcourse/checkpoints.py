"""A run's state on disk: written whole or not at all, and read back only by the same run. Lesson 03 names them."""

import os
from pathlib import Path

import torch

__all__ = ["read_checkpoint", "write_checkpoint"]


def write_checkpoint(path: Path, stored: dict) -> None:
    """Write beside the place, then move there: a reader sees the old checkpoint or the new one whole.

    Parameters
    ----------
    path
        Where to.
    stored
        ``run`` says which run it is of (see `read_checkpoint`); the rest is its state: tensors and plain values.

    Raises
    ------
    OSError
        If it cannot be written; the checkpoint before it is then intact.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.pt"
    >>> write_checkpoint(path, {"run": {"seed": 0}, "steps_done": 3})
    >>> read_checkpoint(path, {"seed": 0})["steps_done"]
    3
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(stored, temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        raise OSError(f"the checkpoint {path} could not be written ({error}); the one before it is intact") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path, run: dict) -> dict:
    """What `write_checkpoint` stored, with every tensor on the CPU.

    Parameters
    ----------
    path
        Where from.
    run
        Whatever two runs must have in common for one to go on where the other stopped.

    Raises
    ------
    ValueError
        If there is no such file, it is no checkpoint, or it is of another run; the message names what differs.
    """
    try:
        # Generator states must stay on the CPU; load_state_dict moves the rest.
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ValueError(f"resume={str(path)!r}: there is no such checkpoint") from error
    except Exception as error:
        raise ValueError(f"resume={str(path)!r} is not a checkpoint of train(): {error}") from error
    theirs = stored.get("run") if isinstance(stored, dict) else None
    if not isinstance(theirs, dict) or theirs.keys() != run.keys():
        raise ValueError(f"resume={str(path)!r} is not a checkpoint of this version's train()")
    different = [f"{key}: {theirs[key]} there, {run[key]} here" for key in run if run[key] != theirs[key]]
    if different:
        raise ValueError(f"resume={str(path)!r} is of another run ({'; '.join(different)})")
    return stored
