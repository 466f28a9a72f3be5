import base64
import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tlcourse import sources
from tlcourse.sources import SOURCES, Source, SourceError, fetch, package_digest, package_path

FILES = {"a.txt": b"alpha", "deep/b.txt": b"beta", "deep/c.bin": b"not ours"}
CURE = "Run `python -m tlcourse fetch`."


def wheel_entries(files=FILES, version="1.0"):
    """The files of a tiny package, with the metadata that pip would leave."""
    entries = {f"tiny_pictures/data/{name}": content for name, content in files.items()}
    entries["tiny_pictures/__init__.py"] = b"raise AssertionError('the package was imported')\n"
    info = f"tiny_pictures-{version}.dist-info"
    entries[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: tiny-pictures\nVersion: {version}\n".encode()
    entries[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip('=')},{len(content)}"
        for name, content in entries.items()
    ]
    entries[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    return entries


def unpack(folder, entries):
    for name, content in entries.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def digest_of(files):
    """The digest by its definition, written anew."""
    lines = [f"{name} {hashlib.sha256(files[name]).hexdigest()}\n" for name in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """An installed package of the two kinds: `folder` is its text files, `file` one of them alone."""
    site = tmp_path / "site"
    unpack(site, wheel_entries())
    monkeypatch.syspath_prepend(site)
    texts = {name: FILES[name] for name in ("a.txt", "deep/b.txt")}
    folder, file = "tiny_pictures/data", "tiny_pictures/data/a.txt"
    for role, source in {
        "folder": Source("tiny-pictures", "1.0", folder, ("*.txt", "*/*.txt"), digest_of(texts)),
        "file": Source("tiny-pictures", "1.0", file, (), digest_of({"a.txt": b"alpha"})),
        "any": Source("tiny-pictures", None, file, (), digest_of({"a.txt": b"alpha"})),
    }.items():
        monkeypatch.setitem(SOURCES, role, source)
    yield site
    sources._verified.cache_clear()


@pytest.mark.parametrize("role", SOURCES)
def test_every_source_is_in_place(role):
    assert package_path(role).exists()
    assert re.fullmatch("[0-9a-f]{64}", package_digest(role))


def test_pins_are_those_of_the_requirements_file():
    text = sources._requirements().read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE))
    wanted = {source.distribution: source.version for source in SOURCES.values() if source.version}
    assert pinned == wanted


def test_nothing_of_the_packages_is_imported():
    program = """
import sys
from tlcourse.sources import SOURCES, package_path
for role in SOURCES: package_path(role)
imported = {name.partition(".")[0] for name in sys.modules}
print(sorted(imported & {location.location.partition("/")[0] for location in SOURCES.values()} | imported & {"torch"}))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


@pytest.mark.parametrize(("role", "name"), [("folder", "data"), ("file", "a.txt"), ("any", "a.txt")])
def test_right_package_is_found(tiny, role, name):
    assert package_path(role) == tiny / "tiny_pictures/data" / (name if name != "data" else "")


DAMAGES = {
    "missing file": (lambda data: (data / "a.txt").unlink(), "a.txt is missing"),
    "truncated": (lambda data: (data / "deep/b.txt").write_bytes(b"be"), "deep/b.txt has 2 bytes instead of 4"),
    "altered, same size": (lambda data: (data / "a.txt").write_bytes(b"alphA"), "a.txt was altered"),
    "added": (lambda data: (data / "deep/z.txt").write_bytes(b"z"), "deep/z.txt does not belong to it"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_with_its_cure(tiny, damage):
    harm, message = DAMAGES[damage]
    harm(tiny / "tiny_pictures/data")
    with pytest.raises(SourceError) as caught:
        package_path("folder")
    assert str(caught.value) == (
        f"the embedded source 'folder' (package tiny-pictures 1.0) is damaged: {message}. {CURE}"
    )


def test_files_that_are_not_used_do_not_count(tiny):
    (tiny / "tiny_pictures/data/deep/c.bin").write_bytes(b"changed")
    assert package_path("folder").is_dir()


def test_a_record_altered_alike_does_not_help(tiny):
    unpack(tiny, wheel_entries({**FILES, "a.txt": b"alphA"}))
    with pytest.raises(SourceError, match="its files are not the ones that this course pins"):
        package_path("folder")


def test_other_version(tiny):
    (tiny / "tiny_pictures-1.0.dist-info").rename(tiny / "tiny_pictures-2.0.dist-info")
    unpack(tiny, wheel_entries(version="2.0"))
    with pytest.raises(
        SourceError, match=r"needs version 1\.0, but 2\.0 is installed\. Run `python -m tlcourse fetch`"
    ):
        package_path("folder")
    assert package_path("any").name == "a.txt"


def test_missing_package(monkeypatch):
    monkeypatch.setitem(SOURCES, "absent", Source("no-such-pictures", "1.0", "x", (), ""))
    with pytest.raises(SourceError, match=r"\(package no-such-pictures\) is not installed\. Run `python -m tlcourse"):
        package_path("absent")


@pytest.mark.parametrize("function", [package_path, package_digest])
def test_unknown_role_lists_what_there_is(function):
    with pytest.raises(SourceError, match="no embedded source 'cats'.*efficientnet_lite0, minilm, solar"):
        function("cats")


def test_the_check_is_made_once_a_process(tiny, monkeypatch):
    package_path("folder")
    monkeypatch.setattr(sources, "_file_digest", lambda file: pytest.fail("read twice"))
    package_path("folder")


def test_fetch_leaves_what_is_in_place(monkeypatch):
    monkeypatch.setattr(sources, "_install", lambda names: pytest.fail("pip was asked"))
    assert fetch() == ()


def test_fetch_mends_an_altered_package(tiny, tmp_path, monkeypatch):
    """The real pip, on an index of one wheel, installing into the folder of the fake package."""
    wheel = tmp_path / "tiny_pictures-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in wheel_entries().items():
            archive.writestr(name, content)
    pin = f"tiny-pictures==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
    monkeypatch.setattr(sources, "_requirements", lambda: tmp_path / "pins.txt")
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path), "TARGET": str(tiny), "UPGRADE": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    (tiny / "tiny_pictures/data/a.txt").write_bytes(b"alphA")

    (tmp_path / "pins.txt").write_text(pin.replace("sha256:", "sha256:0", 1)[:-2] + "\n")
    with pytest.raises(SourceError, match="pip could not install tiny-pictures.*run `python -m tlcourse fetch` again"):
        fetch()
    (tmp_path / "pins.txt").write_text("# a comment\nother==2.0 \\\n    --hash=sha256:00\n" + pin)
    assert fetch() == ("tiny-pictures",)
    assert (package_path("folder") / "a.txt").read_bytes() == b"alpha"


def test_the_requirements_file_of_a_wheel_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "__file__", str(tmp_path / "package" / "sources.py"))
    assert sources._requirements() == tmp_path / "requirements-data.txt"
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "requirements-data.txt").touch()
    assert sources._requirements() == Path(tmp_path / "package" / "requirements-data.txt")
