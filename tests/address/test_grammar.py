"""The text of an address is read exactly, or refused with the place that cannot be read."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from torch_featurelayer import AddressError
from torch_featurelayer.address import PORTS, Address, parse

names = st.from_regex(r"[A-Za-z0-9_\-]+", fullmatch=True)
addresses = st.builds(
    Address,
    path=st.lists(names, max_size=4).map(".".join),
    call=st.none() | st.integers(-99, 99) | st.just("*"),
    port=st.sampled_from(PORTS),
    index=st.lists(st.integers(-99, 99) | st.text(max_size=8), max_size=3).map(tuple),
)
operations = st.builds(
    replace,
    addresses,
    operation=st.sampled_from(["add", "relu", "softmax", "scaled_dot_product_attention"]),
    number=st.none() | st.integers(0, 99),
)
experts = st.builds(
    replace,
    addresses,
    port=st.sampled_from(["output", "input"]),
    operation=st.just("expert"),
    number=st.integers(0, 99),
)

odd_paths = st.builds(
    replace, addresses, path=st.text(st.characters(codec="ascii", exclude_characters="\n\r"), max_size=12)
)


@given(addresses | operations | experts | odd_paths.filter(lambda address: "." not in address.path))
@example(Address("a b:c@d[e]", 1, "input"))
@example(Address("", None, "input", ("it's",)))
def test_text_and_address_are_one(address: Address) -> None:
    """Writing an address and reading it again gives the same address."""
    assert parse(str(address)) == address


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes the reader fail in another way, and the place it names is in the text."""
    try:
        parse(text)
    except AddressError as error:
        assert 0 <= error.position <= len(text)
        assert error.text == text


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", Address("")),
        ("layer1.0.conv2", Address("layer1.0.conv2")),
        ("layer1.0.relu@1", Address("layer1.0.relu", 1)),
        ("relu@-1:input", Address("relu", -1, "input")),
        ("relu@*", Address("relu", "*")),
        ("fc:grad_input", Address("fc", None, "grad_input")),
        ("encoder:output[0]", Address("encoder", None, "output", (0,))),
        ("encoder[0]['hidden'][last]", Address("encoder", None, "output", (0, "hidden", "last"))),
        (":input", Address("", None, "input")),
        ("'a b:c'@1:input", Address("a b:c", 1, "input")),
        ('"it\'s"[0]', Address("it's", None, "output", (0,))),
        ("layer*.0", Address("layer*.0")),
        ("layer1.0:add", Address("layer1.0", operation="add")),
        ("block@2:relu.1:input[0]", Address("block", 2, "input", (0,), "relu", 1)),
        (":softmax:grad_output", Address("", None, "grad_output", (), "softmax")),
        ("attn:attention_weights", Address("attn", operation="attention_weights")),
        ("mlp:expert[5]", Address("mlp", operation="expert", number=5)),
        ("mlp@1:expert[0]:input", Address("mlp", 1, "input", operation="expert", number=0)),
        ("mlp:router_logits[0]", Address("mlp", index=(0,), operation="router_logits")),
    ],
)
def test_reads(text: str, address: Address) -> None:
    """Each part is optional, the output of the last call is the default."""
    assert parse(text) == address


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("layer1@", 7, "expected a call after '@'"),
        ("layer1@first", 7, "expected a call after '@'"),
        ("layer1:", 7, "expected a port"),
        ("layer1:outptu", 7, "did you mean 'output'?"),
        ("layer1:grad_inptu", 7, "did you mean 'grad_input'?"),
        ("layer1:output[", 14, "expected a position"),
        ("layer1:output[0", 15, "']' is missing"),
        ("layer1:output]", 13, "']' is not expected here"),
        ("layer1..conv", 6, "a name is missing"),
        ("layer1.", 6, "a name is missing"),
        (".layer1", 0, "a name is missing"),
        ("layer 1", 5, "must be quoted"),
        ("layer1:add.", 11, "expected the number of an operation"),
        ("layer1:add:outputs", 11, "no port 'outputs' (did you mean 'output'?)"),
        ("layer1:add:relu", 11, "no port 'relu'; the ports are"),
        ("attn:attention_weights:input", 28, "it has only an output"),
        ("mlp:expert[5]:grad_output", 25, "it has no grad_output"),
        ("mlp:router_logits:input", 23, "it has no input"),
        ("mlp:expert", 10, "expected the number of an expert"),
        ("mlp:expert[x]", 11, "expected the number of an expert"),
        ("mlp:expert[5", 12, "']' is missing"),
        ("a@1@2", 3, "'@' is not expected here"),
    ],
)
def test_refuses(text: str, position: int, says: str) -> None:
    """The error is a ValueError that puts a caret under the place."""
    with pytest.raises(AddressError) as caught:
        parse(text)
    error = caught.value
    assert isinstance(error, ValueError)
    assert (error.text, error.position) == (text, position)
    assert says in str(error)
    assert str(error).splitlines()[1:3] == [f"  {text}", "  " + " " * position + "^"]
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301


def test_a_step_may_begin_with_an_underscore() -> None:
    assert parse("layer[_hidden][x_][-1]").index == ("_hidden", "x_", -1)


def test_an_address_is_frozen() -> None:
    """It is a key of dicts, and small: nothing can be put into it."""
    address = parse("layer1.0:add")
    with pytest.raises(AttributeError):
        address.path = "other"  # type: ignore[misc]
    assert not hasattr(address, "__dict__")
    assert hash(address) == hash(parse("layer1.0:add"))


def test_what_goes_without_saying_is_not_written() -> None:
    assert str(Address("fc")) == "fc"
    assert str(Address("fc", None, "input")) == "fc:input"


def test_an_address_knows_globs_and_gradients() -> None:
    assert [parse(text).is_glob for text in ("layer*.0", "layer?", "layer1")] == [True, True, False]
    assert [parse(text).is_gradient for text in ("fc:grad_input", "fc:grad_output", "fc:input")] == [True, True, False]


@pytest.mark.parametrize("token", [r"'\x'", r"'\u12'", "'\ud800'"], ids=ascii)
def test_strings_that_are_not_valid(token: str) -> None:
    for text in (token, f"layer[{token}]"):
        with pytest.raises(AddressError, match="is not a valid string"):
            parse(text)
