"""HTML tables of features, for notebooks; only torch and the standard library are needed."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from ._exceptions import GradientError, LayerNotRunError, LayoutError
from ._pytree import describe, outline
from .analysis._maps import to_maps

_COLUMNS: Final = ("name", "shape", "dtype", "range", "NaN or Inf", "map")
_SIDE: Final = 32  # pixels of the longer side of a map
_PATCH: Final = 4  # no map is drawn of fewer positions on a side
# Colours of viridis, evenly spaced from the smallest to the largest value.
_VIRIDIS: Final = ((68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129),
                   (92, 200, 99), (170, 220, 50), (253, 231, 37))  # fmt: skip


def features_table(title: str, features: Iterable[tuple[str, Any]], not_run: Sequence[str] = ()) -> str:
    """Returns an HTML table of features.

    Args:
        title: The caption of the table.
        features: Pairs of name and feature; an exception in place of a feature that cannot be read.
        not_run: The names of layers that did not run. Default: none.
    """
    head = "".join(f'<th scope="col">{column}</th>' for column in _COLUMNS)
    body = "".join(_row(name, value) for name, value in features)
    note = f"<p>Not run: {escape(', '.join(not_run))}</p>" if not_run else ""
    return f"<table><caption>{title}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def _row(name: str, value: Any) -> str:
    if isinstance(value, Tensor):
        cells = "".join(f"<td>{cell}</td>" for cell in _tensor_cells(value))
    else:
        cells = f'<td colspan="{len(_COLUMNS) - 1}">{escape(_describe(value))}</td>'
    return f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'


def _describe(value: Any) -> str:
    """Describes a feature that is not a tensor."""
    if isinstance(value, LayerNotRunError):
        return "not run"
    if isinstance(value, GradientError):
        return "no gradient yet"
    if isinstance(value, Exception):
        return str(value)
    structure = outline(value)
    return structure if len(structure) <= 120 else describe(value)


def _tensor_cells(tensor: Tensor) -> tuple[str, ...]:
    shape, dtype = str(list(tensor.shape)), str(tensor.dtype).removeprefix("torch.")
    if not tensor.numel() or tensor.is_complex() or tensor.device.type == "meta":
        return shape, dtype, "", "", ""
    values = tensor.detach().float()
    finite = values[values.isfinite()]
    span = f"{finite.min():.3g} to {finite.max():.3g}" if finite.numel() else ""
    return shape, dtype, span, str(values.numel() - finite.numel()), _map_image(values)


def _map_image(feat: Tensor) -> str:
    """Returns an image of the first sample, if the feature is a map: the norm over channels, in viridis."""
    try:
        maps = to_maps(feat)
    except (LayoutError, ValueError):
        return ""
    if min(maps.shape[-2:]) < _PATCH:
        return ""
    # The norm, because positive and negative channels cancel in a mean.
    grid = maps[0].nan_to_num(0, 0, 0).square().sum(0).sqrt().cpu()
    scale = _SIDE / max(grid.shape)
    if scale < 1:
        rows, columns = (max(round(side * scale), 1) for side in grid.shape)
        grid = functional.adaptive_avg_pool2d(grid[None, None], (rows, columns))[0, 0]
    png = _png(_colors(grid))
    text = f"{maps.shape[-2]} × {maps.shape[-1]} positions, norm of {maps.shape[1]} channels"
    style = f"width:{2 * _SIDE}px;image-rendering:pixelated"
    return f'<img style="{style}" alt="{text}" title="{text}" src="data:image/png;base64,{b64encode(png).decode()}">'


def _colors(grid: Tensor) -> Tensor:
    """Returns the colours of a map, `[H, W, 3]` in uint8."""
    palette = torch.tensor(_VIRIDIS, dtype=torch.float32)
    scaled = (grid - grid.min()) / (grid.max() - grid.min()).clamp_min(1e-12) * (len(palette) - 1)
    lower = scaled.floor().clamp(0, len(palette) - 2).long()
    return torch.lerp(palette[lower], palette[lower + 1], (scaled - lower)[..., None]).round().to(torch.uint8)


def _png(pixels: Tensor) -> bytes:
    """Returns a PNG file of pixels `[H, W, 3]` in uint8 (https://www.w3.org/TR/png)."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + bytes(row.flatten().tolist()) for row in pixels)  # each row begins with its filter, none
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
