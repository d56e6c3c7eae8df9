"""Models of Hugging Face transformers: a local folder, or an id that is cached or can be fetched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .._exceptions import ModelNotFoundError, WeightsMismatchError, WeightsNotFoundError
from .._optional import need
from ..images import opened
from .loaded import LoadedModel
from .preprocess import Preprocess
from .weights import RANDOM

if TYPE_CHECKING:
    from ..images import Source


def load(name: str, weights: str) -> LoadedModel:
    """Builds `hf:NAME`. Code that a repository brings is never run."""
    library, spec = need("transformers", "models"), f"hf:{name}"
    config = _config(library, name, spec)
    kind = getattr(library, (config.architectures or [""])[0], library.AutoModel)
    if weights == RANDOM:
        model = kind(config) if kind is not library.AutoModel else kind.from_config(config)
    else:
        model = _pretrained(kind, name, spec)
    labels = getattr(config, "id2label", None) or {}
    names = tuple(str(labels[index]) for index in sorted(labels)) if _has_head(kind) else ()
    said = "random" if weights == RANDOM else f"from {name}"
    return LoadedModel(spec, model, _preprocess(library, name), said, names)


def _has_head(kind: type) -> bool:
    return "Classification" in kind.__name__


def _config(library: Any, name: str, spec: str) -> Any:
    try:
        return library.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        what = "the folder holds no model" if Path(name).is_dir() else "no such folder, and nothing cached of that id"
        raise ModelNotFoundError(spec, f"{what} ({reason})") from error


def _pretrained(kind: Any, name: str, spec: str) -> nn.Module:
    try:
        model, told = kind.from_pretrained(name, trust_remote_code=False, output_loading_info=True)
    except (OSError, ValueError) as error:
        file = str(Path(name) / "model.safetensors") if Path(name).is_dir() else ""
        raise WeightsNotFoundError(spec, str(error).splitlines()[0].rstrip("."), file) from error
    if told["missing_keys"] or told["mismatched_keys"]:  # transformers would leave these random
        shapes = [key if isinstance(key, str) else key[0] for key in told["mismatched_keys"]]
        raise WeightsMismatchError(name, sorted(told["missing_keys"]), [], shapes)
    return model  # type: ignore[no-any-return]


def _preprocess(library: Any, name: str) -> Any:
    """Returns the checkpoint's image processor or tokenizer, whichever it has."""
    for kind, wrap in ((library.AutoImageProcessor, HfImage), (library.AutoTokenizer, HfText)):
        try:
            return wrap(kind.from_pretrained(name, trust_remote_code=False))
        except (OSError, ValueError, ImportError, KeyError, TypeError):  # it has none of this kind
            continue
    return Preprocess()


@dataclass(frozen=True, slots=True)
class HfImage:
    """An image processor of transformers."""

    processor: Any

    def __call__(self, source: Source) -> dict[str, Tensor]:
        """Returns the keyword arguments for an image."""
        return dict(self.processor(images=opened(source), return_tensors="pt"))

    def photo(self, source: Source) -> Tensor:
        """Returns the image as the model sees it, in its own colours: `[1, 3, H, W]`, from 0 to 1."""
        pixels = self(source)["pixel_values"]
        mean, std = (pixels.new_tensor(value).reshape(-1, 1, 1) for value in self._scale())
        return (pixels * std + mean).clamp(0, 1)

    def _scale(self) -> tuple[Any, Any]:
        normal = getattr(self.processor, "do_normalize", True)
        return (self.processor.image_mean, self.processor.image_std) if normal else ([0.0] * 3, [1.0] * 3)


@dataclass(frozen=True, slots=True)
class HfText:
    """A tokenizer of transformers."""

    tokenizer: Any

    def __call__(self, text: str) -> dict[str, Tensor]:
        """Returns the keyword arguments for a text."""
        return dict(self.tokenizer(text, return_tensors="pt"))
