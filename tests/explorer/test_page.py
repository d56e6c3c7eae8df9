"""The page, in a real browser: what a user does, and that it asks no other host for anything."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers
from PIL import Image
from playwright.sync_api import Page, Route
from skimage.data import chelsea, coffee

import torch_featurelayer as tl
from tests.explorer.browser import check_accessibility, click_at, opened, serving, settled
from tests.texts import make_tokenizer
from torch_featurelayer.explorer import Explorer, Picture
from torch_featurelayer.models import LoadedModel
from torch_featurelayer.models._hf_inputs import HfText

pytestmark = [pytest.mark.slow, pytest.mark.browser]


CAPTION = "document.querySelector('.photo-caption').textContent"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server in a thread, with a CNN and a small ViT."""
    models = [tl.models.load("efficientnet-lite0"), tl.models.load("timm:vit_tiny_patch16_224", weights="random")]
    pictures = [Picture("cat.jpg", Image.fromarray(chelsea())), Picture("coffee.jpg", Image.fromarray(coffee()))]
    with serving(Explorer(models, pictures)) as address:
        yield address


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    with opened(address) as page:
        yield page


def test_the_whole_path_of_a_user(page: Page, tmp_path: Path) -> None:
    """Search, choose, probe, page through channels, take one away, compare stages, another model, another picture."""
    assert "Egyptian cat" in page.inner_text("#classes") or "tiger cat" in page.inner_text("#classes")
    page.fill("#search", "blocks.10")
    page.click("#tree li[data-path='_blocks.10'] > span")
    settled(page, "document.querySelector('#where').textContent === '_blocks.10'")
    settled(page, "document.querySelector('#shape').textContent.startsWith('112 channels of 14 × 14, a stride of 16')")
    click_at(page, "#photo", 6.5 / 14, 4.5 / 14)
    settled(page, "document.querySelectorAll('#linked button i').length > 5")
    assert "Row 4, column 6" in page.inner_text("#position")
    page.focus("#photo")
    page.keyboard.press("ArrowRight")
    settled(page, "document.querySelector('#position').textContent.includes('column 7')")
    page.select_option("#by", "mean")
    page.focus("#next")  # not the mouse: answers that arrive meanwhile may move the button
    page.keyboard.press("Enter")
    settled(page, "document.querySelector('#page').textContent === 'page 2 of 2'")
    page.click("#channels button >> nth=0")
    settled(page, "document.querySelector('#classes').caption.textContent.startsWith('Without channel')")
    assert page.eval_on_selector_all("#linked i", "marks => marks.length") > 5
    page.hover("#photo", position={"x": 10, "y": 10})
    settled(page, "document.querySelector('#pointed').textContent.startsWith('Row 0, column 0: ')")
    page.click("#tab-save")
    page.click("#values summary")
    settled(page, "document.querySelectorAll('#values-table td').length === 14 * 14")
    for shown in ("pca", "cosine", "photo", "mean", "norm"):
        page.select_option("#shown", shown)
        settled(page, "document.querySelector('#live').textContent === ''")
    page.click("#tab-alignment")
    page.click("#align")
    settled(page, "document.querySelectorAll('#alignment td').length > 20")
    page.select_option("#model", "1")
    settled(page, "document.querySelector('#weights').textContent.includes('random')")
    page.select_option("#picture", "1")
    Image.fromarray(chelsea()).save(tmp_path / "mine.png")
    page.set_input_files("#upload", tmp_path / "mine.png")
    settled(page, "document.querySelector('#picture').selectedOptions[0].text === 'mine.png'")


def test_a_link_restores_the_view(page: Page) -> None:
    page.fill("#search", "blocks.4")
    page.click("#tree li[data-path='_blocks.4'] > span")
    settled(page, "location.hash.includes('layer=_blocks.4')")
    page.click("#photo", position={"x": 100, "y": 100})
    settled(page, "document.querySelector('#position').textContent.startsWith('Row')")
    where = page.inner_text("#position")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.inner_text("#where") == "_blocks.4"
    settled(page, "document.querySelector('#position').textContent.startsWith('Row')")
    assert page.inner_text("#position") == where


def test_the_keyboard_is_enough(page: Page) -> None:
    """The tree by its pattern: one stop of Tab, arrows inside; brackets change the layer."""
    assert page.eval_on_selector_all("#tree [tabindex='0']", "items => items.length") == 1
    page.focus("#tree [tabindex='0']")
    page.keyboard.press("Home")
    first = page.evaluate("document.activeElement.dataset.path")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.path") != first
    page.keyboard.press("Enter")
    settled(page, "document.activeElement.ariaSelected === 'true'")
    before = page.inner_text("#where")
    page.keyboard.press("]")
    settled(page, f"document.querySelector('#where').textContent !== '{before}'")
    page.keyboard.press("[")
    settled(page, f"document.querySelector('#where').textContent === '{before}'")


