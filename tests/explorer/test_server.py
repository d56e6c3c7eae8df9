"""Who may ask for what, and that nothing that is asked brings the server down."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import chelsea, coffee
from starlette.testclient import TestClient

import torch_featurelayer as tl
from tests.explorer.test_serialization import unpacked
from torch_featurelayer.explorer import Explorer, Picture, application
from torch_featurelayer.explorer.inputs import transfer
from torch_featurelayer.models import LoadedModel

TOKEN = "right"  # noqa: S105
HEADERS = {"x-featurelayer-token": TOKEN}


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tl.models.load("efficientnet-lite0")


@pytest.fixture
def explorer(loaded: LoadedModel) -> Explorer:
    return Explorer([loaded], [Picture("cat.jpg", Image.fromarray(chelsea()))])


@pytest.fixture
def client(explorer: Explorer) -> Iterator[TestClient]:
    with TestClient(application(explorer, TOKEN), base_url="http://127.0.0.1:8000") as client:  # type: ignore[arg-type]
        yield client


def ask(client: TestClient, view: str, **options: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    response = client.get(f"/api/{view}", params=options, headers=HEADERS)
    assert response.status_code == 200, response.text
    return unpacked(response.content)


def png(size: tuple[int, int] = (64, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::2]:80"])
def test_a_forged_host_is_refused(client: TestClient, host: str) -> None:
    """Even for the page itself."""
    assert client.get("/", headers={"host": host}).status_code == 403
    assert client.get("/api/overview", headers={**HEADERS, "host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:9", "127.0.0.1:80", "[::1]", "[::1]:443"])
def test_names_of_this_machine_are_accepted_whatever_the_port(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("token", [None, "", "wrong", "right ", "RIGHT", "räight"])
def test_a_missing_or_wrong_token_is_refused(client: TestClient, token: str | None) -> None:
    headers = {} if token is None else {"x-featurelayer-token": token.encode()}
    assert client.get("/api/overview", headers=headers).status_code == 403
    assert client.post("/api/upload", params={"name": "a"}, content=png(), headers=headers).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:9", "null"])
def test_a_foreign_origin_is_refused(client: TestClient, origin: str) -> None:
    answer = client.post("/api/upload", params={"name": "a"}, content=png(), headers={**HEADERS, "origin": origin})
    assert answer.status_code == 403


def test_every_answer_has_its_headers(client: TestClient) -> None:
    for path in ("/", "/app.js", "/api/overview", "/none"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


@pytest.mark.parametrize(
    "path", ["/../server.py", "/%2e%2e/server.py", "/..%2fserver.py", "/static/../guard.py", "//etc/passwd"]
)
def test_nothing_outside_the_page_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_uploads(client: TestClient, explorer: Explorer) -> None:
    """A picture is added under its bare name; what is none, or too large, is refused in words."""

    def send(name: str, content: bytes) -> Any:
        return client.post("/api/upload", params={"name": name}, content=content, headers=HEADERS)

    assert send("/home/me/dog.png", png()).json() == {"picture": 1, "pictures": ["cat.jpg", "dog.png"]}
    assert ask(client, "photo", picture=1)[1]["pixels"].shape == (3, 224, 224)
    for content in (b"", b"no image", png()[:40], b"\0" * 1000):
        answer = send("x.png", content)
        assert answer.status_code == 400
        assert "image" in answer.json()["error"] or "read" in answer.json()["error"]
    assert send("big.png", png((9000, 9000))).status_code == 400
    assert send("long.png", b"0" * 21_000_000).status_code == 413
    assert len(explorer.pictures) == 2


def test_mistakes_are_said(client: TestClient) -> None:
    for view, options, said in (
        ("layer", {"layer": "_conv_haed"}, "_conv_haed"),
        ("layer", {"layer": "_conv_head", "by": "size"}, "the orders are"),
        ("layer", {}, "layer"),
        ("probe", {"layer": "_conv_head", "x": "left", "y": "0"}, "float"),
        ("photo", {"picture": "7"}, "range"),
        ("channel", {"layer": "_conv_head", "channel": "99999"}, "bounds"),
    ):
        answer = client.get(f"/api/{view}", params=options, headers=HEADERS)
        assert answer.status_code == 400
        assert said in answer.json()["error"]
    assert client.get("/api/secrets", headers=HEADERS).status_code == 404


def test_two_hundred_requests_at_once(client: TestClient) -> None:
    """Each is answered: with what it asked for, or that a newer one took its place."""
    ask(client, "overview")

    def one(number: int) -> int:
        options = {"layer": "_conv_head", "x": number / 200, "y": 0.5}
        return client.get("/api/probe", params=options, headers=HEADERS).status_code

    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(one, range(200)))
    assert set(codes) <= {200, 204}
    assert codes.count(200) >= 1


def test_views_are_what_the_library_computes(client: TestClient, explorer: Explorer, loaded: LoadedModel) -> None:
    """Every number on the page, against features captured here."""
    layer = "_blocks.10"
    told, _ = ask(client, "overview")
    assert told["pictures"] == ["cat.jpg"]
    rows = {row["path"]: row for row in told["models"][0]["layers"]}
    assert rows[layer]["shape"] == [112, 14, 14]
    with torch.no_grad():
        feat, output = tl.FeatureLayer(loaded.model, layer)(loaded.preprocess(explorer.pictures[0].source))
    assert ask(client, "photo")[0]["classes"][0][0] == loaded.top_classes(output)[0][0]
    told, arrays = ask(client, "layer", layer=layer, by="mean", page=1)
    assert torch.allclose(arrays["mean"], feat[0].mean(0), atol=1e-6)
    right = feat[0].mean((1, 2)).argsort(descending=True)
    assert told["order"] == right[64:].tolist()
    assert told["pages"] == 2
    channel = told["order"][3]
    low, high = told["low"][3], told["high"][3]
    shown = low + (arrays["channels"][3].float() - 1) / 254 * (high - low)
    assert torch.allclose(shown, feat[0, channel], atol=(high - low) / 254)
    assert torch.equal(ask(client, "channel", layer=layer, channel=channel)[1]["values"], feat[0, channel])
    told, arrays = ask(client, "probe", layer=layer, x=0.5, y=0.3)
    assert told["position"] == [4, 7]
    assert torch.equal(arrays["cosine"], tl.analysis.cosine_map(feat, (4, 7)))
    assert told["active"][0] == [feat[0, :, 4, 7].argmax().item(), feat[0, :, 4, 7].max().item()]
    told, arrays = ask(client, "linked_maps", x=0.99, y=0)
    assert [part["layer"] for part in told["maps"]] == list(loaded.stages)
    assert told["maps"][-1]["position"] == [0, 6]
    assert arrays["4"].shape == (7, 7)


def test_statistics_rest_on_all_pictures(client: TestClient, explorer: Explorer) -> None:
    explorer.pictures.append(Picture("coffee.jpg", Image.fromarray(coffee())))
    told, _ = ask(client, "statistics", layer="_blocks.10")
    assert (told["pictures"], told["positions"], told["channels"]) == (2, 2 * 14 * 14, 112)
    values = torch.cat([explorer.maps(0, number, "_blocks.10").flatten(1) for number in (0, 1)], 1)
    for path in ("_swish", "_conv_stem"):
        found = ask(client, "statistics", layer=path)[0]["saturated"]
        maps = torch.cat([explorer.maps(0, number, path).flatten(1) for number in (0, 1)], 1)
        share = (maps == maps.max()).float().mean(1)
        assert found == (share >= 0.5).nonzero().flatten().tolist()
    assert told["silent"] == [channel for channel in range(112) if values[channel].max() <= 0]


def test_a_channel_is_taken_away(client: TestClient, explorer: Explorer, loaded: LoadedModel) -> None:
    """The answer changes as it does with the channel's weights at zero; the model is as before."""
    layer, channels = "_conv_head", [1044, 112, 287]
    told, _ = ask(client, "ablate", layer=layer, channels=",".join(map(str, channels)))

    def without(feat: torch.Tensor) -> torch.Tensor:
        return feat.index_fill(1, torch.tensor(channels), 0)

    inputs = loaded.preprocess(explorer.pictures[0].source)
    with torch.no_grad(), tl.edit(loaded.model, {layer: without}):
        right = loaded.top_classes(loaded.model(inputs))
    assert [tuple(pair) for pair in told["after"]] == right
    assert told["before"] != told["after"]
    assert [tuple(pair) for pair in ask(client, "ablate", layer=layer, channels="")[0]["after"]] == [
        tuple(pair) for pair in told["before"]
    ]


