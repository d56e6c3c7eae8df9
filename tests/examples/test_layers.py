"""The examples that go through a network layer by layer."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch

import torch_featurelayer as tl
from examples import activation_patching, linear_probe, sentence_layers, sound_layers

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _quiet_packages() -> Iterator[None]:
    """What the packages with the models warn of as they are imported is theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_a_trained_stage_tells_digits_apart_better_than_pixels() -> None:
    found = linear_probe.measure(count=600)
    trained, random = found["trained on photos"], found["random weights"]
    assert trained["_blocks.10"] > max(found["pixels"]["_blocks.10"], trained["_conv_stem"], random["_blocks.10"])
    assert random["_conv_head"] > random["_conv_stem"]  # in float16, its activations would vanish


def test_the_paraphrase_catches_up_with_depth() -> None:
    found = sentence_layers.by_depth()
    margins = [near - far for near, far in found.values()]
    assert margins[0] < -0.1 < 0 < margins[-1]


def test_sentence_vectors_are_those_of_the_model() -> None:
    """Against its own hidden states; no sentence is padded."""
    loaded = sentence_layers.minilm()
    found = sentence_layers.sentence_vectors(loaded, ["A short one.", "One that is a good deal longer than that."])
    _, inputs = loaded.inputs("A short one.")
    with torch.no_grad():
        states = loaded.model(**inputs, output_hidden_states=True).hidden_states
    for number, name in enumerate(sentence_layers.LAYERS):
        assert torch.allclose(found[name][0], states[number].mean(1)[0], atol=1e-6)


def test_crepe_hears_the_tones_and_forgets_their_timbre() -> None:
    frames, pitches, _ = sound_layers.tones()
    with torch.no_grad():
        heard = sound_layers.heard(sound_layers.crepe()(frames))
    right = 220 * 2 ** (pitches / 12)
    assert ((12 * (heard / right).log2()).abs() < 0.5).float().mean() > 0.8  # within half a semitone
    found = sound_layers.by_depth()
    (first_pitch, first_timbre), (pitch, timbre) = found["conv1_BN"], found["classifier"]
    assert pitch > first_pitch + 0.1
    assert timbre < first_timbre - 0.1


def test_patching_restores_at_the_word_that_differs() -> None:
    """All of it at the embedding, nothing elsewhere; and every token at once restores the whole."""
    tokens, shares = activation_patching.restored(activation_patching.CLEAN, activation_patching.CORRUPTED)
    word = tokens.index("child")
    assert shares[0, word] == pytest.approx(1, abs=1e-3)
    others = torch.arange(len(tokens)) != word
    assert shares[0, others].abs().max() < 1e-3
    assert shares[:-1, word].min() > 0.5 > shares[-1, word]
    assert shares[-1].sum() == pytest.approx(1, abs=0.5)  # the last layer has handed it on

    loaded = sentence_layers.minilm()
    _, before = loaded.inputs(activation_patching.CLEAN)
    _, after = loaded.inputs(activation_patching.CORRUPTED)
    with torch.no_grad():
        feat = tl.FeatureLayer(loaded.model, "encoder.layer.3").features(**before)
    with tl.edit(loaded.model, {"encoder.layer.3": feat}):
        patched = activation_patching.sentence_vector(loaded.model, after)
    assert torch.allclose(patched, activation_patching.sentence_vector(loaded.model, before), atol=1e-5)
