"""Writing, reading and searching stores, beside the plainest way.

python -m benchmarks.stores [--million]
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
from pathlib import Path

import torch

import torch_featurelayer as tl
from benchmarks._report import report
from benchmarks._timing import race
from torch_featurelayer.similarity import FaissIndex, Index
from torch_featurelayer.store import Store, StoreWriter

ROWS, WIDTH, SHARD = 100_000, 512, 8192


def write(folder: Path, rows: torch.Tensor, ids: list[str]) -> None:
    with StoreWriter.open(folder, {}) as writer:
        for number, part in enumerate(rows.split(SHARD)):
            writer.write(number, {"fc": part}, ids[number * SHARD : number * SHARD + len(part)])


def written(folder: Path, rows: torch.Tensor) -> Store:
    write(folder, rows, names(len(rows)))
    return tl.open_store(folder)


def names(count: int) -> list[str]:
    return [f"{number:07}.jpg" for number in range(count)]


def raw(folder: Path, rows: torch.Tensor) -> None:
    """The bytes, and nothing else, until they are on the disk."""
    folder.mkdir(exist_ok=True)
    for number, part in enumerate(rows.split(SHARD)):
        with (folder / str(number)).open("wb") as file:
            file.write(part.numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--million", action="store_true", help="search a million rows too")
    million = parser.parse_args().million
    torch.manual_seed(0)
    rows = torch.randn(ROWS, WIDTH).half()
    lines, ids, numbers = [], names(ROWS), {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        times = race({
            "raw": lambda: raw(root / "raw", rows), "store": lambda: write(root / "store", rows, ids),
        }, 15)  # fmt: skip
        size = rows.numel() * rows.element_size() / 1e6
        for name, said in (
            ("raw", "raw write and fsync of the same bytes"),
            ("store", "`StoreWriter`, ids and checksums"),
        ):
            rate = size / times[name].median
            ratio = times["raw"].median / times[name].median
            lines.append(f"| {said} | {times[name]} | {rate:.0f} MB/s, {ratio:.2f} of raw |")
        numbers["write_of_raw"] = ratio
        store = tl.open_store(root / "store")
        layer, places = store["fc"], torch.randint(0, ROWS, (1000,)).tolist()
        index, query = Index(store), torch.randn(WIDTH)
        many = torch.randn(100, WIDTH)
        faiss = FaissIndex(store)
        times = race({
            "1,000 random rows, one by one": lambda: [layer[place] for place in places],
            "opening the store, and its ids": lambda: tl.open_store(root / "store").ids,
            "`search`: all rows read from the store": lambda: tl.similarity.search(store, query, k=10),
            "`Index.search`": lambda: index.search(query, 10),
            "`Index.search_many`, 100 queries": lambda: index.search_many(many, 10),
            "`FaissIndex.search`": lambda: faiss.search(query, 10),
        }, 15)  # fmt: skip
        right = (many / many.norm(dim=1, keepdim=True)).double() @ torch.nn.functional.normalize(rows.double()).T
        best = [set(part) for part in right.topk(10, dim=1).indices.tolist()]
        notes = dict.fromkeys(times, "")
        notes["1,000 random rows, one by one"] = f"{times['1,000 random rows, one by one'].median:.4f} ms a row"
        for name, found in (
            ("`Index.search`", [index.search(one, 10) for one in many]),
            ("`Index.search_many`, 100 queries", index.search_many(many, 10)),
            ("`FaissIndex.search`", [faiss.search(one, 10) for one in many]),
        ):
            hits = sum(len({match.row for match in part} & wanted) for part, wanted in zip(found, best, strict=True))
            notes[name] = f"recall {hits / 1000:.3f}"
            numbers[f"recall {name}"] = hits / 1000
        lines += [f"| {name} | {timing} | {notes[name]} |" for name, timing in times.items()]
        numbers |= {name: timing.median for name, timing in times.items()}
        if million:
            big = written(root / "big", torch.randn(1_000_000, WIDTH).half())
            held = Index(big)
            times = race({
                "a million rows: `search`, from the store": lambda: tl.similarity.search(big, query, k=10),
                "a million rows: `Index.search`": lambda: held.search(query, 10),
            }, 5, warmup=1)  # fmt: skip
            lines += [f"| {name} | {timing} | |" for name, timing in times.items()]
            numbers |= {name: timing.median for name, timing in times.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    about = f"""
{ROWS} × {WIDTH} float16 in shards of {SHARD}, medians and quartiles, in turns. Recall: the share of the 10 nearest
rows, computed with a float64 product over all rows, that a search finds; 100 queries. Random vectors have no
clusters, so the recall of faiss is lower here than with features. Peak memory of the run: {peak:.1f} GB.
"""
    report("stores", "Stores", about, ["| | median (quartiles) | |", "|---|---|---|", *lines], numbers)


if __name__ == "__main__":
    main()
