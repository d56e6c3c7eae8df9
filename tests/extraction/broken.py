"""Files that are no images."""

from __future__ import annotations

import io

from PIL import Image

KINDS = 10


def broken(kind: int) -> bytes:
    """What is no image, in ten ways: empty, cut short, zeros, text, huge, headers of other formats alone."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG")
    whole = buffer.getvalue()
    return [
        b"", whole[: len(whole) // 2], whole[:20], b"\0" * 500, b"text", b"P5 99999999 99999999 255\n", whole[2:],
        b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"RIFF\0\0\0\0WEBP",
    ][kind]  # fmt: skip
