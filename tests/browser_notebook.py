"""A notebook in a headless JupyterLab, driven by playwright: what the tests `test_browser*.py` stand on."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest

TOKEN = "course"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]


def find_browser() -> str:
    """Path of Chromium; without one the test is skipped, but in CI it fails."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        reason = "no Chromium on the path (Debian: apt-get install chromium)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return found


@contextmanager
def jupyter_lab(folder: Path, cells: list[str]) -> Iterator[str]:
    """Serve a notebook of these cells from the folder; yields its address."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (folder / "work").mkdir()
    asked = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    asked.parent.mkdir(parents=True)
    asked.write_text('{"fetchNews": "false", "checkForUpdates": false}', encoding="utf-8")
    nbformat.write(notebook, folder / "work" / "try.ipynb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    here |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "TLCOURSE_HOME": "home"}
    environment = os.environ | {name: str(folder / path) for name, path in here.items()}
    environment.pop("TLCOURSE_PROGRESS", None)  # somebody watches
    root = Path(__file__).resolve().parents[1]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}", "--LabApp.news_url="]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command += ["--ServerApp.jpserver_extensions={'jupyter_lsp': False}"]  # it looks for a dozen language servers
    with open(folder / "lab.log", "wb") as log:
        server = subprocess.Popen(command, cwd=folder / "work", env=environment, stdout=log, stderr=log)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api/status?token={TOKEN}", server, folder / "lab.log")
            yield f"http://127.0.0.1:{port}/lab/tree/try.ipynb?token={TOKEN}&reset"
        finally:
            server.terminate()
            server.wait(timeout=20)


@contextmanager
def open_notebook(address: str) -> Iterator:
    """A page that shows the notebook with its kernel ready; the page reaches no host but this one."""
    from playwright.sync_api import sync_playwright

    elsewhere: list[str] = []

    def only_here(route):
        if urlsplit(route.request.url).hostname in ("127.0.0.1", "localhost"):
            route.continue_()
        else:
            elsewhere.append(route.request.url)
            route.abort()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=QUIET)
        try:
            page = browser.new_page(viewport={"width": 1200, "height": 1500})
            page.set_default_timeout(90_000)
            page.route("**/*", only_here)
            page.goto(address)
            page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
            # The indicator in the toolbar is idle before there is a kernel, and a cell run then is lost.
            page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
            yield page
        finally:
            browser.close()
    assert not elsewhere, f"the page asked for {elsewhere}"


def run_cell(page, number: int):
    """Run a cell, from 0, without waiting for its end; its output area."""
    cell = page.locator(".jp-Notebook .jp-CodeCell").nth(number)
    cell.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    return cell.locator(".jp-Cell-outputWrapper")


def source(image) -> str | None:
    """What an image shows: its address."""
    return image.get_attribute("src")


def opened(page, number: int):
    """Run a cell until its view has been drawn: its output, its image, and what that shows."""
    box = run_cell(page, number)
    image = box.locator("img")
    image.wait_for()
    return box, image, source(image)


def wait_for_new_source(page, image, old: str) -> str | None:
    """Wait until an image shows something else than before; what it shows then."""
    page.wait_for_function("([image, old]) => image.src !== old", arg=[image.element_handle(), old])
    return source(image)


def _wait_for(address: str, server: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError as error:
            if server.poll() is not None or time.monotonic() > end:
                text = log.read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"JupyterLab did not start:\n{text}") from error
            time.sleep(0.2)
