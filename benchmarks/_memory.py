"""How much memory a call needs."""

from __future__ import annotations

from collections.abc import Callable

import torch


def peak_bytes(call: Callable[[], object]) -> int:
    """The most memory PyTorch held at once during a call, by its own allocator events."""
    call()
    with torch.profiler.profile(profile_memory=True) as profile:
        result = call()
    del result
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak
