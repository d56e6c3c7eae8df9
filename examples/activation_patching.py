"""Where in a transformer does one word make its difference?

Two sentences differ in one word. The sentence vector of the second is moved back to that of the first by putting the
first's activation into one layer at one token, for every layer and token: the difference stays with the word almost to
the end, and only the last layer hands it on to the others. With MiniLM; source: Meng et al., "Locating and Editing
Factual Associations in GPT", 2022 (causal tracing).

    python -m examples.activation_patching [--out patching.png]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import typer
from matplotlib.figure import Figure
from torch import Tensor, nn

import torch_featurelayer as tl
from examples.sentence_layers import LAYERS, minilm

CLEAN, CORRUPTED = "The doctor gave the dog a bone.", "The doctor gave the child a bone."


def sentence_vector(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Returns the vector `[D]` the model gives a sentence: the mean of its last hidden states."""
    with torch.no_grad():
        vector: Tensor = model(**inputs).last_hidden_state.mean(1)[0]
    return vector


def with_token(new: Tensor, token: int) -> Any:
    """Returns an edit that puts a token's activation from another run in place of this one's."""

    def patch(old: Tensor) -> Tensor:
        old[:, token] = new[:, token]
        return old

    return patch


def restored(clean: str, corrupted: str) -> tuple[list[str], Tensor]:
    """Patches every layer at every token.

    Returns:
        The tokens of the corrupted sentence, and `[layers, tokens]`: which share of the way back to the clean
        sentence's vector a patch goes, 1 all of it.
    """
    loaded = minilm()
    (_, before), (_, after) = loaded.inputs(clean), loaded.inputs(corrupted)
    with torch.no_grad():
        feats = tl.FeatureLayers(loaded.model, LAYERS).features(**before)
    goal, start = sentence_vector(loaded.model, before), sentence_vector(loaded.model, after)
    away = (start - goal).norm()
    shares = torch.zeros(len(LAYERS), after["input_ids"].shape[1])
    for row, layer in enumerate(LAYERS):
        for token in range(shares.shape[1]):
            with tl.edit(loaded.model, {layer: with_token(feats[layer], token)}):
                shares[row, token] = 1 - (sentence_vector(loaded.model, after) - goal).norm() / away
    return loaded.preprocess.tokenizer.convert_ids_to_tokens(after["input_ids"][0].tolist()), shares


def drawn(tokens: list[str], shares: Tensor) -> Figure:
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    ax = figure.subplots()
    shown = ax.imshow(shares, cmap="RdBu_r", vmin=-1, vmax=1, origin="lower", aspect="auto")
    ax.set_xticks(range(len(tokens)), tokens, rotation=45)
    ax.set_yticks(range(len(LAYERS)), [name.removeprefix("encoder.") for name in LAYERS])
    ax.set_title(f"“{CORRUPTED}” patched from “{CLEAN}”", fontsize="medium")
    figure.colorbar(shown, label="share of the way back")
    return figure


def main(out: Path = Path("patching.png")) -> None:
    """Draws what each patch restores."""
    drawn(*restored(CLEAN, CORRUPTED)).savefig(out, dpi=100)


if __name__ == "__main__":
    typer.run(main)
