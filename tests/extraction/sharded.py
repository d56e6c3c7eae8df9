"""What two ranks of torchrun do with models whose weights are sharded over them; writes the results of rank 1 as JSON.

python -m torch.distributed.run --nproc-per-node 2 sharded.py FOLDER
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from transformers import LlamaConfig, LlamaForCausalLM

import torch_featurelayer as tl

LAYERS = ["model.layers.0", "model.norm"]
LLAMA = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99}


class Ranks:
    """Models on both ranks, with the same weights as `plain`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mesh = folder, init_device_mesh("cpu", (2,))
        torch.manual_seed(0)
        self.x = torch.randn(10, 8)
        self.plain = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval().requires_grad_(False)

    def fsdp(self) -> nn.Module:
        model = copy.deepcopy(self.plain)
        for layer in (model[0], model[2], model):
            fully_shard(layer, mesh=self.mesh)
        return model

    def tensor_parallel(self, **columns: Any) -> nn.Module:
        plan = {"0": ColwiseParallel(**columns), "2": RowwiseParallel()}
        return parallelize_module(copy.deepcopy(self.plain), self.mesh, plan)

    def extract(self, model: nn.Module, layers: Any, name: str, **options: Any) -> tl.Store:
        given = {"backend": "torchrun", "batch_size": 2, "shard_size": 4, "dtype": None, **options}
        return tl.extract(model, layers, self.x, self.folder / name, **given)

    def error(self, store: tl.Store, layer: str) -> float:
        right: torch.Tensor = self.plain[: int(layer) + 1](self.x)
        return float((torch.as_tensor(store[layer][:]) - right).abs().max())


def whole_features(ranks: Ranks) -> dict[str, Any]:
    """Three shards for two ranks: with other items on each, FSDP hangs and tensor parallelism mixes items."""
    models = {"fsdp": ranks.fsdp(), "tensor parallel": ranks.tensor_parallel()}
    return {kind: ranks.error(ranks.extract(model, "2", f"whole {kind}"), "2") for kind, model in models.items()}


def gathered_features(ranks: Ranks) -> dict[str, Any]:
    """A layer that returns a DTensor."""
    store = ranks.extract(ranks.tensor_parallel(use_local_output=False), "**", "gathered")
    return {layer: ranks.error(store, layer) for layer in "012"}


def parts_of_features(ranks: Ranks) -> str:
    return refused(lambda: ranks.extract(ranks.tensor_parallel(), "0", "parts"))


def different_items(ranks: Ranks) -> list[str]:
    """As a sampler that distributes items gives them to ranks."""
    ranks.x = ranks.x[distributed.get_rank() :: 2]
    models = {"sharded": ranks.tensor_parallel(), "whole": ranks.plain}
    return [refused(lambda kind=kind: ranks.extract(models[kind], "2", f"different {kind}")) for kind in models]


def other_sharding(ranks: Ranks) -> dict[str, Any]:
    """A store without its second shard is continued with the model sharded in another way, and without sharding."""
    found, shards = {}, ranks.folder / "other" / "shards"
    ranks.extract(ranks.tensor_parallel(), "2", "other")
    for kind, model in {"fsdp": ranks.fsdp(), "plain": ranks.plain}.items():
        distributed.barrier()
        if distributed.get_rank() == 0:
            (shards / "00000001.safetensors").unlink()
        distributed.barrier()
        before = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
        store = ranks.extract(model, "2", "other")
        after = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
        found[kind] = {
            "kept": before.items() < after.items(),
            "whole": store.complete,
            "error": ranks.error(store, "2"),
        }
    return found


def changed_item(ranks: Ranks) -> float:
    """Both ranks extract the same items again."""
    ranks.extract(ranks.fsdp(), "2", "changed")
    ranks.x = ranks.x.clone()
    ranks.x[5] += 1
    return ranks.error(ranks.extract(ranks.fsdp(), "2", "changed", changed="redo"), "2")


def options(ranks: Ranks) -> list[str]:
    given: list[dict[str, Any]] = [{"autotune": True}, {"precision": torch.bfloat16}, {"backend": "ray"}]
    return [refused(lambda each=each: ranks.extract(ranks.fsdp(), "2", "options", **each)) for each in given]


def comparisons(ranks: Ranks) -> dict[str, Any]:
    """`tl.diff` and `tl.statistics` gather DTensors."""
    model = ranks.tensor_parallel(use_local_output=False)
    ours, right = (tl.statistics(each, ["0", "1"], ranks.x) for each in (model, ranks.plain))
    difference = max(float((ours[layer].mean - right[layer].mean).abs().max()) for layer in ("0", "1"))
    return {"diff": max(row.error for row in tl.diff(model, ranks.plain, ranks.x)), "statistics": difference}


def language_model(ranks: Ranks) -> dict[str, Any]:
    """The tensor parallelism of transformers; one process continues its store."""
    torch.manual_seed(0)
    folder = ranks.folder / "llama"
    if distributed.get_rank() == 0:
        LlamaForCausalLM(LlamaConfig(**LLAMA)).save_pretrained(folder)
    distributed.barrier()
    plain = LlamaForCausalLM.from_pretrained(folder).eval()
    ranks.x = torch.arange(42).reshape(6, 7)
    right = tl.FeatureLayers(plain, LAYERS, reduce="mean").features(ranks.x)
    model, errors = LlamaForCausalLM.from_pretrained(folder, tp_plan="auto").eval(), []
    for each in (model, plain):
        store = ranks.extract(each, LAYERS, "texts", reduce="mean")
        errors += [float((torch.as_tensor(store[name][:]) - right[name]).abs().max()) for name in LAYERS]
    return {"largest": max(errors)}


def refused(call: Callable[[], object]) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    return "not refused"


CASES = (whole_features, gathered_features, parts_of_features, different_items, other_sharding, changed_item, options,
         comparisons, language_model)  # fmt: skip

if __name__ == "__main__":
    distributed.init_process_group("gloo")
    torch.set_num_threads(1)
    found = {case.__name__: case(Ranks(Path(sys.argv[1]))) for case in CASES}
    if distributed.get_rank() == 1:
        Path(sys.argv[1], "found.json").write_text(json.dumps(found))
    distributed.barrier()
    distributed.destroy_process_group()
