"""Errors of what comes from outside: images, models, weights, packages."""

from __future__ import annotations

from collections.abc import Sequence

from .base import FeatureLayerError, did_you_mean, nearest, quoted


class ImageError(FeatureLayerError, ValueError):
    """An image cannot be read.

    Attributes:
        source: What was given, as text.
        problem: Why it cannot be read.
    """

    def __init__(self, source: str, problem: str) -> None:
        self.source, self.problem = source, problem
        super().__init__(f"cannot read {source}: {problem}")


class MissingExtraError(FeatureLayerError, ImportError):
    """An optional dependency is not installed.

    Attributes:
        package: The package that cannot be imported.
        extra: The extra of torch-featurelayer that brings it.
        requirements: What the extra requires, as `pip install` takes it.
    """

    def __init__(self, package: str, extra: str, requirements: Sequence[str] = ()) -> None:
        self.package, self.extra, self.requirements = package, extra, list(requirements) or [package]
        # The packages themselves: the name torch-featurelayer on PyPI is another author's.
        install = " ".join(f'"{requirement}"' for requirement in self.requirements)
        super().__init__(f"{package} is not installed: pip install {install} (the extra {extra!r}: docs/install.md)")


class ModelNotFoundError(FeatureLayerError, ValueError):
    """No model has that name.

    Attributes:
        spec: What was asked for.
        problem: What is wrong with it.
        nearest: The known names most like it.
    """

    def __init__(self, spec: str, problem: str, known: Sequence[str] = ()) -> None:
        self.spec, self.problem = spec, problem
        self.nearest = nearest(spec, known)
        super().__init__(
            f"no model {spec!r}: {problem}.{did_you_mean(self.nearest)} A model is 'torchvision:NAME', 'timm:NAME', "
            "'hf:FOLDER-OR-ID', 'package.module:callable' or 'efficientnet-lite0'."
        )


class WeightsNotFoundError(FeatureLayerError, FileNotFoundError):
    """The weights of a model are not on this machine and could not be fetched.

    Attributes:
        spec: The model.
        problem: What went wrong.
        file: The file that would be read, where that is known; else empty.
    """

    def __init__(self, spec: str, problem: str, file: str = "") -> None:
        self.spec, self.problem, self.file = spec, problem, file
        place = f" Put the file at {file}, or give" if file else " Give"
        super().__init__(
            f"no weights for {spec!r}: {problem}.{place} a state dict of your own (weights='FILE.safetensors' "
            "or a .pt), or ask for weights='random': random weights are never taken in silence."
        )


class WeightsMismatchError(FeatureLayerError, ValueError):
    """A state dict is not that of the model.

    Attributes:
        file: Where it was read from.
        missing: Parameters of the model that it does not hold.
        unexpected: What it holds and the model does not have.
        shapes: What both have, in different shapes.
    """

    def __init__(
        self, file: str, missing: Sequence[str], unexpected: Sequence[str], shapes: Sequence[str] = ()
    ) -> None:
        self.file, self.missing, self.unexpected, self.shapes = file, list(missing), list(unexpected), list(shapes)
        parts = {"missing": missing, "not of this model": unexpected, "of another shape": shapes}
        said = "; ".join(f"{len(names)} {what}: {quoted(names, limit=3)}" for what, names in parts.items() if names)
        super().__init__(f"{file} does not hold the weights of this model: {said}.")


class LabelNotFoundError(FeatureLayerError, LookupError):
    """The model knows no class of that name.

    Attributes:
        label: What was asked for.
        nearest: The known names most like it.
    """

    def __init__(self, label: str, known: Sequence[str]) -> None:
        self.label = label
        self.nearest = nearest(label.lower(), known)
        there = "" if known else " The names of this model's classes are not known: give a number."
        super().__init__(f"no class {label!r}.{did_you_mean(self.nearest)}{there}")
