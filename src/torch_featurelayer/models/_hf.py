"""Models of Hugging Face transformers, from a local folder or an id."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._exceptions import ModelNotFoundError, WeightsMismatchError, WeightsNotFoundError
from .._optional import need
from ._hf_inputs import find_preprocess
from .loaded_model import LoadedModel
from .weights import RANDOM


def load(name: str, weights: str, **options: Any) -> LoadedModel:
    """Builds `hf:NAME`. Code in the repository of the model is never run.

    Args:
        name: A folder or an id; of a model, or of an adapter, which is loaded on its base model.
        weights: `"default"` or `"random"`.
        **options: Options of `from_pretrained`, such as its dtype.
    """
    library, spec = need("transformers", "models"), f"hf:{name}"
    base = _base_of_adapter(name)
    config = _config(library, base or name, spec)
    kind = getattr(library, (config.architectures or [""])[0], library.AutoModel)
    if weights == RANDOM:
        model = kind(config) if kind is not library.AutoModel else kind.from_config(config)
    else:
        model = _load_pretrained(kind, base or name, spec, options)
        if base is not None:
            need("peft", "large")
            model.load_adapter(name)
    labels = getattr(config, "id2label", None) or {}
    names = tuple(str(labels[index]) for index in sorted(labels)) if _has_head(kind) else ()
    origin = "random" if weights == RANDOM else f"from {name}"
    return LoadedModel(spec, model, find_preprocess(library, base or name, config), origin, names)


def _base_of_adapter(name: str) -> str | None:
    """Returns the name of the base model of a folder with an adapter of PEFT; None for another folder."""
    file, config = Path(name) / "adapter_config.json", Path(name) / "config.json"
    if config.is_file() or not file.is_file():
        return None
    found: str = json.loads(file.read_text())["base_model_name_or_path"]
    return found


def _has_head(kind: type) -> bool:
    return any(task in kind.__name__ for task in ("Classification", "ObjectDetection"))


def _config(library: Any, name: str, spec: str) -> Any:
    try:
        return library.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        problem = "the folder holds no model" if Path(name).is_dir() else "no such folder, and no such id in the cache"
        raise ModelNotFoundError(spec, f"{problem} ({reason})") from error


def _load_pretrained(kind: Any, name: str, spec: str, options: Mapping[str, Any]) -> Any:
    if "device_map" in options:
        need("accelerate", "large")
    try:
        model, report = kind.from_pretrained(name, trust_remote_code=False, output_loading_info=True, **options)
    except (OSError, ValueError) as error:
        file = str(Path(name) / "model.safetensors") if Path(name).is_dir() else ""
        raise WeightsNotFoundError(spec, str(error).splitlines()[0].rstrip("."), file) from error
    if report["missing_keys"] or report["mismatched_keys"]:  # transformers would initialise these at random
        shapes = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
        raise WeightsMismatchError(name, sorted(report["missing_keys"]), [], shapes)
    return model
