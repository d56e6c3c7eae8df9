"""Reductions, against the same sums written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import torch_featurelayer as tl
from torch_featurelayer._layout import Layout
from torch_featurelayer._reduce import Reducer, make_reducer

MAP, TOKENS, CLIP = torch.randn(2, 3, 4, 5), torch.randn(2, 7, 3), torch.randn(2, 3, 2, 4, 5)


@pytest.mark.parametrize(
    ("feature", "layout", "rows"),
    [
        (MAP, "NCHW", MAP.reshape(2, 3, -1)),
        (MAP, "NHWC", MAP.permute(0, 3, 1, 2).reshape(2, 5, -1)),
        (MAP, "CNHW", MAP.permute(1, 0, 2, 3).reshape(3, 2, -1)),
        (TOKENS, "NTC", TOKENS.transpose(1, 2)),
        (TOKENS, "NCT", TOKENS),
        (TOKENS, "TNC", TOKENS.permute(1, 2, 0)),
        (CLIP, "NCTHW", CLIP.flatten(2)),
        (CLIP, "NTHWC", CLIP.movedim(-1, 1).flatten(2)),
        (CLIP, "NTCHW", CLIP.movedim(2, 1).flatten(2)),
    ],
)
def test_mean_and_max_are_over_positions(feature: Tensor, layout: str, rows: Tensor) -> None:
    """One value for each item and channel, whatever the order of the dimensions."""
    averages = torch.stack([torch.stack([row.sum() / len(row) for row in sample]) for sample in rows])
    peaks = torch.stack([torch.stack([max(row) for row in sample]) for sample in rows])
    torch.testing.assert_close(Reducer("mean")(feature, Layout.parse(layout)), averages)
    assert torch.equal(Reducer("max")(feature, Layout.parse(layout)), peaks)


def test_vectors_are_kept() -> None:
    vectors = torch.randn(2, 3)
    assert Reducer("mean")(vectors, None) is vectors
    assert Reducer("max")(vectors, None) is vectors


def test_cls_is_the_first_token_in_memory_of_its_own() -> None:
    tokens = TOKENS.clone()
    first = Reducer("cls")(tokens, Layout.parse("NTC"))
    assert torch.equal(first, TOKENS[:, 0])
    tokens.zero_()
    assert torch.equal(first, TOKENS[:, 0])
    assert torch.equal(Reducer("cls")(TOKENS, Layout.parse("TNC")), TOKENS[0])
    for feature, layout in ((MAP, "NCHW"), (TOKENS, "NCT")):
        with pytest.raises(tl.LayoutError, match="'cls' takes the first token of"):
            Reducer("cls")(feature, Layout.parse(layout))


def test_flatten() -> None:
    assert torch.equal(Reducer("flatten")(MAP, Layout.parse("NCHW"))[1], MAP[1].flatten())
    assert torch.equal(Reducer("flatten")(TOKENS, Layout.parse("TNC"))[1], TOKENS[:, 1].flatten())
    assert Reducer("flatten")(torch.tensor(1.0), None).ndim == 0


def test_integers_have_no_mean() -> None:
    with pytest.raises(tl.ReductionError, match="'mean' is not defined for int64 values"):
        Reducer("mean")(torch.ones(2, 3, 4, dtype=torch.int64), Layout.parse("NCT"))
    assert Reducer("max")(torch.ones(2, 3, 4, dtype=torch.int64), Layout.parse("NCT")).shape == (2, 3)


def test_functions_take_the_tensor_alone_and_return_one() -> None:
    assert torch.equal(make_reducer(torch.relu)(MAP, None), MAP.relu())
    with pytest.raises(tl.ReductionError, match="must return a tensor, not a tuple"):
        make_reducer(lambda feature: (feature,))(MAP, None)


def test_an_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"no reduction 'maen'.*Did you mean 'mean'"):
        make_reducer("maen")  # type: ignore[arg-type]
