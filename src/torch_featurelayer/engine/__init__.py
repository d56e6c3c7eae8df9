"""The capture engine: hooks that record, keep and replace values in the forward passes of a model."""

from ._torch_private import HAS_COPY_ON_WRITE
from .call_selector import CallSelector, call_selectors
from .captured import CapturedValue, GradientHandle
from .copy_on_write import ClonePolicy
from .forward_pass import NOT_RUN, EarlyStop, ForwardPass, run_with_capture
from .interventions import EditValue, InterventionSet
from .options import Options
from .profile import profile_model
from .recorder import ActivationRecorder, layout_finders
from .signature import input_signature
from .token_masks import SPECIAL_MASK, TokenMasks, Tokens

__all__ = [
    "HAS_COPY_ON_WRITE",
    "NOT_RUN",
    "SPECIAL_MASK",
    "ActivationRecorder",
    "CallSelector",
    "CapturedValue",
    "ClonePolicy",
    "EarlyStop",
    "EditValue",
    "ForwardPass",
    "GradientHandle",
    "InterventionSet",
    "Options",
    "TokenMasks",
    "Tokens",
    "call_selectors",
    "input_signature",
    "layout_finders",
    "profile_model",
    "run_with_capture",
]
