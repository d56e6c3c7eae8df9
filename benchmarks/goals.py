"""The goals of the project that are numbers, and whether the measurements meet them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Numbers = dict[str, Any]

MODELS = ("resnet50", "vit_small_patch16_224")
BY_HAND = {"fp32": "`tl.extract(autotune=True)`", "bf16": "`tl.extract(precision=torch.bfloat16, autotune=True)`"}


class Goal(NamedTuple):
    """A goal.

    Attributes:
        name: What is measured, with its unit.
        page: The page of the measurement.
        measured: The measurement.
        limit: The number that it must not pass.
        is_least: Whether the limit is the least number; otherwise the largest.
    """

    name: str
    page: str
    measured: float
    limit: float
    is_least: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the measurement meets the goal."""
        return self.measured >= self.limit if self.is_least else self.measured <= self.limit

    def row(self) -> str:
        """Returns the row of the table."""
        limit = f"{'at least' if self.is_least else 'at most'} {self.limit:g}"
        return (
            f"| {self.name} | {_shown(self.measured)} | {limit} | {'met' if self.is_met else '**not met**'} "
            f"| [table]({self.page}.md) |"
        )


def goals(numbers: Callable[[str], Numbers]) -> list[Goal]:
    """Returns all goals, those that are not met first.

    Args:
        numbers: Returns the numbers of a page.
    """
    found = [goal for of in (_features, _datasets, _stores, _tools, _project) for goal in of(numbers)]
    return sorted(found, key=lambda goal: goal.is_met)


def _features(numbers: Callable[[str], Numbers]) -> Iterator[Goal]:
    yield Goal("wrong features of torchvision models", "correctness", wrong(numbers("correctness")), 0)
    for library in ("torchvision", "timm", "transformers"):
        found = numbers(f"coverage_{library}")
        lost = wrong(found) + found["crashed"]
        yield Goal(f"wrong or missing features, and crashes, of {library}", f"coverage_{library}", lost, 0)
    yield Goal("wrong means over positions", "layouts", numbers("layouts")["wrong"], 0)
    yield Goal("graph breaks", "graph_breaks", numbers("graph_breaks")["broke"], 0)
    diagnosis, guard = numbers("diagnosis"), numbers("guard")
    for model in ("resnet50", "vit_b_16"):
        yield Goal(f"`guard` of modules, × a forward pass, {model}", "diagnosis",
                   diagnosis[f"{model}, guard, operations=False"], 1.15)  # fmt: skip
        yield Goal(f"`diff`, × two forward passes, {model}", "diagnosis",
                   diagnosis[f"{model}, diff, of two forward passes"], 2.2)  # fmt: skip
        for layers in ("four stages", "pooled layer"):
            yield Goal(f"`statistics`, {layers}, × a forward pass, {model}", "diagnosis",
                       diagnosis[f"{model}, statistics, {layers}"], 1.2)  # fmt: skip
    for library in ("torchvision", "transformers"):
        yield Goal(f"false alarms of `guard`, {library}", "guard", guard[f"{library}, false"], 0)


def _datasets(numbers: Callable[[str], Numbers]) -> Iterator[Goal]:
    pipeline, texts, backends = numbers("pipeline"), numbers("texts"), numbers("backends")
    yield Goal("the loop, × the delay of its model", "pipeline", pipeline["loop_of_delay"], 1.05)
    for model in MODELS:
        default, plain = (pipeline[f"{model} {name}"] for name in ("`tl.extract`, no options", "plain loop, 1 worker"))
        yield Goal(f"`extract` without options, × a plain loop, {model}", "pipeline", default / plain, 1.5, True)
        for kind, ours in BY_HAND.items():
            ratio = pipeline[f"{model} {ours}"] / pipeline[f"{model} best loop by hand, {kind}"]
            yield Goal(f"`extract(autotune=True)`, × the best loop by hand, {model} {kind}", "pipeline",
                       ratio, 0.95, True)  # fmt: skip
        begin = pipeline[f"{model} `tl.extract(autotune=True)` second start"]
        yield Goal(f"second start of `extract(autotune=True)`, s, {model}", "pipeline", begin, 3)
    yield Goal("forward passes for 64 texts", "texts", texts["forwards_of_64"], 8)
    for actors in (1, 2, 4):
        share = backends[f"{actors} actors"]["of_ideal"]
        yield Goal(f"rows/s of the ideal, actors: {actors}", "backends", share, 0.95, True)
    yield Goal("first shard of 4 actors, s", "backends", backends["4 actors"]["first_shard"], 5)


def _stores(numbers: Callable[[str], Numbers]) -> Iterator[Goal]:
    scale, robustness = numbers("scale"), numbers("robustness")
    yield Goal("framework for a batch of 16 tiny rows, µs", "scale", scale["framework"]["16"], 100)
    yield Goal("opening 5 million rows, s", "scale", scale["open_rows"]["seconds"], 0.3)
    yield Goal("memory of the open store, MB", "scale", scale["open_rows"]["MB"], 50)
    yield Goal("a random row, ms", "scale", scale["random_row_ms"], 0.1)
    yield Goal("`DataLoader` in random order, × a memmap", "scale", scale["loader_of_memmap"], 0.7, True)
    kills = [found for name, found in robustness.items() if name.startswith("kills")]
    yield Goal("stores with other bytes after kills", "robustness", sum(not each["same_bytes"] for each in kills), 0)


def _tools(numbers: Callable[[str], Numbers]) -> Iterator[Goal]:
    explorer = numbers("explorer")
    for name, limit in explorer["goals"].items():
        yield Goal(f"explorer, p95: {name.split(';')[0]}, ms", "explorer", explorer["p95"][name], limit)
    for name, seconds in explorer["first"].items():
        yield Goal(f"explorer, the first view of {name}, s", "explorer", seconds, 1.5)


def _project(numbers: Callable[[str], Numbers]) -> Iterator[Goal]:
    soak = numbers("soak")
    yield Goal("objects and hooks that a million captures leave", "soak", soak["objects"] + soak["hooks"], 0)
    yield Goal("memory that a million captures leave, MB", "soak", soak["growth"], 5)
    demo = next(value for name, value in numbers("newcomer").items() if name.startswith("`make demo`"))
    yield Goal("`make demo` on a fresh clone, s", "newcomer", demo, 240)


def wrong(found: Numbers) -> int:
    """Returns the number of features that are wrong or missing."""
    return int(found["wrong"] + found["missing"])


def _shown(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
