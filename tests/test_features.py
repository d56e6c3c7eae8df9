"""`FeatureLayer`, `FeatureLayers` and `Features`: what users touch."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torchvision import models

import torch_featurelayer as tl
from tests import toys
from tests.reference import hooked


def counting(model: nn.Module) -> list[str]:
    """Returns a list that fills with the paths of the modules that run."""
    ran: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    return ran


class TestContract:
    def test_vgg11(self) -> None:
        model, image = models.vgg11(weights=None).eval(), torch.randn(1, 3, 224, 224)
        with torch.no_grad():
            feat, output = tl.FeatureLayer(model, "features.5")(image)
            asked = ["features.0", "features.6", "features.12", "features.18"]
            feats, same_output = tl.FeatureLayers(model, asked)(image)
            right, _, bare = hooked(model, lambda: model(image))
        assert feat.shape == (1, 128, 56, 56)
        assert torch.equal(feat, right["features.5"])
        assert torch.equal(output, bare)
        assert torch.equal(same_output, bare)
        assert list(feats.names) == asked
        for position, name in enumerate(asked):
            assert torch.equal(feats[position], right[name])
            assert feats[name] is feats[position]

    def test_order_is_as_asked_not_as_run(self, resnet18: nn.Module, image: Tensor) -> None:
        feats, _ = tl.FeatureLayers(resnet18, ["layer2", "conv1", "layer1"])(image)
        assert feats.names == ("layer2", "conv1", "layer1")
        assert [feat.shape[1] for feat in feats] == [128, 64, 64]

    def test_the_wrapped_model_is_the_same_object(self, resnet18: nn.Module) -> None:
        assert tl.FeatureLayer(resnet18, "conv1").model is resnet18

    def test_several_layers_for_one(self, resnet18: nn.Module) -> None:
        with pytest.raises(ValueError, match=r"matches 4 layers of this model: use FeatureLayers"):
            tl.FeatureLayer(resnet18, "layer*")

    def test_repr_names_the_layers(self, small: nn.Module) -> None:
        assert "'0', '2:input'" in repr(tl.FeatureLayers(small, ["0", "2:input"]))

    def test_a_replaced_submodule_is_found(self, small: nn.Module) -> None:
        """Layers are looked up at each call: fine-tuning code replaces heads."""
        layer = tl.FeatureLayer(small, "2")
        small[2] = nn.Linear(3, 7)
        assert layer(torch.ones(1, 4))[0].shape == (1, 7)


class TestFeatures:
    feats = tl.Features(["a", "b.c"], [torch.zeros(2), (torch.ones(3), None)])

    def test_is_a_sequence(self) -> None:
        first, second = self.feats
        assert len(self.feats) == 2
        assert first is self.feats[0] is self.feats[-2]
        assert second is self.feats[1]
        assert [*reversed(self.feats)][1] is first
        assert isinstance(self.feats[:1], tl.Features)
        assert self.feats[1:].names == ("b.c",)
        with pytest.raises(IndexError):
            _ = self.feats[2]

    def test_answers_by_name_as_a_dict(self) -> None:
        assert "b.c" in self.feats
        assert "x" not in self.feats
        assert list(self.feats.keys()) == ["a", "b.c"]
        assert self.feats.values()[0] is self.feats["a"]
        assert dict(self.feats.items()) == self.feats.to_dict()
        assert self.feats.get("x") is None
        assert self.feats.get("a") is self.feats[0]

    def test_unknown_name(self) -> None:
        with pytest.raises(tl.FeatureNotFoundError, match="no feature 'b.d'. Did you mean 'b.c'") as caught:
            _ = self.feats["b.d"]
        assert isinstance(caught.value, KeyError)
        assert (caught.value.name, caught.value.names) == ("b.d", ["a", "b.c"])

    def test_is_a_pytree(self) -> None:
        doubled = pytree.tree_map(lambda leaf: leaf if leaf is None else leaf * 2, self.feats)
        assert isinstance(doubled, tl.Features)
        assert doubled.names == self.feats.names
        assert torch.equal(doubled["b.c"][0], torch.full((3,), 2.0))

    def test_moves(self) -> None:
        moved = self.feats.to(torch.float64)
        assert (moved["a"].dtype, moved["b.c"][0].dtype, moved["b.c"][1]) == (torch.float64, torch.float64, None)
        assert self.feats["a"].dtype == torch.float32
        assert self.feats.to("meta")["a"].device.type == "meta"
        assert self.feats.cpu().names == self.feats.names
        leaf = torch.ones(1, requires_grad=True) * 2
        assert not tl.Features(["x"], [leaf]).detach()["x"].requires_grad

    def test_repr_and_pickle(self) -> None:
        assert repr(self.feats) == "Features('a': float32[2], 'b.c': tuple)"
        copied = pickle.loads(pickle.dumps(self.feats))  # noqa: S301
        assert copied.names == self.feats.names
        assert torch.equal(copied[0], self.feats[0])

    def test_lengths_must_agree(self) -> None:
        with pytest.raises(ValueError, match="1 names were given for 0 features"):
            tl.Features(["a"], [])


class TestCalls:
    def test_every_call_by_number(self) -> None:
        """`@n` from the start, `@-n` from the end, `@*` all, unmarked the last."""
        model, x = toys.Repeats(3), torch.randn(2, 4)
        ports = ["layer@0", "layer@1", "layer@2", "layer@-1", "layer@-3", "layer", "layer@*", "layer@1:input"]
        feats, output = tl.FeatureLayers(model, ports)(x)
        first = model.layer(x)
        second = model.layer(first.relu())
        third = model.layer(second.relu())
        assert torch.equal(output, model(x))
        for name, right in zip(ports, [first, second, third, third, first, third], strict=False):
            assert torch.equal(feats[name], right), name
        assert all(map(torch.equal, feats["layer@*"], [first, second, third]))
        assert torch.equal(feats["layer@1:input"], first.relu())

    @pytest.mark.parametrize("call", [3, -4])
    def test_a_call_that_was_not_made(self, call: int) -> None:
        with pytest.raises(tl.CallNotMadeError, match="the layer was called 3 times") as caught:
            tl.FeatureLayer(toys.Repeats(3), f"layer@{call}")(torch.randn(1, 4))
        assert isinstance(caught.value, IndexError)
        assert (caught.value.name, caught.value.calls) == (f"layer@{call}", 3)

    def test_shared_module_answers_to_both_names(self) -> None:
        shared = nn.Linear(4, 4)
        model = nn.Sequential(shared, nn.ReLU(inplace=True), shared)
        x = torch.randn(1, 4)
        feats, output = tl.FeatureLayers(model, ["2", "0", "0@0", "2@0"])(x)
        assert torch.equal(feats["0"], output)
        assert torch.equal(feats["2"], output)
        assert torch.equal(feats["0@0"], shared(x))
        assert torch.equal(feats["2@0"], shared(x))

    def test_keywords_only(self) -> None:
        model, x = toys.Keywords(), torch.randn(1, 4)
        feats, _ = tl.FeatureLayers(
            model, ["layer", ":input", "layer:input", "layer:input[x]", "layer:input['scale']"]
        )(x=x)
        assert torch.equal(feats["layer"], x * 2)
        assert torch.equal(feats[":input"], x)
        assert list(feats["layer:input"]) == ["x", "scale"]
        assert torch.equal(feats["layer:input[x]"], x)
        assert feats["layer:input['scale']"] == 2.0

    def test_arguments_by_position_and_name(self) -> None:
        model = toys.Returns(lambda a, b: a + b)
        model.forward = lambda query, key, scale=1: (query + key) * scale
        one, two = torch.ones(1), torch.ones(1) * 2
        ports = [":input[0]", ":input[key]", ":input[scale]", ":input"]
        feats, _ = tl.FeatureLayers(model, ports)(one, two, scale=3)
        assert [feats[0].item(), feats[1].item(), feats[2]] == [1, 2, 3]
        assert list(feats[3]) == ["query", "key", "scale"]
        assert tl.FeatureLayer(model, ":input")(one, two)[0] == (one, two)

    def test_grad_input_by_keyword(self) -> None:
        model, x = toys.Keywords(), torch.randn(1, 4, requires_grad=True)
        grad, output = tl.FeatureLayer(model, "layer:grad_input[x]")(x=x)
        output.sum().backward()
        assert torch.equal(grad.value, torch.full((1, 4), 2.0))


class TestEarlyStop:
    def test_stops_after_the_layer_from_the_second_run(self, resnet18: nn.Module, image: Tensor) -> None:
        layer = tl.FeatureLayer(resnet18, "layer2.0")
        right, _ = layer(image)
        ran = counting(resnet18)
        assert torch.equal(layer.features(image), right)
        assert "fc" in ran
        ran.clear()
        assert torch.equal(layer.features(image), right)
        assert ran[-1].startswith("layer2.0")
        assert "layer2.1" not in ran

    def test_a_marked_call_stops_the_first_run(self) -> None:
        model, x = toys.Repeats(3), torch.randn(1, 4)
        ran = counting(model)
        feat = tl.FeatureLayer(model, "layer@1").features(x)
        assert ran == ["", "layer", "layer"]
        assert torch.equal(feat, model.layer(model.layer(x).relu()))

    def test_an_input_stops_before_its_layer(self, resnet18: nn.Module, image: Tensor) -> None:
        ran = counting(resnet18)
        tl.FeatureLayer(resnet18, "layer3@0:input").features(image)
        assert "layer2.1.conv2" in ran
        assert "layer3.0" not in ran

    @pytest.mark.parametrize(("port", "runs"), [("layer@-1", 4), ("layer@*", 4), ("layer@-3", 2)])
    def test_from_the_end_stops_at_the_learnt_count(self, port: str, runs: int) -> None:
        model, x = toys.Repeats(4), torch.randn(1, 4)
        layer = tl.FeatureLayer(model, port)
        right, _ = layer(x)
        layer.features(x)
        ran = counting(model)
        feat = layer.features(x)
        assert ran == ["", *["layer"] * runs]
        assert all(map(torch.equal, feat, right)) if isinstance(feat, list) else torch.equal(feat, right)

    def test_stops_after_the_last_one_run_not_the_last_one_listed(self, resnet18: nn.Module, image: Tensor) -> None:
        layers = tl.FeatureLayers(resnet18, ["layer2", "layer1"])
        layers.features(image)
        ran = counting(resnet18)
        feats = layers.features(image)
        assert [feat.shape[1] for feat in feats] == [128, 64]
        assert "layer2.1" in ran
        assert "layer3" not in ran

    def test_unmarked_layer_that_runs_again(self, resnet18: nn.Module, image: Tensor) -> None:
        layer = tl.FeatureLayer(resnet18, "layer1.0.relu")
        for _ in range(2):
            with pytest.raises(tl.AmbiguousCallError, match="'layer1.0.relu@-1' \\(the last\\)") as caught:
                layer.features(image)
        assert isinstance(caught.value, RuntimeError)
        assert (caught.value.name, caught.value.calls) == ("layer1.0.relu", 2)

    def test_counts_again_for_another_mode_or_input(self) -> None:
        """The number of calls may depend on both."""
        model = toys.Repeats(1)
        model.forward = lambda x: [model.layer(x) for _ in range(len(x) + model.training)][-1]
        model.eval()
        layer = tl.FeatureLayer(model, "layer")
        layer.features(torch.ones(1, 4))
        with pytest.raises(tl.AmbiguousCallError):
            layer.features(torch.ones(2, 4))
        model.train()
        with pytest.raises(tl.AmbiguousCallError):
            layer.features(torch.ones(1, 4))

    @pytest.mark.parametrize("port", ["layer@-1", "layer@*", "layer@-2"])
    def test_fewer_calls_than_counted(self, port: str) -> None:
        """A run that ends before the learnt count has shown all there is."""
        model, x = toys.Repeats(4), torch.randn(1, 4)
        layer = tl.FeatureLayer(model, port)
        layer.features(x)
        model.times = 2
        feat, (right, _) = layer.features(x), layer(x)
        assert len(feat) == len(right)
        assert all(map(torch.equal, feat, right))

    def test_more_calls_than_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A number of calls that depends on state elsewhere: seen while another layer is waited for, it is an error."""
        model, x = toys.RepeatsByGlobal(), torch.randn(1, 4)
        for port in ("layer@-1", "layer@*"):
            layers = tl.FeatureLayers(model, [port, "after"])
            monkeypatch.setattr(toys, "TIMES", 2)
            layers.features(x)
            monkeypatch.setattr(toys, "TIMES", 3)
            with pytest.raises(tl.AmbiguousCallError, match="at least 3 times, but 2 times when.*stop=False") as caught:
                layers.features(x)
            assert caught.value.counted == 2

    def test_from_the_end_beside_a_later_layer(self) -> None:
        """A filled request is not disturbed while the run goes on for another."""
        model, x = toys.Repeats(4), torch.randn(1, 4)
        layers = tl.FeatureLayers(model, ["layer@-3", "after"])
        right, _ = layers(x)
        for _ in range(2):
            assert torch.equal(layers.features(x)[0], right[0])

    def test_stop_false_always_runs_to_the_end(self) -> None:
        model, x = toys.Repeats(2), torch.randn(1, 4)
        layer = tl.FeatureLayer(model, "layer", stop=False)
        layer.features(x)
        model.times = 3
        assert torch.equal(layer.features(x), layer(x)[0])

    def test_a_model_that_catches_exceptions_cannot_swallow_the_stop(self) -> None:
        model = toys.Swallows()
        tl.FeatureLayer(model, "layer@0").features(torch.ones(1, 4))
        assert model.reached == 0

    def test_the_model_output_itself(self, small: nn.Module) -> None:
        x = torch.ones(1, 4)
        layer = tl.FeatureLayer(small, "")
        assert torch.equal(layer.features(x), small(x))
        assert torch.equal(layer.features(x), small(x))


