"""TIFF files byte by byte, of kinds that Pillow does not write."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

Tag = tuple[int, int, Sequence[int]]
_SIZE = {1: 1, 3: 2, 4: 4}
_CODE = {1: "B", 3: "H", 4: "I"}


def tiff(
    values: np.ndarray,
    *,
    bits: int,
    photometric: int = 1,
    sample_format: int = 1,
    planes: int = 1,
    compression: int = 1,
    extra: Sequence[int] | None = None,
    big: bool = False,
    order: str = "<",
    more: Sequence[Tag] = (),
) -> bytes:
    """An uncompressed file of one strip (or of one per plane) from values (H, W) or (H, W, bands)."""
    array = values[..., None] if values.ndim == 2 else values
    height, width, bands = array.shape
    array = array.transpose(2, 0, 1) if planes == 2 else array
    raw = np.ascontiguousarray(array).astype(array.dtype.newbyteorder(order)).tobytes()
    strips = [len(raw) // bands] * bands if planes == 2 else [len(raw)]
    tags: list[Tag] = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [bits] * bands), (259, 3, [compression]),
        (262, 3, [photometric]), (277, 3, [bands]), (278, 4, [height]), (279, 4, strips), (284, 3, [planes]),
        (339, 3, [sample_format] * bands), (273, 4, [0] * len(strips)), *more,
    ]  # fmt: skip
    if extra is not None:
        tags.append((338, 3, extra))
    tags.sort(key=lambda tag: tag[0])
    head, count, entry, inline = (16, 8, 20, 8) if big else (8, 2, 12, 4)
    after = head + count + entry * len(tags) + inline
    outside = sum(length for _, kind, v in tags if (length := _SIZE[kind] * len(v)) > inline)
    entries = blob = b""
    for number, kind, numbers in tags:
        if number == 273:
            numbers = [after + outside + sum(strips[:i]) for i in range(len(strips))]
        body = struct.pack(f"{order}{len(numbers)}{_CODE[kind]}", *numbers)
        entries += struct.pack(order + ("HHQ" if big else "HHI"), number, kind, len(numbers))
        if len(body) > inline:
            entries += struct.pack(order + ("Q" if big else "I"), after + len(blob))
            blob += body
        else:
            entries += body.ljust(inline, b"\0")
    start = struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    number_of_tags = struct.pack(order + ("Q" if big else "H"), len(tags))
    return (b"II" if order == "<" else b"MM") + start + number_of_tags + entries + bytes(inline) + blob + raw
