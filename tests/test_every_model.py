"""Whatever a model is wrapped in, runs in, or is made of: each feature equals one cloned at hook time."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint
from torchvision import models

import torch_featurelayer as tl
from tests.reference import holds_hooks, hooked, same
from tests.versions import runs_compiled_eagerly, shards


def check(model: nn.Module, *args: Any, **kwargs: Any) -> None:
    """Captures every module's output in one run, and compares with a reference run."""
    right, _, bare = hooked(model, lambda: model(*args, **kwargs))
    names = list(right)
    feats, output = tl.FeatureLayers(model, names)(*args, **kwargs)
    assert [name for name, feat in feats.items() if not same(feat, right[name])] == []
    assert same(output, bare)
    assert holds_hooks(model) == 0
    assert len(feats) == len(names) > 0


@pytest.mark.filterwarnings("ignore:a layer inside a compiled model:UserWarning")
@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, pytest.param(lambda model: torch.compile(model, backend="eager"), marks=runs_compiled_eagerly)],
)
def test_wrappers_with_and_without_their_prefix(wrap: Any, resnet18: nn.Module, image: Tensor) -> None:
    """`module.layer1` and `layer1` are one layer, of the wrapped model and of the bare one."""
    right, _ = tl.FeatureLayer(resnet18, "layer1")(image)
    wrapped = wrap(resnet18)
    prefix = next(iter(wrapped._modules))
    with torch.no_grad():
        feats, _ = tl.FeatureLayers(wrapped, ["layer1", f"{prefix}.layer1", "layer1.0:add"])(image)
        assert torch.equal(feats["layer1"], right)
        assert torch.equal(feats[f"{prefix}.layer1"], right)
        globbed, _ = tl.FeatureLayers(wrapped, "layer*")(image)
        assert globbed.names == ("layer1", "layer2", "layer3", "layer4")
        assert torch.equal(tl.FeatureLayer(resnet18, f"{prefix}.layer1")(image)[0], right)
    with pytest.raises(tl.LayerNotFoundError):
        tl.FeatureLayer(wrapped, "layer9")


class PeftModel(nn.Module):
    """The nesting of the `peft` package: `base_model` holds a tuner, whose `model` is the user's."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.base_model = LoraModel(model)

    def forward(self, x: Tensor) -> Tensor:
        return self.base_model(x)


class BaseTuner(nn.Module):
    pass


class LoraModel(BaseTuner):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def test_wrappers_inside_wrappers(resnet18: nn.Module, image: Tensor) -> None:
    right, _ = tl.FeatureLayer(resnet18, "layer1.0")(image)
    resnet18.layer1[0] = nn.DataParallel(resnet18.layer1[0])
    model = PeftModel(resnet18)
    with torch.no_grad():
        feats, _ = tl.FeatureLayers(model, ["layer1.0.conv1", "layer1", "base_model.model.layer1.0.module.conv1"])(
            image
        )
    assert torch.equal(feats[0], feats[2])
    assert feats[1].shape == right.shape


def test_transformer_encoder_fast_path() -> None:
    """In eval without gradients PyTorch runs a fused kernel that calls no layer: while one is captured, it does not."""
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2, enable_nested_tensor=False
    ).eval()
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        bare = encoder(x)
        feats, output = tl.FeatureLayers(
            encoder, ["layers.0.linear1", "layers.0.self_attn[0]", "layers.1.self_attn:attention_weights", "layers.1"]
        )(x)
    torch.testing.assert_close(output, bare)
    slow = copy.deepcopy(encoder)
    right, _, _ = hooked(slow, lambda: slow(x))
    torch.testing.assert_close(feats[0], right["layers.0.linear1"])
    torch.testing.assert_close(feats[1], right["layers.0.self_attn"][0])
    torch.testing.assert_close(feats[3], right["layers.1"])
    torch.testing.assert_close(feats[2].sum(-1), torch.ones(2, 4, 5))


def test_packed_sequences() -> None:
    """A packed sequence stays one, its tensors copied."""

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 4, batch_first=True, bidirectional=True)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed, _ = self.lstm(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
            packed.data.mul_(0)
            return pad_packed_sequence(packed, batch_first=True)[0]

    model, x, lengths = Reader(), torch.randn(2, 5, 3), torch.tensor([3, 5])
    with torch.no_grad():
        feats, output = tl.FeatureLayers(model, ["lstm[0]", "lstm:input[0]"])(x, lengths)
        assert not output.any()
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        assert torch.equal(feats[0].data, model.lstm(packed)[0].data)
        assert torch.equal(feats[1].data, packed.data)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_precisions(dtype: torch.dtype) -> None:
    model = models.mobilenet_v2(weights=None).eval().to(dtype)
    check(model, torch.randn(1, 3, 32, 32, dtype=dtype))


def test_autocast_and_inference_mode(resnet18: nn.Module, image: Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        check(resnet18, image)
        feat, _ = tl.FeatureLayer(resnet18, "layer1.0.conv1")(image)
        assert feat.dtype == torch.bfloat16
    with torch.inference_mode():
        check(resnet18, image)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(reentrant: bool) -> None:
    """Features are those of the forward, gradients of parameters those of the bare model."""

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.block = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.block, self.first(x), use_reentrant=reentrant)

    model, x = Checkpointed(), torch.randn(3, 4)
    model(x).sum().backward()
    right = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    feats, output = tl.FeatureLayers(model, ["block.0", "block.1", "first"])(x)
    output.sum().backward()
    for parameter, grad in zip(model.parameters(), right, strict=True):
        torch.testing.assert_close(parameter.grad, grad)
    assert torch.equal(feats["block.0"], model.block[0](model.first(x)))


def test_meta_tensors() -> None:
    """Shapes without memory: a model far too large for this machine."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(100_000, 100_000), nn.ReLU(), nn.Linear(100_000, 10))
    feat, output = tl.FeatureLayer(model, "0")(torch.empty(2, 100_000, device="meta"))
    assert (feat.shape, feat.device.type, output.shape) == ((2, 100_000), "meta", (2, 10))
    assert tl.layers(model, torch.empty(2, 100_000, device="meta"))["1"].output == "[2, 100000]"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_quantized_modules() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    with torch.no_grad():
        check(quantized, torch.randn(3, 8))


