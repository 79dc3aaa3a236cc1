"""What an index of shards keeps, and what it may not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sppcls.data.shards.index import MAX_IMAGE, Index, Records, Shard, read_index
from sppcls.errors import DataError

# Of an image: shard, first byte, bytes, checksum, class, name. The second ends where its shard ends.
FIRST, LAST = (0, 0, 1, 0, 0, "a.jpg"), (1, 70, 30, 2**32 - 1, 1, "b/\udce4.jpg")
NONE = Records.of(dict.fromkeys(("shard", "offset", "size", "crc32", "label"), ()), [])


def records(*rows: tuple[int, int, int, int, int, str]) -> Records:
    return Records.from_rows([(*row[:4], row[5]) for row in rows], [row[4] for row in rows])


def written(folder: Path, *rows: tuple[int, int, int, int, int, str], **more: Any) -> bytes:
    given = {"classes": ["a", "b"], "shards": [Shard("0.tar", 50, 1, "x"), Shard("d/1.tar", 100, 1, "y")]}
    splits = {"train": records(FIRST, LAST, *rows)}
    return Index(**{**given, "splits": splits, **more}).write(folder).read_bytes()  # type: ignore[arg-type]


def test_an_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    val = records(FIRST)
    data = written(tmp_path, splits={"train": records(FIRST, LAST), "val": val}, held_out=True,
                   made_of={"shorter_side": 256})  # fmt: skip
    found = read_index(data, "place")
    assert (found.classes, found.held_out, found.made_of) == (["a", "b"], True, {"shorter_side": 256})
    assert found.shards == [Shard("0.tar", 50, 1, "x"), Shard("d/1.tar", 100, 1, "y")]
    assert {role: len(rows) for role, rows in found.splits.items()} == {"train": 2, "val": 1}
    rows = found.splits["train"]
    columns = (rows.shard, rows.offset, rows.size, rows.crc32, rows.label)
    assert list(zip(*(column.tolist() for column in columns), rows.names, strict=True)) == [FIRST, LAST]


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ((0, 0, 51, 0, 0, ""), "train has an image that ends behind its shard"),
        ((0, 1, 50, 0, 0, ""), "train has an image that ends behind its shard"),
        ((1, 2**62, 9, 0, 0, ""), "train has an image that ends behind its shard"),
        ((0, -1, 9, 0, 0, ""), "train has an image of impossible size"),
        ((0, 0, 0, 0, 0, ""), "train has an image of impossible size"),
        ((2, 0, MAX_IMAGE + 1, 0, 0, ""), "train has an image of impossible size"),
        ((-1, 0, 9, 0, 0, ""), "train has images in shard 1 of 3"),
        ((3, 0, 9, 0, 0, ""), "train has images in shard 3 of 3"),
        ((0, 0, 9, 0, -1, ""), "train has label -1, for 2 classes"),
        ((0, 0, 9, 0, 2, ""), "train has label 2, for 2 classes"),
    ],
)
def test_an_image_that_cannot_be_there_is_refused(row: Any, line: str, tmp_path: Path) -> None:
    shards = [Shard("0.tar", 50, 1, ""), Shard("1.tar", 100, 1, ""), Shard("2.tar", 2**40, 0, "")]
    with pytest.raises(DataError, match=f"^place: damaged .{line}"):
        read_index(written(tmp_path, row, shards=shards), "place")
    read_index(written(tmp_path, (2, 0, MAX_IMAGE, 0, 0, ""), shards=shards), "place")


@pytest.mark.parametrize(
    "file", ["/a.tar", "../a.tar", "a/../../b.tar", "a/..", "C:a.tar", "a\\..\\b.tar", "http://x/a.tar"]
)
def test_a_shard_elsewhere_is_refused(file: str, tmp_path: Path) -> None:
    shards = [Shard("..a.tar", 50, 1, ""), Shard(file, 100, 1, "")]
    with pytest.raises(DataError, match="is not below its folder"):
        read_index(written(tmp_path, shards=shards), "place")
    shards[1] = Shard("a/..b.tar", 100, 1, "")
    read_index(written(tmp_path, shards=shards), "place")


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"splits": {"val": records(FIRST)}}, "no training images"),
        ({"splits": {"train": records(FIRST), "test": NONE}}, "no image in test"),
        ({"shards": [Shard("0.tar", -1, 1, "")]}, "shard '0.tar'"),
        ({"shards": [Shard(5, 1, 1, "")]}, "shard 5"),  # type: ignore[arg-type]
        ({"shards": [Shard("0.tar", "9", 1, "")]}, "shard '0.tar'"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(more: Any, line: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"^place: damaged .{line}"):
        read_index(written(tmp_path, **more), "place")
