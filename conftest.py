"""What holds for every test and for every notebook that nbval executes: no network, no seeds left to chance."""

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
OFFLINE = ROOT / "tests" / "offline"
SCRATCH = tempfile.TemporaryDirectory(prefix="tlcourse-tests-")

# Environment first: kernels and child processes inherit it, and libraries read it when they are imported. The hub's
# offline switch is not set, and its cache is empty, so that an attempt to reach it is seen.
os.environ |= {
    "PYTHONPATH": os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")])),
    "TLCOURSE_CONNECTIONS": str(Path(SCRATCH.name) / "connections"),
    "TLCOURSE_HOME": str(Path(SCRATCH.name) / "home"),
    "TLCOURSE_PROGRESS": "0",
    "HF_HOME": str(Path(SCRATCH.name) / "hub"),
    "TORCH_HOME": str(Path(SCRATCH.name) / "torch"),
    "MPLBACKEND": "agg",
}
os.environ.setdefault("TLCOURSE_CACHE", str(ROOT / ".cache" / "data"))  # decoded once for all runs
sys.path.insert(0, str(OFFLINE))

import loopback_only  # noqa: E402 - after the environment that it reads

loopback_only.refuse()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Fail whatever tried to leave this machine, even where the refusal was swallowed."""
    before = len(_attempts())
    result = yield
    attempts = _attempts()[before:]
    if attempts and item.get_closest_marker("attempts_connection") is None:
        pytest.fail(f"tried to connect to {', '.join(sorted(set(attempts)))}")
    return result


@pytest.fixture(autouse=True)
def seeds():
    """Start every test from the same state of each global generator that is in use."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """Return the wheel of this checkout, built without looking anything up."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run([*command, "-w", str(folder), str(ROOT)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


def _attempts() -> list[str]:
    log = Path(os.environ["TLCOURSE_CONNECTIONS"])
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []
