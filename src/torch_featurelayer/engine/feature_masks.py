"""Masks of the positions of a batch, each of which finds its part for a feature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from torch import Tensor
from torch.nn import functional

from .._exceptions import LayoutError
from .._layout import Layout

PIXELS: Final = "pixel_mask"  # [N, H, W]


@dataclass(frozen=True, slots=True)
class PixelMask:
    """The pixels of a batch of images of different sizes.

    Attributes:
        real: Whether each pixel belongs to the image: a bool tensor `[N, H, W]`.
        is_encoder: Whether the tokens of a feature are positions of the image.
    """

    real: Tensor
    is_encoder: bool

    def of(self, feature: Tensor, layout: Layout | None) -> Tensor | None:
        """Returns the mask of a feature map, with its positions in one dimension; None without padding or positions.

        Raises:
            LayoutError: If the feature has the positions of the image in one dimension, whose order is not known.
        """
        positions = () if layout is None else layout.positions
        if layout is None or not positions or bool(self.real.all()):
            return None
        if len(positions) == 2 and layout.batch is not None and feature.shape[layout.batch] == len(self.real):
            size = [feature.shape[dim] for dim in positions]
            # As the models themselves reduce the mask to the size of a map.
            return functional.interpolate(self.real.unsqueeze(1).float(), size=size).flatten(1) > 0
        if not self.is_encoder:
            return None
        raise LayoutError(
            f"{PIXELS} has padding, and this feature {list(feature.shape)} has the positions of an image in one "
            "dimension",
            shape=tuple(feature.shape),
            hint="Reduce a feature map of the backbone, pass a function as reduce=, or run the images one by one.",
        )


@dataclass(frozen=True, slots=True)
class UnclearMask:
    """A mask of positions, of which it is not known whether 1 is a token or padding.

    Attributes:
        name: The argument of the model.
        shape: `(N, T)`.
    """

    name: str
    shape: tuple[int, ...]

    def of(self, feature: Tensor, layout: Layout | None) -> None:
        """Checks that a feature has no positions that the mask could be of.

        Raises:
            LayoutError: If it has.
        """
        if layout is None or layout.batch is None or len(layout.positions) != 1:
            return
        if (feature.shape[layout.batch], feature.shape[layout.positions[0]]) == self.shape:
            raise LayoutError(
                self.problem, shape=tuple(feature.shape), hint=f"{self.remedy}, or pass a function as reduce=."
            )

    @property
    def problem(self) -> str:
        """The reason that the mask is not used."""
        return (
            f"{self.name!r} among the arguments may be a mask of padding, but libraries differ on whether 1 is a token "
            "or padding"
        )

    @property
    def remedy(self) -> str:
        """The change to the model that makes the mask clear."""
        return "Name the argument attention_mask (1: token) or key_padding_mask (1: padding)"


@dataclass(frozen=True, slots=True)
class TokenMask:
    """The tokens of a batch.

    Attributes:
        chosen: Whether each position is a chosen token: a bool tensor `[N, T]`.
        has_cache: Whether features have only the last positions, as in generation with a cache.
        may_ignore: Whether features of another length belong to another part of the input, such as an image.
        feature_mask: Returns the mask of features of a length, for models that shorten their input; None for others.
        pixels: The mask of the images of the batch, for feature maps; None without one.
    """

    chosen: Tensor
    has_cache: bool
    may_ignore: bool
    feature_mask: Callable[[int], Tensor | None]
    pixels: PixelMask | None = None

    def of(self, feature: Tensor, layout: Layout | None) -> Tensor | None:
        """Returns the mask `[N, T]` of a feature; None if it has no positions of tokens.

        Raises:
            LayoutError: If its positions are others than those of the mask, and the mask has padding.
        """
        if layout is None or len(layout.positions) != 1:
            return None if self.pixels is None else self.pixels.of(feature, layout)
        items = 1 if layout.batch is None else feature.shape[layout.batch]
        length = feature.shape[layout.positions[0]]
        if (items, length) == tuple(self.chosen.shape):
            return self.chosen
        if self.has_cache and items == len(self.chosen) and length < self.chosen.shape[1]:
            return self.chosen[:, -length:]
        if items == len(self.chosen) and (shortened := self.feature_mask(length)) is not None:
            return shortened
        if self.may_ignore or bool(self.chosen.all()):
            return None
        raise LayoutError(
            f"the mask among the arguments is {list(self.chosen.shape)} and has padding, but this feature has {items} "
            f"items of {length} positions",
            shape=tuple(feature.shape),
            hint="Pass a function as reduce=, or run the items one by one.",
        )


FeatureMask: TypeAlias = TokenMask | PixelMask | UnclearMask
