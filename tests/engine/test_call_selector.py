"""Which calls are wanted, as a table."""

from __future__ import annotations

import pytest
from torch import nn

from torch_featurelayer.address import Call, resolve
from torch_featurelayer.engine.call_selector import CallSelector, call_selectors


@pytest.mark.parametrize(
    ("call", "expected", "wanted", "last"),
    [
        (None, None, [0, 1, 2, 3], None),
        (None, 1, [0], 0),
        (None, 3, [0, 1, 2], 2),
        (None, 0, [], -1),
        (0, None, [0], 0),
        (2, None, [2], 2),
        (2, 3, [2], 2),
        (-1, None, [0, 1, 2, 3], None),
        (-1, 3, [0, 1, 2], 2),
        (-2, 3, [0, 1], 1),
        (-5, 3, [0], 0),
        ("*", None, [0, 1, 2, 3], None),
        ("*", 2, [0, 1], 1),
    ],
)
def test_wants(call: Call, expected: int | None, wanted: list[int], last: int | None) -> None:
    selector = CallSelector(call, expected)
    assert [number for number in range(4) if selector.wants(number)] == wanted
    assert selector.last == last


@pytest.mark.parametrize(
    ("call", "expected", "seen", "calls", "selected"),
    [
        (None, None, 3, 3, [0, 1, 2]),
        (None, 2, 2, 2, [0, 1]),
        (1, None, 3, 3, [1]),
        (1, None, 1, 1, []),
        (-1, None, 3, 3, [2]),
        (-3, None, 3, 3, [0]),
        (-4, None, 3, 3, []),
        # Stopped after the call that was the second to last when the calls were counted.
        (-2, 3, 2, 2, [1]),
        # Fewer calls than when the calls were counted: the forward pass did not stop.
        (-1, 3, 2, 2, [1]),
        (-1, 3, 1, 1, [0]),
        # An operation that the third call of its module did not run.
        (-2, None, 2, 3, [1]),
        (-1, None, 2, 3, []),
    ],
)
def test_selects(call: Call, expected: int | None, seen: int, calls: int, selected: list[int]) -> None:
    selector = CallSelector(call, expected)
    assert [number for number in range(seen) if selector.selects(number, seen, calls)] == selected


@pytest.mark.parametrize(("call", "count"), [(None, 1), (0, 1), (3, 1), (-1, 1), (-4, 4), ("*", 1)])
def test_how_many_of_the_latest_are_kept(call: Call, count: int) -> None:
    assert CallSelector(call).from_end == count
    assert CallSelector(call).keeps_all is (call == "*")


def test_a_selector_for_each_request() -> None:
    """With the numbers of calls if they are known."""
    requests = resolve(nn.Sequential(nn.ReLU()), ["0", "0@-2"])
    assert [(each.call, each.last) for each in call_selectors(requests)] == [(None, None), (-2, None)]
    assert [(each.call, each.last) for each in call_selectors(requests, [2, 3])] == [(None, 1), (-2, 1)]
