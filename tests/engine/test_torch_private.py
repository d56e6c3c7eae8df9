"""A PyTorch without one of the private names imports, and captures."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

NAMES = {
    "the length of the mode stack": "del torch._C._len_torch_function_stack",
    "the mode stack": "del torch.overrides._get_current_function_mode_stack",
    "module calls": "torch.nn.Module.__call__ = torch.nn.Module._call_impl; del torch.nn.Module._call_impl",
    "dispatch of functions": "del torch.overrides.handle_torch_function",
    "a function with a flag": "del torch.nn.functional.max_pool2d",
    "copy on write": "del torch._lazy_clone",
    "hooks on saved tensors": "del torch._C._autograd._top_saved_tensors_default_hooks",
    "levels of transforms": "del torch._C._functorch.maybe_get_level; del torch._C._functorch.maybe_current_level",
    "Dynamo's callback": "del torch._C._dynamo.eval_frame.get_eval_frame_callback",
    "stances": "del torch.compiler.set_stance",
    "transforms": "del torch._C._are_functorch_transforms_active",
}
CODE = """
import torch
from torch import nn
import contextlib
with contextlib.suppress(AttributeError):  # older than the name
    {deleted}
import torch_featurelayer as tl

net, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)), torch.randn(2, 4)
feat, _ = tl.FeatureLayer(net, "0")(x)
assert torch.equal(feat, net[0](x))
assert torch.equal(tl.FeatureLayer(net, "0@0").features(x), feat)
with tl.capture(net, "0", keep="all") as record:
    net(x), net(x)
assert len(record["0"]) == 2
with tl.edit(net, {{"0@0": 0.0}}):
    assert torch.equal(net(x), net[2](torch.zeros(2, 4)))
try:
    tl.FeatureLayer(net, ":relu")
    tl.FeatureLayer(net, "1:relu")(x)
except tl.UnsupportedTorchError:
    print("operations refused")
"""


@pytest.mark.parametrize("name", NAMES)
def test_without(name: str) -> None:
    code = CODE.format(deleted=NAMES[name])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("", "operations refused")
