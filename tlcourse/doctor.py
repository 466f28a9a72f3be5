"""What this machine has, and what to do about what it lacks. Lesson 00 runs it.

It imports nothing outside the standard library at the top, so that it can speak where PyTorch is missing.
"""

import importlib
import json
import os
import platform
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from tlcourse.sources import SOURCES, SourceError, package_path

__all__ = ["Row", "diagnose", "report"]

GB = 1e9
INSTALL = "Run `make setup`, or `pip install tlcourse`."
INDEX = "https://pypi.org/simple/pip/"


@dataclass(frozen=True)
class Row:
    """One finding: ``ok``, ``warn`` (the course runs, but slower or with less) or ``fail`` (it does not)."""

    name: str
    status: Literal["ok", "warn", "fail"]
    value: str
    advice: str = ""


def diagnose(*, quick: bool = False) -> list[Row]:
    """Look at everything the course needs.

    Parameters
    ----------
    quick
        Leave out what takes longer than a second: importing PyTorch, and asking the network.

    Returns
    -------
    A list of `Row`, one a finding.

    Examples
    --------
    >>> diagnose(quick=True)[0].name
    'Python'
    """
    rows = [_python(), *_packages(), *_sources(), _disk(), *_memory()]
    if not quick:
        rows += [*_pytorch(), _network()]
    return rows


def report(rows: list[Row], *, as_json: bool = False) -> int:
    """Print the rows, and return the exit status: 1 if any of them failed."""
    failed = sum(row.status == "fail" for row in rows)
    if as_json:
        print(json.dumps({"ok": not failed, "rows": [asdict(row) for row in rows]}, indent=1))
        return int(failed > 0)
    width = max(len(row.name) for row in rows)
    for row in rows:
        print(f"{row.status:4}  {row.name:{width}}  {row.value}")
        if row.advice:
            print(f"{'':4}  {'':{width}}  -> {row.advice}")
    warned = sum(row.status == "warn" for row in rows)
    print(f"{len(rows)} checks: {failed} failed, {warned} with a warning" if failed or warned else "All is well.")
    return int(failed > 0)


def _python() -> Row:
    return Row("Python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _packages() -> Iterator[Row]:
    """The packages that the installed course declares, against what is there."""
    try:
        from packaging.requirements import Requirement

        declared = [Requirement(line) for line in metadata.requires("tlcourse") or ()]
    except ImportError as error:  # also where the course itself is not installed: PackageNotFoundError is one
        yield Row("packages", "fail", f"cannot be listed: {error}", INSTALL)
        return
    for requirement in declared:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Row(requirement.name, "fail", "not installed", INSTALL)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            yield Row(requirement.name, "ok", version)
        else:
            advice = f"Run `pip install '{requirement}'`."
            yield Row(requirement.name, "fail", f"{version}, but {requirement.specifier} is needed", advice)


def _sources() -> Iterator[Row]:
    for role, source in SOURCES.items():
        try:
            path = package_path(role)
        except SourceError as error:
            yield Row(f"source {role}", "fail", error.problem, error.cure)
        else:
            yield Row(f"source {role}", "ok", f"{source.distribution}, checksum right ({path.name})")


def _disk() -> Row:
    free = shutil.disk_usage(Path.home()).free / GB
    advice = "Free some: decoded data and checkpoints need about 1 GB." if free < 1 else ""
    return Row("disk", "warn" if advice else "ok", f"{free:.1f} GB free", advice)


def _memory() -> Iterator[Row]:
    try:
        import psutil
    except ImportError:
        return  # its absence is a failing row of its own
    free = psutil.virtual_memory().available / GB
    advice = "Close other programs or notebooks: the lessons take up to 3 GB." if free < 3 else ""
    yield Row("memory", "warn" if advice else "ok", f"{free:.1f} GB free", advice)


def _pytorch() -> Iterator[Row]:
    try:
        import torch

        importlib.import_module("torchvision")
        from tlcourse.runtime import cache_dir, pick_device
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: a torchvision of another torch
        first_line = str(error).partition("\n")[0]
        yield Row("device", "fail", f"PyTorch does not start: {first_line}", INSTALL)
        return
    yield _device(torch, pick_device)
    yield _threads(torch)
    yield _cache(cache_dir())


def _device(torch, pick_device) -> Row:
    try:
        device = pick_device()
    except RuntimeError as error:
        chosen = os.environ.get("TLCOURSE_DEVICE")
        return Row("device", "fail", str(error), f"Unset TLCOURSE_DEVICE (it is {chosen!r}).")
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return Row("device", "ok", f"CUDA: {properties.name}, {properties.total_memory / GB:.0f} GB")
    if device.type == "cpu" and shutil.which("nvidia-smi") and not torch.cuda.is_available():
        advice = "Install a build of PyTorch with CUDA (pytorch.org, Get Started), or update the driver."
        return Row("device", "warn", f"CPU: PyTorch {torch.__version__} cannot use the NVIDIA GPU here", advice)
    return Row("device", "ok", {"mps": "MPS (Apple GPU)", "cpu": "CPU"}.get(device.type, device.type))


def _threads(torch) -> Row:
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    advice = "Unset OMP_NUM_THREADS to train on more." if threads < min(2, cores) else ""
    return Row("threads", "warn" if advice else "ok", f"{threads} of {cores} processors", advice)


def _cache(folder: Path | None) -> Row:
    if folder is None:
        return Row("cache", "warn", "off", "Unset TLCOURSE_CACHE, so that data are decoded only once.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        advice = "Set TLCOURSE_CACHE to a folder that you can write, or to `off`."
        return Row("cache", "fail", f"{folder} cannot be written: {error.strerror}", advice)
    return Row("cache", "ok", str(folder))


def _network() -> Row:
    """For information only: the embedded default needs no network."""
    try:
        with urllib.request.urlopen(urllib.request.Request(INDEX, method="HEAD"), timeout=3):
            return Row("network", "ok", "reachable")
    except urllib.error.HTTPError:
        return Row("network", "ok", "reachable")
    except OSError:
        return Row("network", "ok", "not reachable; only full-size models and `fetch` need it")
