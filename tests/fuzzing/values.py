"""Values of every shape, for places where one shape is expected."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

ODD_TEXT = st.one_of(
    st.sampled_from(["", " ", ".", "..", "/", "~", "null", "true", "1", "1e5", "nan", "a/b", "a" * 300, "\x00", "\n",
                     "\ud800", "\u202e", "${seed}", "${nope}", "${oc.env:HOME}", "???", "{}", "%s", "'", '"', "\\"]),
    st.text(max_size=12),
)  # fmt: skip

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.sampled_from([2**31, -(2**31), 2**63, 2**64, 10**30, -(10**30)]),
    st.floats(allow_nan=True, allow_infinity=True),
    ODD_TEXT,
)

VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=4),
    st.lists(st.lists(SCALARS, max_size=3), max_size=3),
    st.dictionaries(st.one_of(ODD_TEXT, st.integers(-1, 3)), SCALARS, max_size=3),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something lies in nested dicts and lists, from the outside in."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


@st.composite
def misshapen(draw: st.DrawFn, good: Any, values: st.SearchStrategy[Any] = VALUES) -> Any:
    """A copy of nested dicts and lists in which up to three things are others, gone, or new."""
    found = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        known = places(found)
        if not known:
            break
        *outer, last = draw(st.sampled_from(known))
        place = found
        for key in outer:
            place = place[key]
        what = draw(st.sampled_from(["other", "other", "other", "gone", "new"]))
        if what == "gone":
            del place[last]
        elif what == "new" and isinstance(place, dict):
            place[draw(ODD_TEXT)] = draw(values)
        else:
            place[last] = draw(values)
    return found
