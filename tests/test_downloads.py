import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import URLError

import pytest

from tlcourse import downloads
from tlcourse.downloads import fetch_file, fetch_snapshot

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 400
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


class Host(BaseHTTPRequestHandler):
    """A plain server of files, and what of the hub's protocol `snapshot_download` needs; on the loopback."""

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):  # noqa: N802 - the name that the library calls
        self.answer(head=True)

    def do_GET(self):  # noqa: N802
        self.answer(head=False)

    def answer(self, *, head):
        path = self.path.partition("?")[0]
        files = self.server.files
        if path == f"/api/models/own/network/tree/{COMMIT}":
            rows = [{"type": "file", "path": key, "size": len(value), "oid": "0" * 40} for key, value in files.items()]
            self.send(json.dumps(rows).encode(), {"Content-Type": "application/json"})
            return
        name = path.rpartition("/")[2]
        if name not in files:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data, start = files[name], 0
        if self.headers.get("Range") and not self.server.ignores_ranges:
            start = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0])
        if not head:
            self.server.asked.append((name, start))
        if start >= len(data):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        ranged = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        fields = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT, **ranged}
        breaks = not head and self.server.breaks.pop(name, None)
        self.send(data[start:], fields, status=206 if start else 200, upto=breaks or None, head=head)

    def send(self, body, fields, *, status=200, upto=None, head=False):
        self.send_response(status)
        for key, value in {**fields, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if not head:
            self.wfile.write(body[:upto])
        if upto:
            self.close_connection = True


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A server whose files a test puts in place; the hub's client is sent to it, with a cache of its own."""
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    server.files, server.breaks, server.asked = (
        {"config.json": b"{}", "weights-" + DIGEST[:8] + ".pth": WEIGHTS},
        {},
        [],
    )
    server.files["model.safetensors"] = WEIGHTS
    server.ignores_ranges = False
    server.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def snapshot(**options):
    wanted = {
        "revision": COMMIT,
        "files": ["config.json", "model.safetensors"],
        "sha256": {"model.safetensors": DIGEST},
    }
    return fetch_snapshot("own/network", **wanted | options)


def test_a_snapshot_is_fetched_once_and_then_read_without_a_network(host):
    from huggingface_hub import constants

    folder = snapshot()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "config.json": b"{}",
        "model.safetensors": WEIGHTS,
    }
    asked = len(host.asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert snapshot() == folder
    assert len(host.asked) == asked


def test_a_snapshot_goes_on_where_the_connection_broke(host, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # of 10 MB, of which less than one arrived
    host.breaks["model.safetensors"] = 30_000
    assert (snapshot() / "model.safetensors").read_bytes() == WEIGHTS
    starts = [start for name, start in host.asked if name == "model.safetensors"]
    assert starts[0] == 0
    assert 0 < starts[1] <= 30_000


def test_a_snapshot_that_was_altered_is_refused(host):
    folder = snapshot()
    path = (folder / "model.safetensors").resolve()
    path.write_bytes(WEIGHTS[:-1] + b"x")
    with pytest.raises(RuntimeError) as error:
        snapshot()
    assert "model.safetensors is not the published file" in str(error.value)
    assert DIGEST[:12] in str(error.value)
    assert str(path) in str(error.value)
    path.unlink()
    assert (snapshot() / "model.safetensors").read_bytes() == WEIGHTS


def test_what_the_host_does_not_have_is_said(host):
    with pytest.raises(RuntimeError, match=r"own/network at 012345678.* has no file 'other.bin'"):
        snapshot(files=["other.bin", "config.json"], sha256={"other.bin": DIGEST})
    with pytest.raises(RuntimeError, match=r"own/network at fffffffffff.* could not be fetched \("):
        snapshot(revision="f" * 40)


@pytest.mark.parametrize("kind", ["offline", "no route", "proxy"])
def test_without_a_way_to_the_hub_it_is_said_what_to_do(kind, host, monkeypatch):
    import huggingface_hub
    from huggingface_hub import constants, errors

    def refuses(*arguments, **options):
        raise errors.HTTPError("407 Proxy Authentication Required")

    if kind == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif kind == "no route":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # where nothing listens
    else:
        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuses)
    with pytest.raises(RuntimeError) as error:
        snapshot()
    words = ["own/network at 0123456789ab", "efficientnet_lite0 and minilm come with the course", "as save_pretrained"]
    words += ["HTTPS_PROXY", "SSL_CERT_FILE", "HF_ENDPOINT"] + ["407 Proxy Auth"] * (kind == "proxy")
    assert all(word in str(error.value) for word in words)


def test_bars_are_as_before(host, monkeypatch):
    from huggingface_hub import utils

    assert not utils.are_progress_bars_disabled()
    snapshot()
    assert not utils.are_progress_bars_disabled()


def test_a_file_is_fetched_once(host, tmp_path):
    url, folder = f"{host.url}/models/weights-{DIGEST[:8]}.pth", tmp_path / "new" / "checkpoints"
    path = fetch_file(url, folder, sha256=DIGEST[:8])
    assert path.read_bytes() == WEIGHTS
    assert [each.name for each in folder.iterdir()] == [f"weights-{DIGEST[:8]}.pth"]
    assert fetch_file(url, folder, sha256=DIGEST[:8]) == path
    assert len(host.asked) == 1


@pytest.mark.parametrize("ignores", [False, True])
def test_a_file_goes_on_where_it_broke_off(ignores, host, tmp_path):
    name, host.ignores_ranges = f"weights-{DIGEST[:8]}.pth", ignores
    host.breaks[name] = 30_000
    with pytest.raises(RuntimeError, match=r"broke off after 30,000 of 102,400 bytes: load it again to go on"):
        fetch_file(f"{host.url}/{name}", tmp_path, sha256=DIGEST[:8])
    assert fetch_file(f"{host.url}/{name}", tmp_path, sha256=DIGEST[:8]).read_bytes() == WEIGHTS
    assert host.asked == [(name, 0), (name, 0 if ignores else 30_000)]


def test_a_file_that_was_whole_already_is_taken(host, tmp_path):
    name = f"weights-{DIGEST[:8]}.pth"
    (tmp_path / f"{name}.part").write_bytes(WEIGHTS)
    assert fetch_file(f"{host.url}/{name}", tmp_path, sha256=DIGEST).read_bytes() == WEIGHTS


def test_a_file_of_another_content_is_refused_and_not_kept(host, tmp_path):
    name = f"weights-{DIGEST[:8]}.pth"
    host.files[name] = WEIGHTS[::-1]
    with pytest.raises(RuntimeError, match="is not the published file"):
        fetch_file(f"{host.url}/{name}", tmp_path, sha256=DIGEST[:8])
    assert not list(tmp_path.glob("weights*"))


def test_a_server_that_cannot_be_reached_is_said(host, tmp_path, monkeypatch):
    def unreachable(*arguments, **options):
        raise URLError("no route to host")

    with pytest.raises(RuntimeError, match=r"none.pth could not be fetched \(HTTPError: .*404.*HTTPS_PROXY"):
        fetch_file(f"{host.url}/none.pth", tmp_path, sha256="00")
    monkeypatch.setattr(downloads, "urlopen", unreachable)
    with pytest.raises(RuntimeError, match=r"none.pth could not be fetched \(URLError: .*no route to host.*minilm"):
        fetch_file(f"{host.url}/none.pth", tmp_path, sha256="00")
