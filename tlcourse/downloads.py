"""Published weights onto this disk: pinned, checked, and gone on with where a connection broke.

`zoo` reads them. Nothing here is needed for the embedded models, which come as packages. Lesson 11 shows both.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from tlcourse.runtime import show_progress

__all__ = ["fetch_file", "fetch_snapshot"]

SECONDS = 30  # without a byte


def fetch_snapshot(
    repository: str, *, revision: str, files: Sequence[str], sha256: Mapping[str, str] | None = None
) -> Path:
    """Some files of a repository of the Hugging Face hub, at one commit, as a folder in the hub's own cache.

    What the cache holds is not fetched again, and needs no network. Where a connection breaks, the hub's client goes on
    by itself; after five times in vain it gives up, and files that are whole by then are kept.

    Parameters
    ----------
    repository
        ``owner/name``.
    revision
        The hash of a commit, which is a pin; or a branch, which is none.
    files
        Names or patterns (fnmatch).
    sha256
        File -> the digest that it must have; it is computed at each call.

    Raises
    ------
    RuntimeError
        If the hub cannot be reached, has no such commit or file, or a file is not the published one.
    """
    from huggingface_hub import snapshot_download, utils
    from huggingface_hub.errors import HTTPError as ClientError  # an error of a proxy is one, and no OSError

    what = f"{repository} at {revision[:12]}"
    shows_bars = not utils.are_progress_bars_disabled()
    try:
        if not show_progress():
            utils.disable_progress_bars()
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(files)))
    except (OSError, ClientError) as error:
        raise _unreachable(what, error) from error
    finally:
        if shows_bars:
            utils.enable_progress_bars()
    for name, expected in (sha256 or {}).items():
        if not (folder / name).is_file():
            raise RuntimeError(f"{what} has no file {name!r}, or not whole: load it again with a network")
        _check(folder / name, expected)
    return folder


def fetch_file(url: str, folder: Path, *, sha256: str) -> Path:
    """One file from a plain server, into a folder; where a transfer breaks off, the next call goes on with it.

    Parameters
    ----------
    folder
        A file of this name that is there already is taken as it is.
    sha256
        The digest, or how it begins: torchvision writes the first eight digits into its file names.

    Raises
    ------
    RuntimeError
        If the server cannot be reached, the transfer breaks off, or the file is not the published one.
    """
    path = folder / os.path.basename(urlparse(url).path)
    if path.is_file():
        return path
    part = path.with_name(f"{path.name}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _transfer(url, part)
    except OSError as error:  # URLError and ConnectionError are
        raise _unreachable(path.name, error) from error
    try:
        _check(part, sha256)
    except RuntimeError:
        part.unlink()  # to go on with it would end in the same
        raise
    os.replace(part, path)
    return path


def _transfer(url: str, part: Path) -> None:
    """Append to ``part`` what is missing of it."""
    done = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with urlopen(request, timeout=SECONDS) as answer:
            goes_on = answer.status == 206
            expected = (done if goes_on else 0) + int(answer.headers.get("Content-Length") or 0)
            with part.open("ab" if goes_on else "wb") as file:
                shutil.copyfileobj(answer, file)
    except HTTPError as error:
        if error.code != 416:  # nothing is missing
            raise
        return
    if part.stat().st_size < expected:
        raise ConnectionError(f"broke off after {part.stat().st_size:,} of {expected:,} bytes: load it again to go on")


def _check(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        raise RuntimeError(
            f"{path.name} is not the published file: its SHA-256 is {found[:12]}…, not {expected[:12]}…. Delete "
            f"{path.resolve()} and load it again"
        )


def _unreachable(what: str, error: Exception) -> RuntimeError:
    reason = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    return RuntimeError(
        f"{what} could not be fetched ({type(error).__name__}: {reason}). Without a network: efficientnet_lite0 and "
        "minilm come with the course; any other model can be brought as a folder, as save_pretrained writes it, and "
        "loaded by its path. Behind a proxy: set HTTPS_PROXY, and SSL_CERT_FILE where it has a certificate of its own; "
        "HF_ENDPOINT names a mirror of the hub"
    )
