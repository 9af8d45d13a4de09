"""The fixtures of the browser tests: a UI after a small run, and a browser that reports console errors and requests."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Browser, Page, expect, sync_playwright

from recon_assets_tests.browser import BROWSER, REQUIRED
from recon_assets_tests.support.command import Command
from recon_assets_tests.support.serving import served_by_command, wait_until
from recon_assets_tests.support.steps import JUNE

PATIENCE_MS = 60_000
"""For one element of a page, on a busy machine."""
WINDOW = {"width": 1600, "height": 1000}
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
"""The browser itself asks nobody, and nobody but this machine has an address."""
LOADED = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"


def pytest_sessionstart() -> None:
    REQUIRED.insist()
    expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `recon ui`, where two days were reconciled before."""
    recon = Command(tmp_path_factory.mktemp("ui"), ELEXON_API_URL=JUNE.as_uri())
    ended = recon("reconcile", "--from", "2025-06-06", "--to", "2025-06-07")
    assert ended.exit_code == 0, ended
    with served_by_command(recon) as (_, address):

        def is_loaded() -> bool:
            answer = requests.post(f"{address}/graphql", json={"query": LOADED}, timeout=60).json()
            return bool(answer["data"]["repositoriesOrError"].get("nodes"))

        wait_until(is_loaded)
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The machine's Chromium, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which(BROWSER), args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, address: str, tmp_path: Path) -> Iterator[Page]:
    """A page of a new visitor. In the end it has asked nobody but `recon ui`, and no error is on its console.

    A picture of the end is in the test's folder.
    """
    errors: list[str] = []
    asked: set[str] = set()
    context = browser.new_context(base_url=address, viewport=WINDOW)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.add(request.url))
    page.on("websocket", lambda socket: asked.add(socket.url))
    yield page
    page.screenshot(path=tmp_path / "page.png")
    context.close()
    assert errors == []
    hosts = {urlsplit(url.removeprefix("blob:")).netloc for url in asked if not url.startswith("data:")}
    assert hosts == {urlsplit(address).netloc}
