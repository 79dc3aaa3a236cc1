"""Images in tar files, read by an index of where each of them lies.

``sppcls shards`` writes them (:mod:`~sppcls.data.shards.write`), and ``data=shards`` trains from them
(:mod:`~sppcls.data.shards.source`). The tar files are WebDataset's: ``KEY.jpg`` and ``KEY.cls`` for each image. The
index (:mod:`~sppcls.data.shards.index`) makes any image readable by itself, so order, sharing among processes and exact
resume are those of a folder of files.
"""

from sppcls.data.shards.index import INDEX, Index, Shard
from sppcls.data.shards.source import ShardSource, shards
from sppcls.data.shards.write import write_shards

__all__ = ["INDEX", "Index", "Shard", "ShardSource", "shards", "write_shards"]


def __dir__() -> list[str]:
    return sorted(__all__)
