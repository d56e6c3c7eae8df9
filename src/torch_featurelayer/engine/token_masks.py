"""Which positions of a batch are content rather than padding, by the masks and lengths among the arguments."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from .._exceptions import FeatureLayerError, ReductionError
from .._layout import Layout
from .arguments import positional_names
from .feature_masks import PIXELS, FeatureMask, PixelMask, TokenMask, UnclearMask

TokenName: TypeAlias = Literal["all", "content", "last"]
Tokens: TypeAlias = TokenName | slice | Callable[[Tensor, Tensor], Tensor]

SPECIAL_MASK: Final = "special_tokens_mask"
# By side: the names of masks that are 1 at tokens, those of masks that are 1 at padding, and those of token ids.
_ENCODER: Final = (("attention_mask",), ("src_key_padding_mask", "key_padding_mask"), ("input_ids",))
_DECODER: Final = (("decoder_attention_mask",), ("tgt_key_padding_mask",), ("decoder_input_ids",))
_PATCHES: Final = ("pixel_attention_mask", "patch_attention_mask")  # [N, T], or [N, H, W] of the same tokens
_LENGTHS: Final = ("lengths", "input_lengths", "seq_lengths", "seq_lens", "src_lengths", "x_lengths", "lens")  # [N]
# Masks [N, T] that are 1 at tokens in some libraries and 1 at padding in others.
_UNCLEAR: Final = ("mask", "padding_mask", "pad_mask", "encoder_padding_mask", "input_mask", "token_mask", "valid_mask")
_CACHES: Final = ("past_key_values", "cache_params", "past")  # those that are no object with a length


def check_tokens(tokens: Any) -> None:
    """Checks a choice of tokens.

    Raises:
        ValueError: If it is not a name, a slice or a function.
    """
    if (
        tokens is not None
        and not isinstance(tokens, slice)
        and not callable(tokens)
        and tokens not in get_args(TokenName)
    ):
        names = ", ".join(map(repr, get_args(TokenName)))
        raise ValueError(f"tokens must be {names}, a slice or a function, not {tokens!r}")


class TokenMasks:
    """The tokens of one call of a model, for the features of any layer.

    Args:
        model: The model.
        tokens: The choice of tokens; None for all but padding.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.
    """

    def __init__(self, model: nn.Module, tokens: Tokens | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._model, self._tokens, self._args, self._kwargs = model, tokens, args, kwargs
        self._found: dict[bool, FeatureMask | FeatureLayerError | None] = {}

    def of(self, layer: str) -> FeatureMask | FeatureLayerError | None:
        """Returns the tokens for a layer.

        Args:
            layer: The path of the layer, which decides between encoder and decoder.

        Returns:
            The mask; None if the arguments have no mask and all positions are chosen; or the exception that reading a
            feature raises.
        """
        side = _is_in_decoder(self._model, layer)
        if side not in self._found:
            try:
                self._found[side] = self._find(side)
            except FeatureLayerError as error:
                self._found[side] = error
        return self._found[side]

    def _find(self, is_decoder: bool) -> FeatureMask | None:
        """Returns the mask of the encoder or of the decoder.

        Raises:
            ReductionError: If the arguments lack what the choice needs, their mask may mean either, or a function
                returns no mask.
        """
        model, tokens = self._model, self._tokens
        named = name_inputs(model, self._args, self._kwargs)
        masks, paddings, ids = _DECODER if is_decoder else _ENCODER
        real, pixels = _real_tokens(named, masks, paddings), _real_pixels(model, named, is_decoder)
        token_ids = next((named[name] for name in ids if isinstance(named.get(name), Tensor)), None)
        if real is None:
            unclear = _unclear_mask(named)
            if tokens is None:
                return pixels or unclear
            if unclear is not None:
                raise ReductionError(f"{unclear.problem}. {unclear.remedy}.")
        all_real = _all_positions(token_ids, named) if real is None else real
        chosen = choose_tokens(tokens, all_real, token_ids, lambda: _special_tokens(model, named, token_ids))
        shortens = hasattr(model, "_get_feature_vector_attention_mask")
        return TokenMask(
            chosen,
            find_cache(named) is not None,
            any(isinstance(value, Tensor) and value.ndim > 3 for value in named.values())
            or (token_ids is not None and any(name in named for name in _PATCHES)),
            lambda length: _shortened(model, all_real, length, tokens) if shortens else None,
            pixels,
        )


def name_inputs(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a call by name; those of a dict that is the first argument among them."""
    named = dict(zip(positional_names(model), args, strict=False))
    first = args[0] if args else None
    return {**(first if isinstance(first, Mapping) else {}), **named, **kwargs}


