"""One call at a time; of those that wait, the newest of each kind."""

from __future__ import annotations

import asyncio
import threading

import pytest

from torch_featurelayer.explorer.queue import ModelThread, StaleError


def test_the_newest_of_a_kind_counts() -> None:
    """While the first runs, the second and third of its kind wait: the second is dropped. Another kind is not."""
    gate, made = threading.Event(), []

    def call(name: str) -> str:
        if name == "first":
            gate.wait(5)
        made.append((name, threading.current_thread().name))
        return name

    async def ask() -> list[object]:
        thread = ModelThread()
        asked = [asyncio.ensure_future(thread.run("probe", lambda: call("first")))]
        await asyncio.sleep(0.05)
        for kind, name in (("probe", "second"), ("layer", "other"), ("probe", "third")):
            asked.append(asyncio.ensure_future(thread.run(kind, lambda name=name: call(name))))  # type: ignore[misc]
        await asyncio.sleep(0.05)
        gate.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        thread.close()
        return answers

    first, second, other, third = asyncio.run(ask())
    assert (first, other, third) == ("first", "other", "third")
    assert isinstance(second, StaleError)
    assert [name for name, _ in made] == ["first", "other", "third"]
    assert len({thread for _, thread in made}) == 1


def test_a_request_that_was_overtaken_is_stale() -> None:
    """The number of a request counts, not the order in which requests arrive."""

    async def ask() -> list[object]:
        thread = ModelThread()
        calls = [thread.run("probe", lambda name=name: name, number) for name, number in (("newer", 5), ("older", 4))]  # type: ignore[misc]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        thread.close()
        return answers

    newer, older = asyncio.run(ask())
    assert newer == "newer"
    assert isinstance(older, StaleError)


def test_an_error_reaches_who_asked() -> None:
    async def ask() -> None:
        await ModelThread().run("probe", lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask())
