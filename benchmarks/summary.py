"""The summary page with its plot, and every measured number in README and docs, from the results of the other scripts.

Where a page says `<!-- measured: NAME -->` ... `<!-- end -->`, what stands between is written here, by the function of
that name. A test fails where a page says anything else than the results do.

    python -m benchmarks.summary
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks._report import NUMBERS, PAGES, ROOT, counts_cell, stamp, stop_cell
from benchmarks.goals import Numbers, goals, wrong

PLOT = ROOT / "docs" / "images" / "benchmarks.png"
BLOCK = re.compile(r"(<!-- measured: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def results() -> dict[str, Numbers]:
    """The numbers of every benchmark that has run, by its name."""
    return {path.stem: result_of(path.stem) for path in sorted(NUMBERS.glob("*.json"))}


def result_of(name: str) -> Numbers:
    """The numbers of a benchmark and its setting."""
    found: Numbers = json.loads((NUMBERS / f"{name}.json").read_text())
    return found


def numbers(name: str) -> Numbers:
    """The numbers of a benchmark."""
    found: Numbers = result_of(name)["numbers"]
    return found


def why() -> str:
    """README: why not a plain hook."""
    plain, peers = numbers("correctness"), numbers("peers")
    torchvision, timm, transformers, diffusers, torchaudio, detectors = (
        numbers(f"coverage_{name}")
        for name in ("torchvision", "timm", "transformers", "diffusers", "torchaudio", "detectors")
    )
    return f"""
A hook that keeps `output` keeps a reference, which a later `ReLU(inplace=True)` or `+=` overwrites. In the
{plain["models"]} classification models of torchvision, {plain["plain_wrong"]:,} of {plain["plain_outputs"]:,} outputs
are then **silently wrong**. With this library, {wrong(plain)} of {plain["features"]:,} outputs and inputs are wrong
([table](docs/benchmarks/correctness.md)). Including detectors, video and flow networks, it is {wrong(torchvision)} of
{torchvision["features"]:,} in [{torchvision["models"]} torchvision models](docs/benchmarks/coverage_torchvision.md);
{wrong(transformers)} in [{transformers["models"]} transformers](docs/benchmarks/coverage_transformers.md),
{wrong(timm)} in [{timm["models"]} timm architectures](docs/benchmarks/coverage_timm.md), and
{wrong(diffusers) + wrong(torchaudio) + wrong(detectors)} in models of
[diffusers](docs/benchmarks/coverage_diffusers.md), [torchaudio](docs/benchmarks/coverage_torchaudio.md) and
[detectors of transformers](docs/benchmarks/coverage_detectors.md). A comparison with
{len(peers) - 1} other libraries and versions: [summary](docs/benchmarks/index.md).
"""


def contenders() -> str:
    """README: the other libraries, in short."""
    rows = []
    for found in numbers("peers").values():
        if "layers" in found:
            lost = found["missing"] + found["crashed"]
            cost = f"{found['costs']['resnet50']['time']:.2f}" if "costs" in found else ""
            one = stop_cell(found["stop"]["resnet50"])
            counts = (found["title"], found["right"], found["wrong"], lost, cost, one)
            rows.append(f"| {' | '.join(map(str, counts))} |")
    listed, layers = "\n".join(rows), numbers("peers")["torch_featurelayer"]["layers"]
    return f"""
| {layers} layers of torchvision | right | wrong | missing or crashed | time, all layers | time, one layer |
|---|---|---|---|---|---|
{listed}

The times are those of a ResNet-50, relative to the bare model ([method](docs/benchmarks/peers.md)).
"""


def newcomer() -> str:
    """README: how long the first time takes."""
    found = numbers("newcomer")
    return f"""
Both first create an environment in `.venv`. From `git clone` to a first feature map takes
{found["all"] / 60:.1f} minutes on a machine with two cores ([each step](docs/benchmarks/newcomer.md)).
"""


def versions() -> str:
    """README: which PyTorch."""
    said = numbers("versions").items()
    passed = [name.partition("+")[0] for name, tests in said if "failed" not in tests and "error" not in tests]
    return f"""
