"""A contact sheet shows each image as it is, with its line, and nothing where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from torch_featurelayer.figures import plot_image_grid


def test_images_stand_in_rows_with_their_titles() -> None:
    """PIL images, arrays and tensors; a gap is left empty; the words say what is there."""
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    figure = plot_image_grid(
        [Image.fromarray(pixels), pixels, torch.rand(3, 4, 4), None], ["a", "b\n0.9", "c", "d"], columns=3
    )
    assert len(figure.axes) == 6
    assert [len(ax.images) for ax in figure.axes] == [1, 1, 1, 0, 0, 0]
    assert np.array_equal(figure.axes[0].images[0].get_array(), pixels)
    assert [ax.get_title() for ax in figure.axes[:4]] == ["a", "b\n0.9", "c", "d"]
    assert figure.alt_text.startswith("a. b, 0.9. c. d.")


@pytest.mark.parametrize(("images", "titles"), [([], []), ([None], ["a", "b"])])
def test_each_image_needs_a_title(images: list[None], titles: list[str]) -> None:
    with pytest.raises(ValueError, match="titles for"):
        plot_image_grid(images, titles)