def find_cache(named: Mapping[str, Any]) -> Any:
    """Returns the cache of keys and values among the arguments of a call; None without one.

    Args:
        named: The arguments by name. Releases of transformers name the cache differently.
    """
    caches = (value for value in named.values() if hasattr(value, "get_seq_length"))
    return next(caches, next((named[name] for name in _CACHES if named.get(name) is not None), None))


def without_special_mask(model: nn.Module, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns keyword arguments without the mask of special tokens, which is for `tokens=` and not for the model."""
    if SPECIAL_MASK not in kwargs or SPECIAL_MASK in positional_names(model):
        return kwargs
    return {name: value for name, value in kwargs.items() if name != SPECIAL_MASK}


def choose_tokens(
    tokens: Tokens | None, real: Tensor, token_ids: Tensor | None, special: Callable[[], Tensor]
) -> Tensor:
    """Returns the chosen tokens as a bool tensor `[N, T]`.

    Args:
        tokens: The choice of tokens; None for all.
        real: Whether each position is a token rather than padding: bool `[N, T]`.
        token_ids: The ids of the tokens `[N, T]`; None if they are not known.
        special: Returns whether each position is a special token: bool `[N, T]`.

    Raises:
        ReductionError: If a function returns no mask.
    """
    if tokens is None or tokens == "all":
        return real
    if tokens == "content":
        return real & ~special()
    places = real.cumsum(1) - 1  # the number of each token in its text, whichever side is padded
    counts = real.sum(1, keepdim=True)
    if tokens == "last":
        return real & (places == counts - 1)
    if isinstance(tokens, slice):
        rows = [torch.zeros(int(count), dtype=torch.bool, device=real.device) for count in counts.flatten().tolist()]
        chosen = torch.zeros_like(real)
        for row, mask, is_real in zip(rows, chosen, real, strict=True):
            row[tokens] = True
            mask[is_real] = row
        return chosen
    found = tokens(real if token_ids is None else token_ids, real)
    if not isinstance(found, Tensor) or found.dtype != torch.bool or found.shape != real.shape:
        shown = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ReductionError(f"tokens= must return a bool tensor {list(real.shape)}, not {shown}")
    return real & found


def select_tokens(feature: Tensor, layout: Layout, mask: Tensor) -> list[Tensor]:
    """Returns the chosen tokens of each item `[T, C]`: new tensors, with gradient.

    Args:
        feature: The feature.
        layout: Its layout, with one dimension of positions.
        mask: The chosen tokens, a bool tensor `[N, T]`.
    """
    rows = layout.tokens_first(feature)
    return [row[chosen] for row, chosen in zip(rows, mask, strict=True)]


def _real_tokens(named: Mapping[str, Any], masks: Sequence[str], paddings: Sequence[str]) -> Tensor | None:
    """Returns whether each position is a token rather than padding; None without a mask.

    Raises:
        ReductionError: If the mask is not `[N, T]`, such as one that is already causal.
    """
    for name in (*masks, *paddings):
        mask = named.get(name)
        if not isinstance(mask, Tensor):
            continue
        if mask.ndim != 2:
            raise ReductionError(
                f"{name} is {list(mask.shape)}: which positions are padding follows only from a mask [N, T]. Pass one, "
                "or a function as reduce="
            )
        if name in masks:
            return mask if mask.dtype == torch.bool else mask > 0
        # Of a float mask, -inf is added to the scores of padding.
        return ~(mask if mask.dtype == torch.bool else mask < 0)
    return None if masks is _DECODER[0] else _real_patches(named)


def _real_patches(named: Mapping[str, Any]) -> Tensor | None:
    """Returns whether each patch of an image, or each step of a sequence with a length, is real: bool `[N, T]`."""
    for name in _PATCHES:
        mask = named.get(name)
        if isinstance(mask, Tensor) and mask.ndim in (2, 3):
            return mask.flatten(1) > 0
    lengths = next((named[name] for name in _LENGTHS if isinstance(named.get(name), Tensor)), None)
    if lengths is None or lengths.ndim != 1 or lengths.is_floating_point():
        return None
    shapes = (value.shape for value in named.values() if isinstance(value, Tensor) and value.ndim > 1)
    sizes, longest = list(next(shapes, ()))[1:], int(lengths.max())
    # Channels may come before the steps, which are as many as the longest item has.
    count = longest if longest in sizes else max(sizes[:1], default=0)
    real: Tensor = torch.arange(count, device=lengths.device) < lengths.unsqueeze(1)
    return real


def _real_pixels(model: nn.Module, named: Mapping[str, Any], is_decoder: bool) -> PixelMask | None:
    """Returns the mask of the pixels of images; None without one."""
    mask = named.get(PIXELS)
    if not isinstance(mask, Tensor) or mask.ndim != 3:
        return None
    return PixelMask(mask > 0, not is_decoder and _encoder(model) is not None)


def _unclear_mask(named: Mapping[str, Any]) -> UnclearMask | None:
    """Returns the first mask that may be one of padding; None without one, or if all its values are equal."""
    for name in _UNCLEAR:
        mask = named.get(name)
        if isinstance(mask, Tensor) and mask.ndim == 2 and bool((mask != mask[:1, :1]).any()):
            return UnclearMask(name, tuple(mask.shape))
    return None


def _all_positions(token_ids: Tensor | None, named: Mapping[str, Any]) -> Tensor:
    like = token_ids
    if like is None:
        like = next((value for value in named.values() if isinstance(value, Tensor) and value.ndim > 1), None)
    if like is None:
        raise ReductionError("tokens= needs a model whose arguments are a batch of texts, such as input_ids [N, T]")
    return torch.ones(like.shape[:2], dtype=torch.bool, device=like.device)


def _special_tokens(model: nn.Module, named: Mapping[str, Any], token_ids: Tensor | None) -> Tensor:
    """Returns whether each position is a special token.

    Raises:
        ReductionError: If that is not known.
    """
    if isinstance(mask := named.get(SPECIAL_MASK), Tensor):
        return mask > 0
    special = _special_ids(getattr(model, "name_or_path", ""))
    if token_ids is None or special is None:
        raise ReductionError(
            "tokens='content' needs to know the special tokens: pass special_tokens_mask, which the tokenizer returns "
            "with return_special_tokens_mask=True, or a function of input_ids and attention_mask as tokens="
        )
    return torch.isin(token_ids, torch.tensor(special, device=token_ids.device, dtype=token_ids.dtype))


@lru_cache(maxsize=32)
def _special_ids(path: str) -> tuple[int, ...] | None:
    """Returns the ids of the special tokens of a checkpoint of transformers; None if its tokenizer is not here."""
    library: Any = sys.modules.get("transformers")  # a model of transformers has imported it
    if library is None or not path:
        return None
    try:
        tokenizer = library.AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, TypeError, AttributeError):
        return None
    return tuple(tokenizer.all_special_ids)


def _is_in_decoder(model: nn.Module, layer: str) -> bool:
    """Whether a layer of a model with encoder and decoder belongs to the decoder."""
    encoder = _encoder(model)
    return encoder is not None and not _is_inside(model, encoder, layer)


def is_in_encoder(model: nn.Module, layer: str) -> bool:
    """Whether a layer belongs to the encoder of a model that has a decoder too.

    Args:
        model: The model.
        layer: The path of the layer.
    """
    encoder = _encoder(model)
    return encoder is not None and _is_inside(model, encoder, layer)


def _encoder(model: nn.Module) -> nn.Module | None:
    """Returns the encoder of a model with encoder and decoder; None for others."""
    whole: Any = model
    if isinstance(model, nn.Transformer):
        return whole.encoder  # type: ignore[no-any-return]
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False) and hasattr(model, "get_encoder"):
        encoder = whole.get_encoder()
        return None if encoder is model else encoder
    return None


def _is_inside(model: nn.Module, outer: nn.Module, layer: str) -> bool:
    path = next((name for name, module in model.named_modules() if module is outer), None)
    return path is not None and (layer == path or layer.startswith(f"{path}."))


def _shortened(model: nn.Module, real: Tensor, length: int, tokens: Tokens | None) -> Tensor | None:
    """Returns the mask of the features of a speech model, whose convolutions shorten the input."""
    speech: Any = model
    shortened = int(speech._get_feat_extract_output_lengths(torch.tensor(real.shape[1])))
    if tokens not in (None, "all") or shortened != length:
        return None
    mask: Tensor = speech._get_feature_vector_attention_mask(length, real.long()) > 0
    return mask
