"""Models of Hugging Face transformers, from a local folder or an id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .._exceptions import ModelNotFoundError, WeightsMismatchError, WeightsNotFoundError
from .._optional import need
from ..images import open_image
from .loaded_model import LoadedModel
from .preprocess import Preprocess
from .weights import RANDOM

if TYPE_CHECKING:
    from ..images import Source


def load(name: str, weights: str) -> LoadedModel:
    """Builds `hf:NAME`. Code in the repository of the model is never run."""
    library, spec = need("transformers", "models"), f"hf:{name}"
    config = _config(library, name, spec)
    kind = getattr(library, (config.architectures or [""])[0], library.AutoModel)
    if weights == RANDOM:
        model = kind(config) if kind is not library.AutoModel else kind.from_config(config)
    else:
        model = _load_pretrained(kind, name, spec)
    labels = getattr(config, "id2label", None) or {}
    names = tuple(str(labels[index]) for index in sorted(labels)) if _has_head(kind) else ()
    origin = "random" if weights == RANDOM else f"from {name}"
    return LoadedModel(spec, model, _preprocess(library, name), origin, names)


def _has_head(kind: type) -> bool:
    return "Classification" in kind.__name__


def _config(library: Any, name: str, spec: str) -> Any:
    try:
        return library.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        problem = "the folder holds no model" if Path(name).is_dir() else "no such folder, and no such id in the cache"
        raise ModelNotFoundError(spec, f"{problem} ({reason})") from error


def _load_pretrained(kind: Any, name: str, spec: str) -> nn.Module:
    try:
        model, report = kind.from_pretrained(name, trust_remote_code=False, output_loading_info=True)
    except (OSError, ValueError) as error:
        file = str(Path(name) / "model.safetensors") if Path(name).is_dir() else ""
        raise WeightsNotFoundError(spec, str(error).splitlines()[0].rstrip("."), file) from error
    if report["missing_keys"] or report["mismatched_keys"]:  # transformers would initialise these at random
        shapes = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
        raise WeightsMismatchError(name, sorted(report["missing_keys"]), [], shapes)
    return model  # type: ignore[no-any-return]


def _preprocess(library: Any, name: str) -> Any:
    """Returns the image processor or the tokenizer of the checkpoint."""
    for kind, wrap in ((library.AutoImageProcessor, HfImage), (library.AutoTokenizer, HfText)):
        try:
            return wrap(kind.from_pretrained(name, trust_remote_code=False))
        except (OSError, ValueError, ImportError, KeyError, TypeError):  # the checkpoint has none of this kind
            continue
    return Preprocess()


@dataclass(frozen=True, slots=True)
class HfImage:
    """Preprocesses images with an image processor of transformers."""

    processor: Any

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.processor).__name__})"

    def __call__(self, source: Source) -> dict[str, Tensor]:
        """Returns the keyword arguments of the model for an image."""
        return dict(self.processor(images=open_image(source), return_tensors="pt"))

    def image(self, source: Source) -> Tensor:
        """Returns the image as the model receives it, before normalisation: `[1, 3, H, W]` from 0 to 1."""
        pixels = self(source)["pixel_values"]
        mean, std = (pixels.new_tensor(value).reshape(-1, 1, 1) for value in self._scale())
        return (pixels * std + mean).clamp(0, 1)

    def _scale(self) -> tuple[Any, Any]:
        normal = getattr(self.processor, "do_normalize", True)
        return (self.processor.image_mean, self.processor.image_std) if normal else ([0.0] * 3, [1.0] * 3)


@dataclass(frozen=True, slots=True)
class HfText:
    """Preprocesses texts with a tokenizer of transformers."""

    tokenizer: Any

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.tokenizer).__name__})"

    def __call__(self, text: str) -> dict[str, Tensor]:
        """Returns the keyword arguments of the model for a text."""
        return dict(self.tokenizer(text, return_tensors="pt"))
