"""Encodes numbers for the browser: a JSON header and raw bytes in one frame.

A frame is the length of the header in four bytes (little-endian), the header in UTF-8, padded with spaces so that the
arrays begin at a multiple of eight bytes, and the arrays one after another, each padded to a multiple of eight bytes.
JSON of the same numbers is 13 times as large.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import torch
from torch import Tensor

from ..figures import alt_text

_ALIGNMENT = 8
_NAMES = {torch.uint8: "uint8", torch.float32: "float32", torch.int32: "int32"}


def frame(header: Mapping[str, Any], arrays: Mapping[str, Tensor]) -> bytes:
    """Encodes a header and arrays of uint8, int32 or float32.

    Args:
        header: JSON values.
        arrays: The arrays by name; `arrays` in the header describes their dtype, shape, offset and length.
    """
    parts, description, offset = [], {}, 0
    for name, array in arrays.items():
        content = array.detach().cpu().contiguous().numpy().tobytes()
        description[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "offset": offset,
            "bytes": len(content),
        }
        parts.append(_pad(content, b"\0"))
        offset += len(parts[-1])
    text = json.dumps(_finite({**header, "arrays": description}), allow_nan=False).encode()
    text = _pad(b"\0" * 4 + text, b" ")[4:]
    return len(text).to_bytes(4, "little") + text + b"".join(parts)


def picture_frame(figure: Any, name: str, options: Mapping[str, str], code: str) -> bytes:
    """Encodes a figure as a PNG or SVG file with its name and its caption, and the code that draws it.

    Raises:
        ValueError: If the format is another one.
    """
    kind = options.get("format", "png")
    if kind not in ("png", "svg"):
        raise ValueError(f"format must be png or svg, not {kind!r}")
    buffer = BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, bbox_inches="tight")
    content = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
    return frame({"name": f"{name}.{kind}", "alt": alt_text(figure), "code": code}, {"file": content})


def quantize(maps: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Returns maps `[K, H, W]` as uint8, from 1 at `low` to 255 at `high`; 0 for values that are not finite.

    Args:
        maps: The values.
        low: The lower limit `[K]`, or one for all; smaller values are clipped.
        high: The upper limit `[K]`, or one for all; larger values are clipped.
    """
    low, high = low.reshape(-1, 1, 1), high.reshape(-1, 1, 1)
    span = (high - low).clamp_min(torch.finfo(torch.float32).tiny)
    scaled = ((maps - low) / span).clamp(0, 1) * 254 + 1
    return torch.where(maps.isfinite(), scaled.nan_to_num(0.0), 0).to(torch.uint8)


def _finite(value: Any) -> Any:
    """Returns JSON values with null in place of NaN and infinite numbers, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value


def _pad(content: bytes, with_: bytes) -> bytes:
    return content + with_ * (-len(content) % _ALIGNMENT)