@pytest.mark.parametrize("how", ["mean", "double", "negate"])
@pytest.mark.parametrize("name", ["efficientnet-lite0", "torchvision:swin_t"])
def test_other_edits_of_a_channel(name: str, how: str) -> None:
    """Whatever the dimension of the channels is."""
    model = tl.models.load(name, weights="random")
    layer, channel = model.stages[1], 5
    explorer = Explorer([model], [Picture("cat.jpg", Image.fromarray(chelsea()))])
    axis = str(model.layouts[layer]).index("C")

    def edited(feat: torch.Tensor) -> torch.Tensor:
        part = feat.select(axis, channel)
        part.copy_({"mean": part.mean(), "double": 2 * part, "negate": -part}[how])
        return feat

    inputs = model.preprocess(explorer.pictures[0].source)
    with torch.no_grad(), tl.edit(model.model, {layer: edited}):
        right = model.model(inputs)
    assert torch.allclose(explorer.ablate(0, 0, layer, [channel], how), right, atol=1e-5)
    with pytest.raises(ValueError, match="the edits are zero, mean, double, negate"):
        explorer.ablate(0, 0, layer, [channel], "halve")


def test_alignment_is_one_with_itself(client: TestClient, loaded: LoadedModel) -> None:
    values = ask(client, "alignment")[1]["cka"]
    assert values.shape == (len(loaded.stages), len(loaded.stages))
    assert torch.allclose(values.diagonal(), torch.ones(len(loaded.stages)), atol=1e-5)
    assert torch.allclose(values, values.T, atol=1e-5)