def test_grad_cam_side_by_side_and_saving(page: Page, tmp_path: Path) -> None:
    """A class by its name; two models in one range; the picture and the Python lines, which make the same picture."""
    page.select_option("#shown", "cam")
    page.fill("#target", "Egyptian cat")
    page.keyboard.press("Enter")
    settled(page, "document.querySelector('.photo-caption').textContent.startsWith('Grad-CAM of Egyptian cat')")
    page.click("#tab-beside")
    page.select_option("#range", "shared")
    settled(page, "document.querySelector('#right').nextElementSibling.textContent.includes('one range for both')")
    page.click("#tab-save")
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        with page.expect_download() as saved:
            page.click(f"#save-{kind}")
        saved.value.save_as(tmp_path / kind)
        assert (tmp_path / kind).read_bytes().startswith(start)
    page.click("#show-code")
    settled(page, "document.querySelector('#code').textContent.includes('tl.figures.plot_cam')")


def test_the_first_view(page: Page) -> None:
    """One screen: the image beside the map of a middle stage, the strip, the channels, and the predictions as bars."""
    page.set_viewport_size({"width": 1440, "height": 900})
    assert page.inner_text("#where") == "_blocks.4"
    for selector in ("#image", "#photo", "#linked", "#classes", "#channels"):
        box = page.locator(selector).bounding_box()
        assert box is not None
        assert box["y"] < 900, selector
    assert page.evaluate("document.documentElement.scrollHeight") <= 900
    assert page.locator("#linked button").count() == 5
    widths = page.eval_on_selector_all("#classes .bar i", "bars => bars.map((bar) => parseFloat(bar.style.width))")
    assert widths == sorted(widths, reverse=True)
    assert 30 < widths[0] < 50
    click_at(page, "#image", 0.4, 0.4)
    settled(page, "document.querySelector('#position').textContent.startsWith('Row 11, column 11')")
    page.click("#linked button >> nth=1")
    settled(page, "document.querySelector('#where').textContent === '_blocks.2'")
    assert page.locator("#linked button[aria-current=true]").count() == 1


def test_the_mouse_opens_a_layer_that_has_a_map(page: Page) -> None:
    where = page.inner_text("#where")
    item = "#tree li[data-path='_blocks.6']"
    assert page.get_attribute(item, "aria-expanded") == "false"
    page.click(f"{item} > span > .twist")
    assert page.get_attribute(item, "aria-expanded") == "true"
    assert page.inner_text("#where") == where


def test_what_belongs_to_another_view_is_removed(page: Page) -> None:
    """An ablation with the layer, the CKA with the image."""
    page.click("#channels button >> nth=2")
    settled(page, "document.querySelector('#classes').caption.textContent.startsWith('Without channel 2')")
    assert page.locator("#channels button[aria-pressed=true]").count() == 1
    assert page.locator("#classes .bar b:not([hidden])").count() >= 4
    page.click("#tab-alignment")
    page.click("#align")
    settled(page, "document.querySelectorAll('#alignment td').length > 20")
    page.keyboard.press("]")
    settled(page, "document.querySelector('#classes').caption.textContent === 'Most probable classes'")
    assert page.is_hidden("#restore")
    page.select_option("#picture", "1")
    settled(page, "document.querySelectorAll('#alignment td').length === 0")


def test_back_and_a_channel_by_its_number(page: Page) -> None:
    first = page.inner_text("#where")
    page.click("#tree li[data-path='_blocks.10'] > span")
    settled(page, "document.querySelector('#where').textContent === '_blocks.10'")
    page.fill("#go", "100")
    page.keyboard.press("Enter")
    settled(page, "document.querySelector('.photo-caption').textContent.startsWith('channel 100: ')")
    settled(page, "document.querySelector('#page').textContent === 'page 2 of 2'")
    page.go_back()
    settled(page, f"document.querySelector('#where').textContent === '{first}'")


def test_an_image_is_dropped(page: Page) -> None:
    page.evaluate("""async () => {
      const canvas = new OffscreenCanvas(40, 40);
      canvas.getContext("2d").fillRect(5, 5, 20, 20);
      const file = new File([await canvas.convertToBlob()], "dropped.png", { type: "image/png" });
      const data = new DataTransfer();
      data.items.add(file);
      document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
    }""")
    settled(page, "document.querySelector('#picture').selectedOptions[0].text === 'dropped.png'")