class TestNotRun:
    def test_names_what_ran(self) -> None:
        model = models.googlenet(weights=None, init_weights=False).eval()
        with pytest.raises(
            tl.LayerNotRunError, match="did not call 'aux1'. Other requested layers ran: 'conv1'. .*only in train mode"
        ) as caught:
            tl.FeatureLayers(model, ["conv1", "aux1"])(torch.randn(1, 3, 64, 64))
        assert isinstance(caught.value, RuntimeError)
        assert (caught.value.names, caught.value.ran) == (["aux1"], ["conv1"])

    def test_never_a_stale_value(self) -> None:
        """A layer that ran before and does not run now is an error, with early stop too."""
        model = toys.Repeats(1)
        layer = tl.FeatureLayer(model, "layer")
        layer.features(torch.ones(1, 4))
        model.times = 0
        for call in (layer, layer.features):
            with pytest.raises(tl.LayerNotRunError):
                call(torch.ones(1, 4))

    def test_a_holder_of_layers(self) -> None:
        model = toys.Returns(lambda x: x)
        model.blocks = nn.ModuleList([nn.Linear(1, 1)])
        with pytest.raises(tl.LayerNotRunError, match="'blocks' is a ModuleList.*Name a layer in it, such as"):
            tl.FeatureLayer(model, "blocks")(torch.ones(1))

    def test_layer_used_by_its_weights(self) -> None:
        model = models.vit_b_16(weights=None, image_size=32).eval()
        path = "encoder.layers.encoder_layer_0.self_attention.out_proj"
        with pytest.raises(tl.LayerNotRunError, match="uses the weights of this layer without calling it"):
            tl.FeatureLayer(model, path)(torch.randn(1, 3, 32, 32))