def test_fx_and_exported_models_are_modules(resnet18: nn.Module, image: Tensor) -> None:
    with torch.no_grad():
        traced = torch.fx.symbolic_trace(resnet18)
        check(traced, image)
        right, _ = tl.FeatureLayer(resnet18, "layer1.0.conv1")(image)
        assert torch.equal(tl.FeatureLayer(traced, "layer1.0.conv1")(image)[0], right)
        program = torch.export.export(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (torch.ones(1, 4),))
        feat, output = tl.FeatureLayer(program.module(), ":linear")(torch.ones(1, 4))
    assert torch.equal(feat.relu(), output)


def test_accelerate_hooks(small: nn.Sequential) -> None:
    """`accelerate` puts its own forward on the modules: they are captured all the same."""
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    x = torch.randn(2, 4)
    right = small[0](x)
    for layer in small:
        add_hook_to_module(layer, AlignDevicesHook(execution_device="cpu", io_same_device=True))
    feats, _ = tl.FeatureLayers(small, ["0", "1"])(x)
    assert torch.equal(feats["0"], right)
    assert torch.equal(feats["1"], right.relu())


def _one_of_two(rank: int, folder: str) -> None:
    """One process of a DDP pair: its features must be those of a single process."""
    from torch import distributed

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    x = torch.randn(6, 4)[rank::2]
    right = model[0](x).detach()
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    try:
        parallel = nn.parallel.DistributedDataParallel(model)
        layers = tl.FeatureLayers(parallel, ["0", "module.1", "0:grad_output"])
        feats, output = layers(x)
        output.sum().backward()
        assert torch.equal(feats["0"], right)
        assert torch.equal(feats["module.1"], right.relu())
        assert torch.allclose(feats["0:grad_output"], (model[2].weight.sum(0) * (right > 0)))
        torch.save(model[0].weight.grad, Path(folder) / f"{rank}.pt")
    finally:
        distributed.destroy_process_group()