def test_the_channels_are_one_stop_of_tab(page: Page) -> None:
    """Arrows move between the tiles, in rows; the position of the probe is announced."""
    settled(page, """document.querySelectorAll("#channels button[tabindex='0']").length === 1""")
    page.focus("#channels button[tabindex='0']")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.channel") == "1"
    page.keyboard.press("ArrowDown")
    below = int(page.evaluate("document.activeElement.dataset.channel"))
    assert below > 2
    assert page.locator("#channels button[tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    settled(page, f"{CAPTION}.startsWith('channel {below}: ')")
    assert page.get_attribute("#position", "aria-live") == "polite"
    assert page.get_attribute("#photo", "role") == "application"


def test_escape_returns_to_the_last_view(page: Page) -> None:
    """While another image is being computed: nothing of it stays."""
    before = page.inner_text("#where"), page.inner_text("#classes")
    held: list[Route] = []
    page.route("**/api/layer*", lambda route: held.append(route))
    with page.expect_request("**/api/layer*"):
        page.select_option("#picture", "1")
    settled(page, "document.querySelector('#classes').textContent.includes('espresso')")
    page.keyboard.press("Escape")
    for route in held:
        route.continue_()
    page.unroute("**/api/layer*")
    settled(page, "document.querySelector('#picture').value === '0'")
    settled(page, "document.querySelector('#classes').textContent.includes('tiger cat')")
    settled(page, "document.querySelector('#live').textContent === ''")
    assert (page.inner_text("#where"), page.inner_text("#classes")) == before


def test_a_link_that_is_typed(page: Page) -> None:
    """Another fragment in the address changes the view, without loading the page."""
    page.evaluate("location.hash = location.hash.replace('layer=_blocks.4', 'layer=_blocks.2')")
    settled(page, "document.querySelector('#where').textContent === '_blocks.2'")


def test_the_tabs_by_keyboard(page: Page) -> None:
    page.focus("#tab-probe")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-statistics"
    assert page.is_visible("#panel-statistics")
    assert page.is_hidden("#panel-probe")
    assert "Never above zero" in page.inner_text("#statistics")


@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_nothing_is_wider_than_the_screen(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 850})
    click_at(page, "#image", 0.4, 0.4)
    settled(page, "document.querySelector('#position').textContent.startsWith('Row')")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#image").bounding_box()
    assert box is not None
    assert box["y"] < 400


def test_axe_finds_no_violation(page: Page) -> None:
    """Nothing serious or critical, in light and in dark, with a probe set and a table computed."""
    page.click("#photo", position={"x": 100, "y": 100})
    page.click("#tab-alignment")
    page.click("#align")
    settled(page, "document.querySelectorAll('#alignment td').length > 20")
    check_accessibility(page)


def test_edits_of_a_channel(page: Page) -> None:
    """Zero, and other edits; the bars go back when the channel is restored."""
    page.click("#channels button >> nth=3")
    settled(page, "document.querySelector('#classes').caption.textContent === 'Without channel 3 of _blocks.4'")
    page.select_option("#edit", "double")
    settled(page, "document.querySelector('#classes').caption.textContent.startsWith('With twice channel 3')")
    page.click("#restore")
    settled(page, "document.querySelector('#classes').caption.textContent === 'Most probable classes'")


def test_attention_of_a_head(page: Page) -> None:
    page.select_option("#model", "1")
    settled(page, "document.querySelector('#weights').textContent.includes('random')")
    page.select_option("#shown", "attention")
    settled(
        page, "document.querySelector('.photo-caption').textContent.startsWith('attention of head 0 from the first')"
    )
    click_at(page, "#photo", 0.5, 0.5)
    settled(
        page, "document.querySelector('.photo-caption').textContent.startsWith('attention of head 0 from the probe')"
    )
    page.fill("#head", "2")
    page.keyboard.press("Enter")
    settled(page, f"{CAPTION}.startsWith('attention of head 2')")


def test_a_map_is_enlarged(page: Page) -> None:
    before = page.locator("#photo").bounding_box()
    page.click("#enlarge")
    after = page.locator("#photo").bounding_box()
    assert before is not None
    assert after is not None
    assert after["width"] > 1.4 * before["width"]
    assert page.is_hidden("#image")


def test_two_models_that_are_not_compared(page: Page) -> None:
    """No layer of the ViT has the name of one of the CNN, which is said instead of shown as equal."""
    settled(page, "document.querySelector('#tree-note').textContent.includes('not compared')")
    assert page.locator("#tree em").count() == 0


def test_it_answers_at_once(page: Page) -> None:
    """Not a benchmark: that nothing is slow by an order of magnitude."""
    start = time.perf_counter()
    for _ in range(10):
        page.keyboard.press("[")
        page.wait_for_timeout(1)
    settled(page, "document.querySelector('#live').textContent === ''")
    assert time.perf_counter() - start < 10


def test_layers_inside_a_block_that_returns_a_tuple() -> None:
    """The block has the address of the states in its output; what is inside it stays inside."""
    tokenizer = make_tokenizer("gpt2")
    config = transformers.BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_layer=2, n_head=4)
    model = LoadedModel("bloom", transformers.BloomModel(config).eval(), HfText(tokenizer), "random")
    with serving(Explorer([model], [Picture("text", "the cat sat")])) as address, opened(address) as page:
        assert page.inner_text("#where") == "h.0[0]"
        inside = page.locator("#tree li[data-path='h.1[0]'] li[data-path='h.1.mlp']")
        assert inside.count() == 1
        page.click("#tree li[data-path='h.1[0]'] > span")
        settled(page, "document.querySelector('#where').textContent === 'h.1[0]'")
        settled(page, "document.querySelector('#shape').textContent === '32 channels of 3 tokens'")
