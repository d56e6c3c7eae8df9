"""Images become what torchvision's models were trained on, whatever their format; what cannot be read says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torchvision.transforms._presets import ImageClassification

from torch_featurelayer import ImageError, images


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    return Image.fromarray(data.chelsea())


@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (232, 224), (342, 299)])
def test_equals_torchvisions_preset(cat: Image.Image, resize: int, crop: int) -> None:
    """Bit for bit, so that pretrained weights see what they were evaluated on."""
    right = ImageClassification(crop_size=crop, resize_size=resize)(cat)
    assert torch.equal(images.load(cat, resize=resize, crop=crop), right[None])


def test_path_array_and_pil_are_one(cat: Image.Image, tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    cat.save(file)
    right = images.load(cat)
    for source in (file, str(file), np.asarray(cat), np.asarray(cat) / 255.0):
        assert torch.equal(images.load(source), right)


def test_untouched_values() -> None:
    """Without resize, crop, mean and std the pixels are those of the photo, from 0 to 1."""
    photo = data.chelsea()
    pixels = images.load(photo, resize=None, crop=None, mean=None, std=None)
    assert pixels.dtype == torch.float32
    assert torch.equal(pixels[0].permute(1, 2, 0).mul(255).round().to(torch.uint8), torch.from_numpy(photo))


def test_exif_orientation(cat: Image.Image, tmp_path: Path) -> None:
    """A photo taken with the camera turned stands upright."""
    file = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 270 degrees
    cat.transpose(Image.Transpose.ROTATE_90).save(file, exif=exif)
    assert torch.equal(images.load(file), images.load(cat))


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK", "F", "I"])
def test_every_mode_becomes_rgb(mode: str, cat: Image.Image) -> None:
    """Three channels, close to what Pillow shows of the same image."""
    image = cat.convert("L").convert("F") if mode == "F" else cat.convert(mode)
    pixels = images.load(image, resize=None, crop=None, mean=None, std=None)
    assert pixels.shape == (1, 3, *cat.size[::-1])
    shown = torch.from_numpy(np.array(cat.convert("L" if mode in ("F", "I") else mode).convert("RGB"))) / 255
    if mode != "I":  # 32-bit integers are read on the 16-bit scale
        assert (pixels[0].permute(1, 2, 0) - shown).abs().mean() < 0.01


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_keep_their_scale(suffix: str, tmp_path: Path) -> None:
    """Pillow alone clips every value above 255 to white."""
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    file = tmp_path / f"ramp.{suffix}"
    Image.fromarray(ramp).save(file)
    for source in (file, ramp):
        pixels = images.load(source, resize=None, crop=None, mean=None, std=None)
        assert torch.allclose(pixels[0, 0], torch.from_numpy(ramp / 65535.0).float(), atol=1 / 255)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    """Cut short, or no image at all."""
    whole, cut, text = tmp_path / "whole.jpg", tmp_path / "cut.jpg", tmp_path / "notes.txt"
    Image.fromarray(data.chelsea()).save(whole)
    cut.write_bytes(whole.read_bytes()[:2000])
    text.write_text("no image")
    for file in (cut, text):
        with pytest.raises(ImageError, match=file.name) as caught:
            images.load(file)
        assert isinstance(caught.value, ValueError)
    with pytest.raises(FileNotFoundError):
        images.load(tmp_path / "none.png")


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "bomb.png"
    Image.new("L", (400, 400)).save(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match=r"bomb\.png"):
        images.load(file)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"\[H, W, 3\]"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"not \[1, 4, 4, 3\]"),
        (np.full((4, 4), 2.0), "from 0 to 1"),
        (np.full((4, 4), np.nan), "from 0 to 1"),
        (np.zeros((4, 4), np.int64), "not int64"),
        (torch.zeros(3, 4, 4), "a path, a PIL image or an array"),
        (None, "a path, a PIL image or an array"),
    ],
)
def test_what_is_no_image_is_refused(source: object, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        images.load(source)


def test_of_an_animation_the_first_frame_is_taken_and_said(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match=r"two\.gif.* has 2 frames: the first"):
        pixels = images.load(tmp_path / "two.gif", resize=None, crop=None, mean=None, std=None)
    assert pixels[0, :, 20, 20].tolist() == [1, 0, 0]
