"""The command, run as a user does: in a process of its own for what only that shows, else in this one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from torch_featurelayer import __version__
from torch_featurelayer.cli.app import app

pytestmark = pytest.mark.slow


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from skimage.data import chelsea

    Image.fromarray(chelsea()).save(tmp_path / "cat.png")
    monkeypatch.chdir(tmp_path)
    return "cat.png"


def size(file: str) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def alone(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch_featurelayer", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_does_not_import_torch() -> None:
    """Nor any other large package: that is what makes it quick."""
    code = """
import sys
sys.argv = ["featurelayer", "--help"]
from torch_featurelayer.cli import main

try:
    main()
except SystemExit as end:
    assert end.code == 0
assert not {"torch", "numpy", "matplotlib", "PIL"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in (
        "layers",
        "show",
        "compare",
        "cam",
        "diff",
        "check",
        "extract",
        "search",
        "duplicates",
        "explore",
        "demo",
    ):
        assert command in done.stdout


@pytest.mark.parametrize(
    "command", ["layers", "show", "compare", "cam", "diff", "check", "stats", "extract", "explore"]
)
def test_help_teaches(command: str) -> None:
    """Each command shows an example, and says how models are named."""
    text = run(command, "--help")
    assert f"featurelayer {command}" in text
    assert "torchvision:NAME" in text


def test_version() -> None:
    assert run("--version") == f"featurelayer {__version__}\n"


def test_layers_as_a_table_and_as_json() -> None:
    text = run("layers", "torchvision:resnet18", "--depth", "1")
    assert "conv1" in text
    assert "layer1.0" not in text
    assert "\x1b" not in text
    rows = json.loads(run("layers", "torchvision:resnet18", "--depth", "0", "--json"))
    block = next(row for row in rows if row["path"] == "layer1.0")
    assert (block["type"], block["operations"], block["output"]) == ("BasicBlock", {"add": 1}, "[1, 64, 56, 56]")


@pytest.mark.parametrize("kind", ["map", "overlay", "pca", "histogram"])
def test_show(kind: str, photo: str) -> None:
    out = f"sub/{kind}.png"
    told = json.loads(run("show", "efficientnet-lite0", photo, "--kind", kind, "-o", out, "--json"))
    assert size(out)[0] > 500
    assert "cat" in told["classes"][0][0]
    assert [layer["shape"][-1] for layer in told["layers"]] == [112, 56, 28, 14, 7]
    assert told["out"] == out
    assert "ImageNet" in told["weights"]


def test_show_one_layer_and_its_channels(photo: str) -> None:
    text = run("show", "efficientnet-lite0", photo, "--layer", "_blocks.4", "-k", "channels", "-o", "channels.svg")
    assert "_blocks.4  1×40×28×28" in text
    assert "channels.svg" in text
    assert Path("channels.svg").read_text().startswith("<?xml")


def test_show_tokens_of_a_transformer(photo: str) -> None:
    run("show", "timm:vit_tiny_patch16_224", photo, "--weights", "random", "-o", "vit.png")
    assert size("vit.png")[0] > 500


def test_compare(photo: str) -> None:
    text = run("compare", "torchvision:vgg11", "torchvision:resnet18", photo, "--weights", "random", "-o", "both.png")
    assert "vgg11: features.1, features.4" in text
    assert "resnet18: relu, layer1" in text
    told = json.loads(run("compare", "torchvision:alexnet", photo, "-w", "random", "-o", "one.png", "--json"))
    assert told["layers"]["alexnet"][0] == "features.1"
    assert "alexnet, features.1" in told["alt"]
    width, height = size("both.png")
    assert width > height > 500


def test_cam(photo: str) -> None:
    told = json.loads(run("cam", "efficientnet-lite0", photo, "--class", "egyptian cat", "--json"))
    assert (told["class"], told["label"], told["out"]) == (285, "Egyptian cat", "cam.png")
    assert 0.2 < told["probability"] < 0.6
    assert "tiger cat" in run("cam", "efficientnet-lite0", photo, "--layer", "_blocks.10")
    assert size("cam.png")[0] > 300


def test_weights_from_a_file_and_seeds(photo: str) -> None:
    import torch

    from torch_featurelayer import models

    torch.save(models.load("torchvision:squeezenet1_1", weights="random", seed=7).model.state_dict(), "seven.pt")
    shared = ("show", "torchvision:squeezenet1_1", photo, "--json")
    seven = json.loads(run(*shared, "--weights", "random", "--seed", "7"))["layers"]
    assert json.loads(run(*shared, "--weights", "seven.pt"))["layers"] == seven
    assert json.loads(run(*shared, "--weights", "random", "--seed", "8"))["layers"] != seven


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("layers", "torchvision:resnt18"), "Did you mean 'torchvision:resnet18'"),
        (("show", "efficientnet-lite0", "cat.png", "-l", "_block.4"), "Did you mean '_blocks.4'"),
        (("show", "efficientnet-lite0", "dog.png"), "dog.png"),
        (("show", "efficientnet-lite0", "broken.png"), "broken.png"),
        (("cam", "efficientnet-lite0", "cat.png", "--class", "egyptian ct"), "Did you mean 'Egyptian cat'"),
        (("show", "torchvision:squeezenet1_1", "cat.png", "-w", "no.pt"), "the file 'no.pt' does not exist"),
        (("cam", "efficientnet-lite0", "cat.png", "--class", "4000"), "has 1000 classes, 0 to 999"),
        (("show", "efficientnet-lite0", "cat.png", "--device", "cuda:99"), "the device 'cuda:99' is not available"),
        (("show", "resnet18", "cat.png"), "Did you mean 'torchvision:resnet18'"),
        (("search", "no-store", "cat.png"), "no store in 'no-store'"),
        (
            ("show", "timm:vit_tiny_patch16_224", "cat.png", "-w", "random", "-l", "head", "-k", "pca"),
            "is not a map of the image",
        ),
    ],
)
def test_a_mistake_is_one_line(
    arguments: tuple[str, ...], says: str, photo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, without a traceback; the exit code is 1."""
    Path("broken.png").write_bytes(Path(photo).read_bytes()[:5000])
    with pytest.raises(SystemExit) as end:
        app(list(arguments))
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
    assert "Traceback" not in error


def test_errors_name_options_not_arguments(
    photo: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shell knows `--weights random`, not `weights='random'`, and no function of Python."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(Path.cwd()))
    for arguments in (
        ["show", "torchvision:vgg11", photo],
        ["show", "efficientnet-lite0", photo, "-l", "_blokcs.1"],
        ["show", "efficientnet-lite0", photo, "-l", "_fc", "-k", "pca"],
    ):
        with pytest.raises(SystemExit):
            app(arguments)
        error = capsys.readouterr().err
        assert "--weights random" in error or "`featurelayer layers`" in error or "--layer" in error
        assert not re.search(r"weights=|layout=|get_layer_candidates|\(model", error)


def test_out_without_an_ending_is_a_png(photo: str) -> None:
    told = json.loads(run("show", "efficientnet-lite0", photo, "-l", "_blocks.0", "-o", "cat", "--json"))
    assert told["out"] == "cat.png"
    assert size("cat.png")[0] > 100


def test_one_channel(photo: str) -> None:
    """Its map, which the label of the colour bar names."""
    told = json.loads(run("show", "efficientnet-lite0", photo, "-l", "_blocks.0", "--channel", "5", "--json"))
    assert "channel 5 of 16" in told["alt"]
    assert CliRunner().invoke(app, ["show", "efficientnet-lite0", photo, "-c", "five"]).exit_code == 2


def test_json_is_json_while_a_library_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a download does, whose progress goes to standard error."""
    from torch_featurelayer import models

    load = models.load

    def printing(*arguments: object, **options: object) -> object:
        print("Downloading: 100 %")  # noqa: T201 (as torch.hub does)
        return load(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(models, "load", printing)
    with pytest.raises(SystemExit):
        app(["layers", "torchvision:squeezenet1_1", "--json"])
    captured = capsys.readouterr()
    assert json.loads(captured.out)[0]["type"] == "SqueezeNet"
    assert "Downloading" in captured.err


def test_the_explorer_without_its_extra(photo: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(SystemExit) as end:
        app(["explore", "efficientnet-lite0", photo])
    assert end.value.code == 1
    assert "the extra 'explore'" in capsys.readouterr().err


def test_defaults_are_said_once() -> None:
    for command in ("show", "cam", "compare", "extract", "search"):
        text = re.sub(r"[│╭╮╰╯─\s]+", " ", run(command, "--help"))
        assert not re.search(r"[Dd]efault[^\]]*\] \[default", text), command


@pytest.mark.parametrize(
    "arguments",
    [("show", "efficientnet-lite0"), ("compare", "cat.png"), ("show", "a", "b", "-k", "channels"), ("shw",)],
)
def test_wrong_use_exits_with_2(arguments: tuple[str, ...], photo: str) -> None:  # noqa: ARG001
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_featurelayer import cli

    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit, match=r'pip install .*"typer>=.*the extra \'cli\''):
        cli.main()


def test_piped_output_is_plain() -> None:
    """No colour, no spinner, and a table that is not folded."""
    done = alone("layers", "torchvision:squeezenet1_1", "--depth", "2")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert re.search(r"features\.12 +Fire", done.stdout)


def test_the_shell_completes_commands_and_options() -> None:
    """Through the completion that `featurelayer --install-completion` installs."""
    done = subprocess.run(
        [sys.executable, "-c", "from torch_featurelayer.cli import main; main()"],
        env={
            **os.environ,
            "_FEATURELAYER_COMPLETE": "complete_bash",
            "COMP_WORDS": "featurelayer sh",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["show"]


def test_explore_takes_models_then_images() -> None:
    """The second is a model if it is named as one; without an image it says what to give."""
    from torch_featurelayer.cli.explore import split

    assert split(["timm:a", "cat.jpg"]) == (["timm:a"], ["cat.jpg"])
    assert split(["timm:a", "efficientnet-lite0", "x.png"])[0] == ["timm:a", "efficientnet-lite0"]
    assert split(["a", "hf:b", "x.png", "y.png"]) == (["a", "hf:b"], ["x.png", "y.png"])
    assert "give an image or a text" in re.sub(r"\s+", " ", CliRunner().invoke(app, ["explore", "timm:a"]).output)


def test_diff(photo: str) -> None:
    """The first layer that differs, in words, JSON and a figure; the exit code is fit for CI."""
    model = "torchvision:resnet18"
    same = run("diff", model, model, photo, "-w", "random")
    assert same.splitlines()[0].split()[:3] == ["layer", "type", "error"]
    assert "no layer above 1e-05" in same
    command = ("diff", model, model, "-w", "random", "--bfloat16", "--json", "-o", "diff.png")
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["first"], found["out"]) == ("conv1", "diff.png")
    assert found["rows"][-1]["name"] == ""
    assert size("diff.png")[0] > 600
    assert run("diff", model, model, "-w", "random", "--bfloat16", "--rtol", "1", "--by-order")


BROKEN = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return model

def broken():
    model = network()
    model[4].weight.data.fill_(torch.inf)
    return model
"""


def test_check(photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image with the first bad layer; one that cannot be read is named too."""
    Path("some_models.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(".")
    Path("photos").mkdir()
    Path(photo).rename("photos/cat.png")
    assert run("check", "some_models:network", "photos").strip() == "1 images, 0 with NaN or infinite values"
    assert run("check", "some_models:network", "photos/cat.png", "--bfloat16")
    Path("photos/none.jpg").write_bytes(b"none")
    result = CliRunner().invoke(app, ("check", "some_models:broken", "photos", "--json"), catch_exceptions=False)
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["images"] == 2
    assert [(error["image"], error["layer"]) for error in found["errors"]] == [("cat.png", "4"), ("none.jpg", None)]
    assert "parameter '4.weight' has 12 inf already" in found["errors"][0]["message"]


def test_stats(photo: str) -> None:
    """Each layer in a line, as JSON, as a table and as a figure; it continues from its file."""
    Path("photos").mkdir()
    Path(photo).rename("photos/cat.png")
    Path("photos/none.jpg").write_bytes(b"none")
    command = ("stats", "torchvision:resnet18", "photos", "-w", "random", "-l", "layer1", "-l", "layer4")
    files = ("--state", "stats", "--parquet", "stats.parquet", "-o", "health.png")
    for _ in range(2):
        text = run(*command, *files)
        assert "LayerStatistics('layer1': 64 channels over 3,136 positions" in text
        assert "none.jpg: ValueError: 4 bytes that are not an image" in text
        assert text.endswith("parquet: stats.parquet\nfigure: health.png\n")
    assert size("health.png")[1] > 600
    found = json.loads(run(*command, "--json"))
    assert (found["items"], list(found["errors"])) == (2, ["none.jpg"])
    assert [(each["layer"], each["channels"], each["positions"]) for each in found["layers"]] == [
        ("layer1", 64, 3136), ("layer4", 512, 49),
    ]  # fmt: skip
    dead = max(len(each["dead"]) / each["channels"] for each in found["layers"])
    strict = CliRunner().invoke(app, (*command, "--most-dead", "0"), catch_exceptions=False)
    assert strict.exit_code == int(dead > 0)
    assert run(*command, "--most-dead", "1")
