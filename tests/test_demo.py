"""The demo, on the real pretrained network: it recognises the cat, and its figure is the features."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from torch_featurelayer import demo


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Says what it sees, tables each layer, writes the figure, and says what to type next."""
    monkeypatch.setenv("COLUMNS", "100")
    file = tmp_path / "out.png"
    demo.main(["--out", str(file)])
    said = capsys.readouterr().out
    classes = said[said.index("class") : said.index("What we captured")]
    assert "Egyptian cat" in classes
    assert all(layer in said for layer in demo.LAYERS)
    assert "1×16×112×112" in said
    assert str(file) in said
    assert "tl.FeatureLayer(model" in said.splitlines()[-2]
    with Image.open(file) as figure:
        assert figure.width > 1500


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ImportError, match=r'pip install "torch-featurelayer\[demo\]"'):
        demo.load_model()


def test_top_classes_are_sorted_probabilities() -> None:
    logits = torch.zeros(1, 1000)
    logits[0, 285], logits[0, 281] = 10, 9
    (first, high), (second, low) = demo.top_classes(logits, 2)
    assert (first, second) == ("Egyptian cat", "tabby")
    assert high == pytest.approx(logits.softmax(-1)[0, 285].item())
    assert low < high
