"""The capture engine: hooks that record, keep and replace values in the forward passes of a model."""

from ._torch_private import HAS_COPY_ON_WRITE, has_compiled_code, in_function_transform
from .call_selector import CallSelector, call_selectors
from .captured import CapturedValue, GradientHandle
from .copy_on_write import ClonePolicy, lazy_copy
from .dynamo import force_eager
from .feature_masks import TokenMask
from .forward_pass import NOT_RUN, EarlyStop, ForwardPass, run_with_capture
from .hooks import register
from .interventions import EditValue, InterventionSet
from .operation_names import ATTRIBUTES as PROPERTIES
from .operation_names import operation_name
from .options import Options
from .profile import profile_model
from .recorder import ActivationRecorder, ForwardTracker, layout_finders
from .scope import Scope, is_transformed
from .signature import input_signature
from .token_masks import (
    SPECIAL_MASK,
    TokenMasks,
    Tokens,
    choose_tokens,
    find_cache,
    is_in_encoder,
    name_inputs,
)
from .value_reads import Counted

__all__ = [
    "HAS_COPY_ON_WRITE",
    "NOT_RUN",
    "PROPERTIES",
    "SPECIAL_MASK",
    "ActivationRecorder",
    "CallSelector",
    "CapturedValue",
    "ClonePolicy",
    "Counted",
    "EarlyStop",
    "EditValue",
    "ForwardPass",
    "ForwardTracker",
    "GradientHandle",
    "InterventionSet",
    "Options",
    "Scope",
    "TokenMask",
    "TokenMasks",
    "Tokens",
    "call_selectors",
    "choose_tokens",
    "find_cache",
    "force_eager",
    "has_compiled_code",
    "in_function_transform",
    "input_signature",
    "is_in_encoder",
    "is_transformed",
    "layout_finders",
    "lazy_copy",
    "name_inputs",
    "operation_name",
    "profile_model",
    "register",
    "run_with_capture",
]
