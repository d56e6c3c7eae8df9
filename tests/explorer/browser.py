"""A page in Chromium, which fails a test on an error in the console or a request to another host."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

from torch_featurelayer.explorer import Explorer, application

TOKEN = "token"  # noqa: S105


@contextmanager
def serving(explorer: Explorer) -> Iterator[str]:
    """Serves an explorer in a thread; yields its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application(explorer, TOKEN), log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listener.close()


@contextmanager
def opened(address: str, view: str = "") -> Iterator[Page]:
    """Yields the page; an error in its console, or a request to another host, fails the test."""
    problems: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("response", lambda answer: problems.append(answer.text()) if answer.status >= 400 else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda sent: None if sent.url.startswith((address, "blob:", "data:")) else problems.append(sent.url),
        )
        page.goto(f"{address}/#token={TOKEN}{view}")
        page.wait_for_selector("body[data-ready]")
        yield page
        browser.close()
    assert problems == []


def settled(page: Page, expression: str) -> None:
    """Waits until an expression is true; the page's own policy forbids Playwright's way, which evaluates strings."""
    end = time.monotonic() + 15
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


def click_at(page: Page, selector: str, x: float, y: float) -> None:
    """Clicks a place of an element, from 0 to 1."""
    box = page.locator(selector).bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


def check_accessibility(page: Page) -> None:
    """Axe finds nothing serious or critical, in light and in dark."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found = Axe().run(page).response["violations"]
        assert [
            (rule["id"], rule["nodes"][0]["html"]) for rule in found if rule["impact"] in ("serious", "critical")
        ] == []
