"""How soon the explorer's page shows what was asked for, in Chromium.

python -m benchmarks.explorer [--actions 100]
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from benchmarks._report import report

# From an input to the frame after the page has drawn the answer.
TIMED = """async (act) => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const start = performance.now();
  const changed = new Promise((done) => new MutationObserver((_, seen) => { seen.disconnect(); done(); })
    .observe(document.querySelector(act.watch), { childList: true, characterData: true, subtree: true }));
  const element = document.querySelector(act.on);
  if (act.key) element.dispatchEvent(new KeyboardEvent("keydown", { key: act.key, bubbles: true }));
  else {
    const box = element.getBoundingClientRect();
    const place = { clientX: box.left + act.x * box.width, clientY: box.top + act.y * box.height };
    element.dispatchEvent(new MouseEvent("click", { bubbles: true, ...place }));
  }
  await changed;
  await frame();
  return performance.now() - start;
}"""


def timed(page: Page, **act: object) -> float:
    taken: float = page.evaluate(TIMED, act)
    page.wait_for_timeout(250)  # as a person pauses
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--actions", type=int, default=100)
    count = parser.parse_args().actions
    from skimage.data import chelsea

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        Image.fromarray(chelsea()).save(Path(folder) / "cat.jpg")
        command = [
            sys.executable,
            "-m",
            "torch_featurelayer",
            "explore",
            "efficientnet-lite0",
            "cat.jpg",
            "--no-browser",
        ]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        address = re.search(r"http\S+", server.stdout.readline())
        assert address is not None
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        start = time.perf_counter()
        page.goto(address.group())
        page.wait_for_selector("body[data-ready]")
        first = time.perf_counter() - start
        layers = [
            timed(page, on="body", key="]" if turn // 20 % 2 == 0 else "[", watch="#shape") for turn in range(count)
        ]
        probes = [
            timed(page, on="#photo", x=random.random(), y=random.random(), watch="#position") for _ in range(count)
        ]
        browser.close()
        server.terminate()

    actions = {
        "another layer of a picture already seen; its channels follow in the next frame": layers,
        "a probe, to the first cosine map": probes,
    }
    p95 = {name: statistics.quantiles(taken, n=20)[-1] for name, taken in actions.items()}
    lines = ["| | median | p95 | target for p95 |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {statistics.median(taken):.0f} ms | {p95[name]:.0f} ms | 100 ms |"
        for name, taken in actions.items()
    ]
    lines += [
        "",
        f"First picture after the page is opened, the model's first run included: {first:.2f} s (target 1.5 s).",
    ]
    about = """
EfficientNet-Lite0; the model, the server and headless Chromium share the cores. Times are
measured from an input event to the frame after the response is drawn.
"""
    report("explorer", "Latency of the explorer", about, lines, {"p95": p95, "first": first})


if __name__ == "__main__":
    main()