def test_grad_cam_is_that_of_the_figures(client: TestClient, explorer: Explorer, loaded: LoadedModel) -> None:
    """For a class by number or name; the model keeps no gradient."""
    layer, target = "_blocks.10", loaded.class_index("tiger cat")
    _, arrays = ask(client, "cam", layer=layer, target="tiger cat")
    inputs = loaded.preprocess(explorer.pictures[0].source)
    feats, output = tl.FeatureLayers(loaded.model, [layer, f"{layer}:grad_output"])(inputs)
    output[0, target].backward()
    loaded.model.zero_grad(set_to_none=True)
    assert torch.allclose(arrays["values"], tl.analysis.grad_cam(feats[0], feats[1])[0], atol=1e-5)
    ask(client, "cam", layer=layer, target=target)
    assert all(parameter.grad is None for parameter in loaded.model.parameters())
    answer = client.get("/api/cam", params={"layer": layer, "target": 1000}, headers=HEADERS)
    assert answer.json()["error"] == "no class '1000'. The model has 1000 classes, 0 to 999."


@pytest.mark.parametrize(
    ("shown", "opacity"),
    [
        ("mean", 1),
        ("mean", 0.4),
        ("channel", 1),
        ("pca", 1),
        ("cosine", 1),
        ("cosine", 0.3),
        ("cam", 0.5),
        ("photo", 1),
    ],
)
def test_the_python_lines_make_the_picture(
    client: TestClient, shown: str, opacity: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run as they are, beside the image, and draw the same pixels."""
    Image.fromarray(chelsea()).save(tmp_path / "cat.jpg", format="PNG")  # the explorer's image, without loss
    monkeypatch.chdir(tmp_path)
    options = {"layer": "_blocks.10", "shown": shown, "channel": 5, "target": "tabby", "x": 0.3, "y": 0.4}
    options["opacity"] = opacity
    told, arrays = ask(client, "picture", **options)
    assert told["name"] == "_blocks.10.png"
    assert told["alt"]
    content = bytes(arrays["file"].tolist())
    assert content.startswith(b"\x89PNG")
    exec(compile(told["code"], "code", "exec"), {})  # noqa: S102
    ours, theirs = (
        np.asarray(Image.open(file).convert("RGB")) for file in (Path("_blocks.10.png"), io.BytesIO(content))
    )
    assert np.array_equal(ours, theirs)


def test_the_python_lines_of_attention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a head of a ViT, from the probe."""
    Image.fromarray(chelsea()).save(tmp_path / "cat.jpg", format="PNG")
    monkeypatch.chdir(tmp_path)
    vit = tl.models.load("timm:vit_tiny_patch16_224", weights="random")
    explorer = Explorer([vit], [Picture("cat.jpg", Image.fromarray(chelsea()))])
    layer = "blocks.3.attn"
    with TestClient(application(explorer, TOKEN), base_url="http://127.0.0.1:8000") as client:  # type: ignore[arg-type]
        options = {"layer": "blocks.3", "attention": layer, "head": 2, "x": 0.5, "y": 0.1}
        told, arrays = ask(client, "picture", shown="attention", **options)
        exec(compile(told["code"], "code", "exec"), {})  # noqa: S102
        ours, theirs = (
            np.asarray(Image.open(file).convert("RGB"))
            for file in (Path("blocks.3.png"), io.BytesIO(bytes(arrays["file"].tolist())))
        )
        assert np.array_equal(ours, theirs)
        weights, _ = tl.FeatureLayer(vit.model, f"{layer}:attention_weights")(vit.preprocess("cat.jpg"))
        _, values = ask(client, "attention", **{**options, "layer": layer})
        assert torch.allclose(values["values"].flatten(), weights[0, 2, 1 + 14 + 7, 1:], atol=1e-6)


def test_the_same_point_in_models_that_crop_differently() -> None:
    """A mark in the image is at different places of their inputs; a point that one of them cuts off is left out."""
    pixels = np.zeros((300, 500, 3), dtype=np.uint8)
    pixels[150:158, 200:208] = 255
    small = tl.models.load("efficientnet-lite0", weights="random")  # 224 of 256
    wide = dataclasses.replace(small, preprocess=tl.models.Preprocess(resize=224, crop=224))
    explorer = Explorer([small, wide], [Picture("mark", Image.fromarray(pixels))])
    places = []
    for number in (0, 1):
        bright = explorer.photo(number, 0).mean(0)
        row, column = divmod(int(bright.argmax()), bright.shape[1])
        places.append(((column + 0.5) / bright.shape[1], (row + 0.5) / bright.shape[0]))
    moved = transfer(places[0], explorer.pictures[0].source, small, wide)
    assert moved == pytest.approx(places[1], abs=0.015)
    assert abs(places[0][0] - places[1][0]) > 0.02
    assert transfer((0.001, 0.5), explorer.pictures[0].source, wide, small) is None
    assert transfer((0.3, 0.4), explorer.pictures[0].source, small, small) == pytest.approx((0.3, 0.4))


def test_a_failure_of_the_model_is_told(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """In words, without the text of an exception that may hold anything; the terminal has its traceback."""
    monkeypatch.setattr(explorer, "maps", lambda *_: (_ for _ in ()).throw(RuntimeError("secret")))
    app = application(explorer, TOKEN)
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:  # type: ignore[arg-type]
        answer = client.get("/api/layer", params={"layer": "_blocks.1"}, headers=HEADERS)
        assert answer.status_code == 500
        assert answer.json()["error"] == "the model or the server failed (RuntimeError): the terminal has the details"


def test_selective_is_more_than_a_single_value(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that fires at one position is not the most selective one by that alone."""
    maps = torch.rand(3, 40, 40) * 0.1
    maps[0] = 0
    maps[0, 3, 3] = 5
    maps[1] = 0
    maps[1, 10:13, 10:13] = 4
    monkeypatch.setattr(explorer, "_one", lambda *_: maps)
    assert explorer.statistics(0, "any")["selective"][0][0] == 1