Python 3.11 or newer and PyTorch 2.4 or newer. The tests of the core pass on {", ".join(passed)}
([table](docs/benchmarks/versions.md)), the whole suite on {_version(result_of("versions"))},
and its fast tests on 2.4.1 with transformers 4 (`make oldest`).
"""


def _version(result: Numbers) -> str:
    """The version of PyTorch that a benchmark was run with."""
    found = re.search(r"torch ([\d.]+)", result["setting"]["versions"])
    assert found is not None
    return found[1]


def compiling() -> str:
    """How it works: what compiles."""
    found = numbers("graph_breaks")
    return f"""
Of the {found["compile_bare"]} classification models of torchvision that compile with `fullgraph=True`,
{found["compile_bare"] - found["broke"]} also compile with a capture ([table]({{to}}graph_breaks.md)).
"""


def costs() -> str:
    """How it works: what capture costs."""
    found = numbers("overhead")
    one = [part["FeatureLayer"] for name, part in found.items() if name.startswith("one_layer")]
    noise = [part["bare, repeated (the noise)"] for name, part in found.items() if name.startswith("one_layer")]
    lazy = [
        part["FeatureLayers"] / part["FeatureLayers, clone=True"]
        for name, part in found.items() if name.startswith("all_modules")
    ]  # fmt: skip
    added = {name.split()[1]: part for name, part in found.items() if name.startswith("operations")}
    every = ", ".join(
        f"{value:.2f} × ({label}, {name})"
        for name, part in added.items() for label, value in part.items() if label.startswith("all")
    )  # fmt: skip
    return f"""
Relative to the model alone, a call with one captured layer takes {min(one):.2f} to {max(one):.2f} of the time; the
model alone, measured a second time, takes {min(noise):.2f} to {max(noise):.2f}. Capturing all layers costs the memory
of their features, as with any method; copy-on-write takes {min(lazy):.2f} to {max(lazy):.2f} of the time of
`clone=True`. It saves least if nearly every layer is followed by an in-place operation (VGG-11), because PyTorch makes
the late copy in one thread. Operations between layers: {every} ([table](benchmarks/overhead.md)).
"""


def plan() -> str:
    """Datasets: eight nodes, on paper, from what each part took here."""
    parts = numbers("extraction")["parts"]
    reading, model = parts["reading and decoding a JPEG, one process"], parts["the model, compiled, 2 threads"]
    images, cores = 1_281_167, 8 * 16
    return f"""
| | |
|---|---|
| A row | (1,024 + 2,048) × 2 bytes = 6 kB |
| A shard of 1,024 rows | 6.3 MB, 1,252 shards; with `shard_size=8192` 50 MB, 157 shards: use this |
| The store | 7.9 GB, in 157 objects |
| Reading | 1.28 M × 110 kB = 141 GB; at 1 GB/s from object storage 141 s, which is not the limit |
| Decoding | {reading * 1000:.1f} ms per image and core (measured): {images * reading / 3600:.1f} core-hours |
| The model | {model * 1000:.0f} ms per image with 2 threads, compiled (measured): \
{2 * images * model / 3600:.0f} core-hours; \
with 8 × 16 cores {2 * images * model / cores / 60:.0f} minutes |
| Cost of a lost node | its unfinished shards: 8,192 images each, {8192 * 2 * model / 16:.0f} s of a node |
| Call | `ray.init(address="auto")`, then \
`tl.extract(..., "s3://...", "s3://...", backend="ray", num_workers=3, shard_size=8192)` |