def _sharded(rank: int, folder: str) -> None:
    """One process of an FSDP2 pair."""
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 2))
    x = torch.randn(6, 4)[rank::2]
    whole = copy.deepcopy(model)
    right, _ = tl.FeatureLayers(whole, ["0", "1"])(x)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    try:
        mesh = init_device_mesh("cpu", (2,))
        for layer in (model[0], model[2], model):
            fully_shard(layer, mesh=mesh)
        feats, output = tl.FeatureLayers(model, ["0", "1", "0:grad_output", "2:linear"])(x)
        output.sum().backward()
        torch.testing.assert_close(feats["0"], right["0"])
        torch.testing.assert_close(feats["1"], right["1"])
        torch.testing.assert_close(feats["2:linear"], output)
        torch.testing.assert_close(feats["0:grad_output"], whole[2].weight.sum(0) * (right["0"] > 0))
        # All processes extract the same items, since they compute together; a second call continues the store.
        items = torch.linspace(-1, 1, 40).reshape(10, 4)
        for _ in range(2):
            store = tl.extract(model, ["0", "1"], items, f"{folder}/store-{rank}", dtype=None, batch_size=4)
        torch.testing.assert_close(store["1"][:], whole[:2](items).detach())
    finally:
        distributed.destroy_process_group()


@shards
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_fully_sharded_data_parallel(tmp_path: Path) -> None:
    """FSDP2 on two gloo processes: the features of one process."""
    torch.multiprocessing.spawn(_sharded, args=(str(tmp_path),), nprocs=2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_distributed_data_parallel(tmp_path: Path) -> None:
    """Two gloo processes: right features, and gradients that are still averaged between them."""
    torch.multiprocessing.spawn(_one_of_two, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert torch.equal(first, second)


def test_as_a_detection_backbone() -> None:
    """`feats.to_dict()` is what torchvision's feature pyramid takes; a step through it trains the backbone."""
    from torchvision.ops import FeaturePyramidNetwork

    backbone = tl.FeatureLayers(models.resnet18(weights=None), ["layer2", "layer3", "layer4"])
    pyramid = FeaturePyramidNetwork([128, 256, 512], 16)
    image = torch.randn(1, 3, 64, 64)
    maps = pyramid(backbone.features(image).to_dict())
    assert [tuple(value.shape) for value in maps.values()] == [(1, 16, 8, 8), (1, 16, 4, 4), (1, 16, 2, 2)]
    optimizer = torch.optim.SGD([*backbone.parameters(), *pyramid.parameters()], lr=0.1)
    before = backbone.model.conv1.weight.detach().clone()
    sum(value.square().mean() for value in maps.values()).backward()
    optimizer.step()
    assert not torch.equal(backbone.model.conv1.weight, before)


def test_equals_torchvisions_extractor() -> None:
    """The dict of `create_feature_extractor`, for the layers that it gets right."""
    from torchvision.models.feature_extraction import create_feature_extractor

    model, image = models.resnet18(weights=None).eval(), torch.randn(1, 3, 64, 64)
    names = ["layer1", "layer2", "layer3", "layer4", "avgpool"]
    right = create_feature_extractor(model, names).eval()(image)
    ours = tl.FeatureLayers(model, names).features(image).to_dict()
    assert list(ours) == list(right)
    assert all(map(torch.equal, ours.values(), right.values()))


def test_captum_runs_on_a_wrapper(resnet18: nn.Module) -> None:
    """A wrapper is a module: captum attributes a feature's channel as it does that of a model by hand."""
    from captum.attr import Saliency

    image = torch.randn(2, 3, 32, 32, requires_grad=True)
    layer = tl.FeatureLayer(resnet18, "layer2", reduce="mean")
    ours = Saliency(layer.features).attribute(image, target=5, abs=False)
    again = image.detach().clone().requires_grad_()
    layer.features(again)[:, 5].sum().backward()
    torch.testing.assert_close(ours, again.grad)


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "convnext_atto", "mobilenetv3_small_050"])
def test_equals_timms_forward_intermediates(name: str) -> None:
    """Timm's own feature names are addresses, and what is there is what timm returns."""
    import timm

    model = timm.create_model(name, pretrained=False).eval()
    image = torch.randn(1, *model.pretrained_cfg["input_size"])
    with torch.no_grad():
        right = model.forward_intermediates(image, intermediates_only=True)
        names = [info["module"] for info in model.feature_info]
        feats, _ = tl.FeatureLayers(model, names)(image)
    right = right[-len(feats) :]
    for feat, value in zip(feats, right, strict=True):
        if name.startswith("vit"):  # timm drops the class token and folds the others to their grid
            feat = feat[:, model.num_prefix_tokens :].transpose(1, 2).reshape(value.shape)
        assert torch.equal(feat, value)
