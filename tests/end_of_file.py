"""Files end with one newline, and lines without blanks: `python -m tests.end_of_file FILE...` mends them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

BINARY = {".png", ".jpg", ".svg", ".json"}


def mended(text: str) -> str:
    """The text without blanks at the ends of lines and with one newline at its end."""
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).rstrip("\n") + "\n" if text.strip() else text


def main() -> int:
    changed = 0
    for path in map(Path, sys.argv[1:]):
        if path.suffix in BINARY:
            continue
        text = path.read_text()
        if mended(text) != text:
            path.write_text(mended(text))
            changed = 1
    return changed


if __name__ == "__main__":
    raise SystemExit(main())
