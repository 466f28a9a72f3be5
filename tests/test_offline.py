import json
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import loopback_only
import nbformat
import pytest
from loopback_only import ConnectionRefused
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[1]
ELSEWHERE = "192.0.2.1"  # reserved for documentation (RFC 5737): nobody is there


def with_socket(action, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as opened:
        action(opened)


ATTEMPTS = {
    "address": lambda: socket.create_connection((ELSEWHERE, 80), timeout=1),
    "connect_ex": lambda: with_socket(lambda s: s.connect_ex((ELSEWHERE, 80))),
    "IPv6": lambda: with_socket(lambda s: s.connect(("2001:db8::1", 80)), socket.AF_INET6),
    "datagram": lambda: with_socket(lambda s: s.sendto(b"x", (ELSEWHERE, 80)), kind=socket.SOCK_DGRAM),
    "name": lambda: socket.getaddrinfo("hub.example.org", 443),
    "old call": lambda: socket.gethostbyname("hub.example.org"),
    "page": lambda: urllib.request.urlopen("https://hub.example.org", timeout=1),
}


@pytest.mark.attempts_connection
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_leaving_is_refused(attempt):
    with pytest.raises(ConnectionRefused, match=r"192\.0\.2\.1|2001:db8::1|hub\.example\.org"):
        ATTEMPTS[attempt]()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_allowed(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection((host, server.getsockname()[1]), timeout=5).close()


def test_sockets_that_are_no_network_are_allowed(tmp_path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))


def test_refusing_twice_is_refusing_once():
    before = socket.socket.connect
    loopback_only.refuse()
    assert socket.socket.connect is before


def test_the_hub_is_not_told_to_stay_offline():
    assert "HF_HUB_OFFLINE" not in os.environ and "TRANSFORMERS_OFFLINE" not in os.environ


@pytest.mark.attempts_connection
def test_child_processes_inherit_it():
    program = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "ConnectionRefused" in ended.stderr


def notebook(source, outputs=()):
    cell = nbformat.v4.new_code_cell(source, outputs=list(outputs), execution_count=1)
    return nbformat.v4.new_notebook(cells=[cell])


@pytest.mark.attempts_connection
def test_a_cell_of_a_notebook_cannot_leave():
    client = NotebookClient(
        notebook("import socket\nsocket.create_connection(('192.0.2.1', 80))"), kernel_name="python3"
    )
    with pytest.raises(CellExecutionError, match="ConnectionRefused"):
        client.execute()


SWALLOWED = """
import socket
try:
    socket.create_connection(('192.0.2.1', 80))
except Exception:
    print('went on')
"""
CELLS = {  # the cell, whether nbval passes it
    "quiet": ("print('went on')", True),
    "an attempt that the cell swallows": (SWALLOWED, False),
}


@pytest.mark.parametrize("case", CELLS)
def test_nbval_fails_a_cell_that_tried(case, tmp_path):
    source, passes = CELLS[case]
    stdout = nbformat.v4.new_output("stream", text="went on\n")
    nbformat.write(notebook(source, [stdout]), tmp_path / "lesson.ipynb")
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "--nbval", "--nbval-current-env", "-q"]
    ended = subprocess.run(
        [*command, "-p", "no:cacheprovider", str(tmp_path / "lesson.ipynb")],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode == 0) == passes, ended.stdout
    assert ("tried to connect to 192.0.2.1" in ended.stdout) == (not passes), ended.stdout


def test_a_swallowed_attempt_in_a_test_fails_it(tmp_path):
    (tmp_path / "test_quiet.py").write_text(
        "import contextlib, socket\ndef test_it():\n    with contextlib.suppress(Exception):\n"
        "        socket.gethostbyname('hub.example.org')\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "-q", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "tried to connect to hub.example.org" in ended.stdout


@pytest.mark.attempts_connection
def test_a_model_of_the_hub_is_seen():
    """The loaders of transformers turn to the network for what is not there, and that is noted."""
    program = "from transformers import AutoConfig; AutoConfig.from_pretrained('nobody/nothing')"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "huggingface.co" in Path(os.environ["TLCOURSE_CONNECTIONS"]).read_text(encoding="utf-8")
    assert "huggingface.co" in json.dumps(ended.stderr)
