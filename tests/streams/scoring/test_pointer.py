"""JSON Pointers as RFC 6901 gives them, and the quick reader that must agree with the careful one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farshore.streams.scoring.pointer import MISSING, Pointer, siblings

# RFC 6901, section 5.
DOCUMENT = json.loads(
    r"""
    {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5,
     "k\"l": 6, " ": 7, "m~n": 8}
    """
)
EXAMPLES = [
    ("", DOCUMENT),
    ("/foo", ["bar", "baz"]),
    ("/foo/0", "bar"),
    ("/", 0),
    ("/a~1b", 1),
    ("/c%d", 2),
    ("/e^f", 3),
    ("/g|h", 4),
    ("/i\\j", 5),
    ('/k"l', 6),
    ("/ ", 7),
    ("/m~0n", 8),
]


@pytest.mark.parametrize(("text", "value"), EXAMPLES)
def test_the_examples_of_rfc_6901_are_followed(text: str, value: object) -> None:
    assert Pointer(text).follow(DOCUMENT) == value
    assert Pointer(text).getter()(DOCUMENT) == value


def test_an_escaped_tilde_before_a_one_is_no_slash() -> None:
    assert Pointer("/~01").follow({"~1": "right", "/": "wrong"}) == "right"


@pytest.mark.parametrize(
    "text",
    [
        "/bar",
        "/foo/2",
        "/foo/-",
        "/foo/-1",
        "/foo/00",
        "/foo/01",
        "/foo/1.0",
        "/foo/x",
        "/foo/0/0",
        "/a~1b/c",
    ],
)
def test_what_stands_nowhere_is_missing(text: str) -> None:
    assert Pointer(text).follow(DOCUMENT) is MISSING


def test_a_json_null_is_not_missing() -> None:
    assert Pointer("/a").follow({"a": None}) is None


def test_an_index_reaches_into_an_array_and_never_into_a_string() -> None:
    assert Pointer("/a/0").follow({"a": "xyz"}) is MISSING
    with pytest.raises(TypeError):
        Pointer("/a/0").getter()({"a": "xyz"})


def test_a_token_of_digits_may_also_name_a_member() -> None:
    assert Pointer("/0").follow({"0": "member"}) == "member"


TOKENS = st.sampled_from(["a", "b", "0", "1", "2", "", "a/b", "m~n"])
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TOKENS, inner, max_size=4),
    max_leaves=20,
)


@given(DOCUMENTS, st.lists(TOKENS, max_size=4))
def test_the_quick_reader_gives_what_the_careful_one_gives_or_raises(
    document: object, tokens: list[str]
) -> None:
    pointer = Pointer("".join("/" + token.replace("~", "~0").replace("/", "~1") for token in tokens))
    assert pointer.tokens == tuple(tokens)
    try:
        quick = pointer.getter()(document)
    except (KeyError, IndexError, TypeError):
        return
    assert quick is pointer.follow(document)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["/r/a", "/r/b"], ("/r", ("a", "b"))),
        (["/a", "/b~1c"], ("", ("a", "b/c"))),
        (["/r/a", "/s/b"], (None, ("a", "b"))),
        (["/r/0", "/r/1"], (None, ("0", "1"))),
        ([""], (None, ())),
    ],
)
def test_places_that_are_members_of_one_object_are_recognised(
    texts: list[str], expected: tuple[str | None, tuple[str, ...]]
) -> None:
    assert siblings(tuple(Pointer(text) for text in texts)) == expected
