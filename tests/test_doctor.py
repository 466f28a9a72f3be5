import json
import subprocess
import sys
import urllib.error
from importlib import metadata
from types import SimpleNamespace

import pytest

from tlcourse import doctor, sources
from tlcourse.doctor import Row, diagnose, report
from tlcourse.sources import SOURCES, SourceError

OK, WARN, FAIL = Row("a", "ok", "1"), Row("b", "warn", "2", "do this"), Row("c", "fail", "3", "do that")


def named(rows, name):
    (row,) = [row for row in rows if row.name == name]
    return row


def test_quick_says_all_but_the_device_and_the_network():
    names = [row.name for row in diagnose(quick=True)]
    assert len(set(names)) == len(names)
    assert {"Python", "torch", "numpy", "disk", "memory"} | {f"source {role}" for role in SOURCES} <= set(names)
    assert not {"device", "network"} & set(names)


def test_full_adds_device_threads_cache_and_network(monkeypatch):
    monkeypatch.setattr(doctor, "_network", lambda: Row("network", "ok", "asked"))
    names = [row.name for row in diagnose()]
    assert names[-4:] == ["device", "threads", "cache", "network"]


@pytest.mark.parametrize(("rows", "status"), [([OK], 0), ([OK, WARN], 0), ([OK, WARN, FAIL], 1)])
def test_status_and_json(rows, status, capsys):
    assert report(rows, as_json=True) == status
    printed = json.loads(capsys.readouterr().out)
    assert printed["ok"] == (status == 0)
    assert [Row(**row) for row in printed["rows"]] == rows


def test_table_says_what_to_do(capsys):
    report([OK, WARN, FAIL])
    assert capsys.readouterr().out.splitlines() == [
        "ok    a  1",
        "warn  b  2",
        "         -> do this",
        "fail  c  3",
        "         -> do that",
        "3 checks: 1 failed, 1 with a warning",
    ]


def test_a_missing_and_an_old_package(monkeypatch):
    def version(name):
        if name == "timm":
            raise metadata.PackageNotFoundError(name)
        return {"torch": "1.9.0"}.get(name, real(name))

    real = metadata.version
    monkeypatch.setattr(metadata, "version", version)
    rows = list(doctor._packages())
    assert named(rows, "timm").status == "fail" and "make setup" in named(rows, "timm").advice
    assert named(rows, "torch").status == "fail" and "pip install 'torch" in named(rows, "torch").advice
    assert named(rows, "numpy").status == "ok"


def test_a_course_that_is_not_installed(monkeypatch):
    def requires(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    (row,) = doctor._packages()
    assert row.status == "fail" and row.advice


def test_a_damaged_source(monkeypatch):
    def package_path(role):
        if role == "solar":
            raise SourceError("it is damaged", "Mend it.")
        return sources.package_path(role)

    monkeypatch.setattr(doctor, "package_path", package_path)
    rows = list(doctor._sources())
    assert named(rows, "source solar") == Row("source solar", "fail", "it is damaged", "Mend it.")
    assert {row.status for row in rows if row.name != "source solar"} == {"ok"}


def test_pytorch_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (row,) = doctor._pytorch()
    assert (row.name, row.status) == ("device", "fail") and "PyTorch does not start" in row.value


def test_the_command_survives_without_pytorch(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so is missing')")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
        "from tlcourse import doctor; doctor._network = lambda: doctor.Row('network', 'ok', ''); "
        "from tlcourse.__main__ import main; sys.exit(main(['doctor', '--json']))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    rows = [Row(**row) for row in json.loads(ended.stdout)["rows"]]
    assert ended.returncode == 1 and "libcudart.so is missing" in named(rows, "device").value


def fake_torch(cuda, threads=2):
    properties = SimpleNamespace(name="Fast Card", total_memory=80_000_000_000)
    return SimpleNamespace(
        __version__="2.99",
        cuda=SimpleNamespace(is_available=lambda: cuda, get_device_properties=lambda device: properties),
        get_num_threads=lambda: threads,
    )


def pick_nothing():
    raise RuntimeError("device 'cuda' was asked for")


DEVICES = {  # CUDA works, what pick_device does, nvidia-smi found -> status, part of the text
    "cuda": (True, lambda: SimpleNamespace(type="cuda"), True, "ok", "CUDA: Fast Card, 80 GB"),
    "mps": (False, lambda: SimpleNamespace(type="mps"), False, "ok", "MPS"),
    "cpu": (False, lambda: SimpleNamespace(type="cpu"), False, "ok", "CPU"),
    "cpu by choice": (True, lambda: SimpleNamespace(type="cpu"), True, "ok", "CPU"),
    "gpu not usable": (False, lambda: SimpleNamespace(type="cpu"), True, "warn", "cannot use the NVIDIA GPU"),
    "wrong choice": (False, pick_nothing, False, "fail", "was asked for"),
}


@pytest.mark.parametrize("case", DEVICES)
def test_device(case, monkeypatch):
    cuda, pick, nvidia_smi, status, text = DEVICES[case]
    monkeypatch.setattr("shutil.which", lambda name: "/bin/nvidia-smi" if nvidia_smi else None)
    row = doctor._device(fake_torch(cuda), pick)
    assert row.status == status and text in row.value
    assert bool(row.advice) == (status != "ok")


@pytest.mark.parametrize(("threads", "cores", "status"), [(1, 4, "warn"), (1, 1, "ok"), (2, 4, "ok")])
def test_threads(threads, cores, status, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert doctor._threads(fake_torch(False, threads)).status == status


def test_cache_folder(tmp_path):
    assert doctor._cache(tmp_path / "new") == Row("cache", "ok", str(tmp_path / "new"))
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").touch()
    assert doctor._cache(tmp_path / "file").status == "fail"
    assert doctor._cache(None).status == "warn"


@pytest.mark.parametrize(("free", "status"), [(0.2e9, "warn"), (50e9, "ok")])
def test_disk_and_memory(free, status, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=free))
    rows = [doctor._disk(), *doctor._memory()]
    assert [row.status for row in rows] == [status, status]


class Answer:
    __enter__ = __exit__ = lambda self, *arguments: None


NETWORKS = {
    "answers": (Answer(), "reachable"),
    "refuses the page": (urllib.error.HTTPError("u", 403, "no", {}, None), "reachable"),
    "no route": (urllib.error.URLError("no route"), "not reachable"),
    "slow": (TimeoutError("slow"), "not reachable"),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_network_is_for_information(case, monkeypatch):
    answer, value = NETWORKS[case]

    def urlopen(request, timeout):
        assert timeout <= 5
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    row = doctor._network()
    assert row.status == "ok" and row.value.startswith(value)