The measured figures are from [the table]({{to}}extraction.md).
"""


BLOCKS: dict[str, Callable[[], str]] = {
    block.__name__: block for block in (why, contenders, newcomer, versions, compiling, costs, plan)
}


def filled(path: Path) -> str:
    """Returns a page with its measured blocks as the results say."""
    to = {ROOT: "docs/benchmarks/", ROOT / "docs": "benchmarks/"}.get(path.parent, "../benchmarks/")
    return BLOCK.sub(
        lambda found: found[1] + BLOCKS[found[2]]().strip().replace("{to}", to) + "\n" + found[4], path.read_text()
    )


def pages() -> list[Path]:
    """The pages with measured blocks."""
    docs = ROOT / "docs"
    texts = (ROOT / "README.md", *sorted([*docs.glob("*.md"), *docs.glob("guides/*.md")]))
    return [path for path in texts if BLOCK.search(path.read_text())]


INDEX = """# Benchmarks

Every table here is written by a script of `benchmarks`, with the date, the machine and the versions; `make bench` runs
all of them. Other pages quote these numbers, and a test compares them.

![The features that each library returns right, wrong or not at all, and its time](../images/benchmarks.png)

The numbers of layers of torchvision models; time and memory of all layers of a ResNet-50, and the time of `layer2`
alone, relative to the bare model; stages of a ResNet-18 that was compiled and has run. timm returns only the stages of
its own models. [Other libraries](peers.md) describes the method.

{contenders}

## Results of torch-featurelayer

| Measured | Result | Page |
|---|---|---|
{ours}

## Goals

The numbers that the project set itself, those that it misses first. A time relative to a forward pass is larger on a
faster processor, so compare the machines below.

| Measured | | Goal | | Page |
|---|---|---|---|---|
{goals}

## Dates and machines

The code is what `git rev-parse --short HEAD:src/torch_featurelayer` prints; pages without it are of earlier code.