class TestOptions:
    @pytest.mark.parametrize(
        ("reduce", "shape"),
        [("mean", (2, 64)), ("max", (2, 64)), ("flatten", (2, 64 * 16 * 16)), (lambda f: f[:, :3], (2, 3, 16, 16))],
    )
    def test_reduce(self, resnet18: nn.Module, image: Tensor, reduce: Any, shape: tuple[int, ...]) -> None:
        feat, _ = tl.FeatureLayer(resnet18, "layer1", reduce=reduce)(image)
        assert feat.shape == shape

    def test_dtype_and_device(self, resnet18: nn.Module, image: Tensor) -> None:
        feat, output = tl.FeatureLayer(resnet18, "layer1", dtype=torch.float16)(image)
        assert (feat.dtype, output.dtype) == (torch.float16, torch.float32)
        feat, _ = tl.FeatureLayer(resnet18, "layer1", device="meta")(image)
        assert feat.device.type == "meta"

    def test_mistakes_are_said_at_once(self, small: nn.Module) -> None:
        with pytest.raises(ValueError, match="no reduction 'maen'.*Did you mean 'mean'"):
            tl.FeatureLayer(small, "0", reduce="maen")
        with pytest.raises(ValueError, match="must be a floating-point type"):
            tl.FeatureLayer(small, "0", dtype=torch.int8)
        with pytest.raises(TypeError, match="unexpected keyword argument 'redcue'"):
            tl.FeatureLayer(small, "0", redcue="mean")


def test_deepcopy_and_pickle_of_wrappers(small: nn.Module) -> None:
    """A copy is a wrapper of its own around a model of its own."""
    layer = tl.FeatureLayers(small, ["0", "1"], reduce="mean")
    x = torch.ones(1, 4)
    right, _ = layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):  # noqa: S301
        assert other.model is not small
        assert all(map(torch.equal, other(x)[0], right))
