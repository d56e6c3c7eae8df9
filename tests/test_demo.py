"""The demo, on the real pretrained network: it recognises the cat, and its figure is the features."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from torch_featurelayer import demo


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Says what it sees, tables each layer, writes the figure, and says what to type next."""
    monkeypatch.setenv("COLUMNS", "100")
    file = tmp_path / "out.png"
    demo.run(file)
    said = capsys.readouterr().out
    classes = said[said.index("class") : said.index("Captured layers")]
    assert "Egyptian cat" in classes
    assert all(layer in said for layer in demo.LAYERS)
    assert "1×16×112×112" in said
    assert str(file) in said
    assert "tl.FeatureLayer(model" in said.splitlines()[-2]
    with Image.open(file) as figure:
        assert figure.width > 1500


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(
        ImportError, match=r'is not installed: pip install "efficientnet-lite-pytorch==.*the extra \'demo\''
    ):
        demo.run(tmp_path / "out.png")
