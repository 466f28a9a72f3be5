"""First stage: find the submissions and read their notebooks. Nothing is executed, unpacked to disk or followed.

A submission is a notebook, a folder or a zip with one in it, alone or in a folder or a zip of many. What else is
shipped with it (a ``torch.py``, a ``conftest.py``, data) is never read; it is only told that it was there.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import stat
import unicodedata
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

__all__ = ["IntakeError", "Submission", "find_submissions", "learner_id", "read_notebook"]

LARGEST_NOTEBOOK = 20_000_000  # bytes, outputs included
LARGEST_ARCHIVE = 100_000_000  # bytes of the zip of one submission
MOST_MEMBERS = 20_000
STEEPEST = 200  # times that a member may be larger than its packed bytes
MOST_CELLS = 2_000
LONGEST_SOURCE = 200_000  # characters of a cell
NOTEBOOK = ".ipynb"
NEVER = ("__MACOSX", ".ipynb_checkpoints", ".git")


class IntakeError(ValueError):
    """A submission cannot be read; the text is for its author."""


@dataclass
class _Found:
    """The files of one submission, before one is chosen: path -> a function that gives its bytes."""

    name: str
    notebooks: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Submission:
    """What one learner handed in, unread.

    Attributes
    ----------
    id
        From the name of its file or folder; safe as a file name, and unique in its batch.
    name
        That name as it was.
    """

    id: str
    name: str
    look: Callable[[], _Found]

    def read(self) -> tuple[bytes, list[str]]:
        """The bytes of its notebook, and what was ignored beside it.

        Raises
        ------
        IntakeError
            If it holds no notebook, or several, or one that is too large or a link.
        """
        found = self.look()
        ignored = [f"ignored {_readable(path)}" for path in found.others[:20]]
        if len(found.notebooks) != 1:
            listed = ", ".join(map(_readable, sorted(found.notebooks)[:5]))
            several = f"it holds {len(found.notebooks)} notebooks ({listed}), so it is not clear which one counts"
            beside = f" ({'; '.join(ignored[:3])})" if ignored else ""
            raise IntakeError(several if found.notebooks else f"it holds no notebook{beside}")
        (read,) = found.notebooks.values()
        return read(), ignored


def find_submissions(place: Path) -> list[Submission]:
    """Find everything that was handed in.

    Parameters
    ----------
    place
        A notebook, a zip, or a folder of notebooks, folders and zips: one a submission.

    Raises
    ------
    FileNotFoundError
        If there is no such place, or nothing in it.
    IntakeError
        If it is a single zip that cannot be read at all.
    """
    if not place.exists():
        raise FileNotFoundError(f"no such file or folder: {place}")
    if place.is_file() and place.suffix.lower() == ".zip":
        groups = _split_by_folder(_in_zip(lambda: place.open("rb"), place.stem))
        top = [(found.name, lambda found=found: found) for found in groups]
    else:
        entries = [place] if place.is_file() else sorted(place.iterdir())
        entries = [path for path in entries if not path.name.startswith(".") and path.name not in NEVER]
        entries = [path for path in entries if path.is_dir() or path.suffix.lower() in (NOTEBOOK, ".zip")]
        top = [(path.name if path.is_dir() else path.stem, lambda path=path: _of_path(path)) for path in entries]
    if not top:
        raise FileNotFoundError(f"nothing was handed in at {place}: it holds no notebook, folder or zip")
    taken: set[str] = set()
    return [Submission(_unique(learner_id(name), taken), _readable(name), look) for name, look in top]


def read_notebook(content: bytes) -> list[dict]:
    """The cells of a notebook of any nbformat, as plain dicts.

    Returns
    -------
    A list of dicts with ``kind`` ("code", "markdown", "raw"), ``source`` (text without lone surrogates) and
    ``metadata``.

    Raises
    ------
    IntakeError
        If it is none, or too large.
    """
    try:
        text = content.decode("utf-8-sig")
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IntakeError(f"it is no notebook: it is not JSON ({type(error).__name__})") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("nbformat"), int):
        raise IntakeError("it is no notebook: it does not say which nbformat it has")
    try:
        notebook = _upgraded(text) if raw["nbformat"] < 4 else raw
        cells = notebook["cells"]
        if not isinstance(cells, list) or len(cells) > MOST_CELLS:
            raise IntakeError(f"it has more than {MOST_CELLS} cells, or none")
        return [_plain_cell(cell) for cell in cells if isinstance(cell, dict)]
    except IntakeError:
        raise
    except Exception as error:  # whatever a damaged notebook makes the converter say
        raise IntakeError(f"it cannot be read as a notebook ({type(error).__name__})") from error


def learner_id(name: str) -> str:
    """A file name's safe form, which does not look like another: letters, digits, and a digest where it was changed.

    Examples
    --------
    >>> learner_id("ada_1815")
    'ada_1815'
    >>> learner_id("../../etc/passwd")[:11]
    'etc_passwd-'
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_-")[:60]
    if plain and plain == name:
        return plain
    return f"{plain or 'learner'}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def _upgraded(text: str) -> dict:
    """An older notebook as one of nbformat 4."""
    import nbformat

    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        return nbformat.reads(text, as_version=4)


