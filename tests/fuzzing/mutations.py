"""Bytes that were a good file once."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

from hypothesis import strategies as st

# Sizes and counts at which programs err.
ODD_NUMBERS = [0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1]


class File(bytes):
    """Bytes that are not shown in full."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


Change = Callable[[bytes], bytes]


def _place(data: bytes, share: float) -> int:
    """A place in the data; those near its start, where headers are, come up often."""
    return min(int(share * share * share * len(data)), max(0, len(data) - 1))


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """One change to bytes of any length."""
    kind = draw(st.sampled_from(["flip", "set", "number", "cut", "drop", "repeat", "swap", "insert"]))
    share = draw(st.floats(0, 1))
    if kind == "flip":
        bit = 1 << draw(st.integers(0, 7))
        return lambda b: (
            b[: _place(b, share)] + bytes([b[_place(b, share)] ^ bit]) + b[_place(b, share) + 1 :] if b else b
        )
    if kind in ("set", "insert"):
        new = draw(st.binary(min_size=1, max_size=8))
        taken = len(new) if kind == "set" else 0
        return lambda b: b[: _place(b, share)] + new + b[_place(b, share) + taken :]
    if kind == "number":
        number, form = draw(st.sampled_from(ODD_NUMBERS)), draw(st.sampled_from(["<H", ">H", "<I", ">I"]))
        size = struct.calcsize(form)
        new = struct.pack(form, number & ((1 << 8 * size) - 1))
        return lambda b: b[: _place(b, share)] + new + b[_place(b, share) + size :]
    if kind == "cut":
        return lambda b: b[: int(share * len(b))]
    count = draw(st.integers(1, 64))
    if kind == "drop":
        return lambda b: b[: _place(b, share)] + b[_place(b, share) + count :]
    if kind == "repeat":
        times = draw(st.integers(2, 50))
        return lambda b: b[: _place(b, share)] + b[_place(b, share) :][:count] * times + b[_place(b, share) :]
    other = draw(st.floats(0, 1))

    def swapped(b: bytes) -> bytes:
        first, second = sorted((_place(b, share), _place(b, other)))
        second = max(second, first + count)
        one, two = b[first : first + count], b[second : second + count]
        return b[:first] + two + b[first + count : second] + one + b[second + count :]

    return swapped


@st.composite
def mutated(draw: st.DrawFn, data: st.SearchStrategy[bytes]) -> bytes:
    """One of the files, changed in one to four places; the checksums of PNG files may be put right again."""
    found = draw(data)
    for change in draw(st.lists(changes(), min_size=1, max_size=4)):
        found = change(found)
    if found.startswith(b"\x89PNG") and draw(st.booleans()):
        found = with_checksums(found)
    return File(found)


@st.composite
def mutated_zip(draw: st.DrawFn, data: bytes) -> bytes:
    """A zip file with one member changed and its checksum right, so that whoever reads the member has to cope."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = draw(st.sampled_from(sorted(members)))
    if draw(st.integers(0, 9)) == 0:
        del members[chosen]
    else:
        members[chosen] = draw(mutated(st.just(members[chosen])))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return File(packed.getvalue())


def with_checksums(png: bytes) -> bytes:
    """A PNG file with the checksum of each chunk put right, as far as chunks can be made out."""
    fixed, place = bytearray(png), 8
    while place + 12 <= len(fixed):
        length = int.from_bytes(fixed[place : place + 4], "big")
        end = place + 8 + length
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = struct.pack(">I", zlib.crc32(fixed[place + 4 : end]))
        place = end + 4
    return bytes(fixed)