| Page | Command, date, machine, versions and code |
|---|---|
{made}
"""


def index() -> str:
    """The summary page."""
    made = [f"| [{name}]({name}.md) | {stamp(one['setting'])} |" for name, one in results().items()]
    parts = {
        "contenders": _contenders(),
        "ours": _ours(),
        "goals": [goal.row() for goal in goals(numbers)],
        "made": made,
    }
    return INDEX.format(**{name: "\n".join(rows) for name, rows in parts.items()})


def _contenders() -> list[str]:
    columns = "| | right | wrong | missing | crashed | all: time | all: memory | one: time | after torch.compile |"
    return [columns, "|" + "---|" * 9, *(_contender(found) for found in numbers("peers").values())]


def _contender(found: Numbers) -> str:
    cells = [found["title"], *(str(found.get(part, "")) for part in ("right", "wrong", "missing", "crashed"))]
    cells += [f"{found['costs']['resnet50'][part]:.2f}" if "costs" in found else "" for part in ("time", "memory")]
    cells += [stop_cell(found["stop"]["resnet50"]), counts_cell(found["compiled"])]
    return f"| {' | '.join(cells)} |"


def _ours() -> list[str]:
    """A row for what has no contender, or whose contenders are on its own page."""
    plain = numbers("correctness")
    rows = {
        "plain hooks": (f"{plain['plain_wrong']:,} of {plain['plain_outputs']:,} outputs wrong", "correctness"),
        "ours, the same models": (f"{wrong(plain)} of {plain['features']:,} outputs and inputs wrong", "correctness"),
        **_coverage(),
        **_datasets(),
        "many captures in one process": (_soak(), "soak"),
        "clone to the first feature map": (f"{numbers('newcomer')['all']:.0f} s", "newcomer"),
        "versions of PyTorch": ("; ".join(f"{name}: {said}" for name, said in numbers("versions").items()), "versions"),
        "changes to the code that the tests notice": (_mutation(numbers("mutation")), "mutation"),
    }  # fmt: skip
    return [f"| {name} | {said} | [table]({page}.md) |" for name, (said, page) in rows.items()]


def _mutation(found: Numbers) -> str:
    return ", ".join(
        f"{part['score']:.0%} of {part['tried']} of the {part['every']} to the {name}" for name, part in found.items()
    )


def _soak() -> str:
    found = numbers("soak")
    return f"{found['calls']:,} calls: {found['growth']:+.1f} MB, {found['hooks']} hooks left behind"


def _coverage() -> dict[str, tuple[str, str]]:
    rows = {}
    for library in ("torchvision", "timm", "transformers"):
        found = numbers(f"coverage_{library}")
        counts = f"{wrong(found)} wrong or missing, {found['crashed']} crashes"
        said = f"{found['models']} models, {found['features']:,} features: {counts}"
        rows[f"coverage of {library}"] = said, f"coverage_{library}"
    kept, graphs = numbers("timm_intermediates"), numbers("graph_breaks")
    nowhere = f"{kept['features']} tensors of {kept['families']} families, {kept['nowhere']} that no address gives"
    rows["timm's `forward_intermediates`"] = nowhere, "timm_intermediates"
    means = numbers("layouts")
    rows["means over positions"] = (
        f"{means['models']} models, {means['right']:,} layers: {means['wrong']} wrong, {means['refused']} refused",
        "layouts",
    )
    rows["graph breaks"] = f"{graphs['broke']} of {graphs['compile_bare']} models", "graph_breaks"
    return rows


def _datasets() -> dict[str, tuple[str, str]]:
    loops = {name: found for name, found in numbers("extraction").items() if name != "parts"}
    stores = numbers("stores")
    kills = {name: found for name, found in numbers("robustness").items() if name.startswith("kills")}
    survived = [
        f"{found['times']} ({name.removeprefix('kills, ')}): {'the same' if found['same_bytes'] else 'OTHER'} bytes"
        for name, found in kills.items()
    ]
    rates = ", ".join(f"{found['of_plain_loop']:.2f} {name}" for name, found in loops.items())
    texts = numbers("texts")
    of_sorted = texts["`tl.extract`, to a store"] / texts["batches by length, padded by hand"]
    return {
        "texts, × a loop by length": (f"{of_sorted:.2f}", "texts"),
        "a dataset, × a plain loop": (rates, "extraction"),
        "writing a store": (f"{stores['write_of_raw']:.2f} of a raw write and fsync", "stores"),
        "a query, 100,000 rows, exact": (f"{stores['`Index.search`'] * 1000:.1f} ms", "stores"),
        "kills": ("; ".join(survived), "robustness"),
    }


def plot() -> Figure:
    """What each library gives of the layers, and what that costs."""
    found = {name: one for name, one in reversed(numbers("peers").items()) if "layers" in one}
    figure = Figure(figsize=(10, 4), layout="constrained")
    shares, time = figure.subplots(1, 2, width_ratios=(3, 2))
    names = [one["title"] for one in found.values()]
    begun = [0.0] * len(names)
    for part, colour in (("right", "#2a7f62"), ("wrong", "#c0392b"), ("missing", "#f0b429"), ("crashed", "#7f8c8d")):
        width = [one[part] / one["layers"] for one in found.values()]
        shares.barh(names, width, left=begun, color=colour, label=part)
        begun = [start + more for start, more in zip(begun, width, strict=True)]
    shares.set(xlabel="share of the layers", xlim=(0, 1))
    shares.xaxis.set_major_formatter(PercentFormatter(1))
    shares.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    ratios = [one["costs"]["resnet50"]["time"] for one in found.values()]
    bars = time.barh(names, ratios, color="#34495e")
    time.bar_label(bars, fmt="%.2f", padding=2, fontsize="small")
    time.set(xlabel="time for all layers of a ResNet-50, × bare", xscale="log", xlim=(0.8, 40), yticks=[])
    time.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    time.minorticks_off()
    return figure


def main() -> None:
    (PAGES / "index.md").write_text(index())
    plot().savefig(PLOT, dpi=90)
    for path in pages():
        path.write_text(filled(path))
    print(f"{PAGES / 'index.md'}, {PLOT}, {', '.join(str(path) for path in pages())}")


if __name__ == "__main__":
    main()