def _plain_cell(cell: dict) -> dict:
    source = cell.get("source", "")
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    source = source if isinstance(source, str) else ""
    metadata = cell.get("metadata")
    return {
        "kind": cell.get("cell_type") if cell.get("cell_type") in ("code", "markdown", "raw") else "raw",
        "source": source[: LONGEST_SOURCE + 1].encode("utf-8", "replace").decode(),
        "metadata": metadata if isinstance(metadata, dict) else {},
    }


def _of_path(path: Path) -> _Found:
    if path.is_symlink():
        raise IntakeError("it is a link, and links are not followed")
    if path.is_dir():
        found = _Found(path.name)
        for inside in _walk(path):
            relative = inside.relative_to(path).as_posix()
            if inside.suffix.lower() == NOTEBOOK and not inside.is_symlink():
                found.notebooks[relative] = lambda inside=inside: _read_file(inside)
            else:
                found.others.append(relative)
        return found
    if path.suffix.lower() == ".zip":
        content = _read_file(path, most=LARGEST_ARCHIVE)
        return _in_zip(lambda: io.BytesIO(content), path.stem)
    return _Found(path.stem, {path.name: lambda: _read_file(path)})


def _walk(folder: Path) -> Iterator[Path]:
    """The regular files below, without following a link."""
    count = 0
    for here, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(f for f in folders if f not in NEVER and not (Path(here) / f).is_symlink())
        for name in sorted(files):
            count += 1
            if count > MOST_MEMBERS:
                return
            yield Path(here) / name


def _read_file(path: Path, *, most: int = LARGEST_NOTEBOOK) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise IntakeError(f"{path.name} cannot be opened: {error.strerror}; links are not followed") from error
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise IntakeError(f"{path.name} is not an ordinary file")
        if state.st_size > most:
            raise IntakeError(f"{path.name} has {state.st_size:,} bytes; at most {most:,} are read")
        return file.read(most + 1)


def _in_zip(opened: Callable[[], BinaryIO], name: str) -> _Found:
    """The members of an archive by their own words, none of which is believed or unpacked to disk."""
    try:
        with opened() as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise IntakeError(f"{name}.zip is no zip archive, or a damaged one") from error
    if len(members) > MOST_MEMBERS:
        raise IntakeError(f"{name}.zip has {len(members):,} members; at most {MOST_MEMBERS:,} are looked at")
    found = _Found(name)
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if member.is_dir() or any(part in NEVER for part in path.parts):
            continue
        odd = (
            path.is_absolute() or ".." in path.parts or stat.S_ISLNK(member.external_attr >> 16) or member.flag_bits & 1
        )
        if odd or path.suffix.lower() != NOTEBOOK:
            found.others.append(member.filename)
        else:
            found.notebooks[str(path)] = lambda member=member: _read_member(opened, member)
    return found


def _read_member(opened: Callable[[], BinaryIO], member: zipfile.ZipInfo) -> bytes:
    if member.file_size > LARGEST_NOTEBOOK or member.file_size > STEEPEST * max(member.compress_size, 1_000):
        raise IntakeError(f"{member.filename} unpacks to {member.file_size:,} bytes, which is too much")
    try:
        with opened() as whole, zipfile.ZipFile(whole) as archive, archive.open(member) as file:
            content = file.read(LARGEST_NOTEBOOK + 1)
    except Exception as error:  # zlib, encryption, an unknown method: whatever a damaged member makes them say
        raise IntakeError(f"{member.filename} cannot be unpacked ({type(error).__name__})") from error
    if len(content) > LARGEST_NOTEBOOK:
        raise IntakeError(f"{member.filename} unpacks to more than it says")
    return content


def _split_by_folder(found: _Found) -> list[_Found]:
    """A zip of many: each folder at its top, or each notebook there, is a submission."""
    groups: dict[str, _Found] = {}
    for path, read in found.notebooks.items():
        parts = PurePosixPath(path).parts
        name = parts[0] if len(parts) > 1 else PurePosixPath(path).stem
        groups.setdefault(name, _Found(name)).notebooks[path] = read
    for path in found.others:
        first = PurePosixPath(path).parts[0] if PurePosixPath(path).parts else path
        if first in groups:
            groups[first].others.append(path)
    return list(groups.values()) or [found]


def _unique(name: str, taken: set[str]) -> str:
    chosen, number = name, 1
    while chosen.lower() in taken:
        number += 1
        chosen = f"{name}-{number}"
    taken.add(chosen.lower())
    return chosen


def _readable(name: str) -> str:
    """Without the lone surrogates of a name that is no UTF-8, and not endless."""
    return name.encode("utf-8", "replace").decode()[:200]
