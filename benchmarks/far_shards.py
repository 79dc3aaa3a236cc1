"""Shards behind a server that takes its time: images a second, asked for one by one and a batch together.

    python benchmarks/far_shards.py [--pauses 0 0.02 0.1] [--batches 6]

Shards of 500 images of about 40 kB behind a server of this machine, which waits before each answer as one far away would. One
process reads, in the random order of a training, each image by itself, and all of a batch of 64 together as ``data=shards``
does. The server shares the process, so what it sends is a lower bound.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from shard_photos import serving  # type: ignore[import-not-found]

BATCH = 64


def write(place: Path) -> Path:
    from sppcls.data.folder import folder_sources
    from sppcls.data.shards import write_shards

    draw = np.random.default_rng(0)
    coarse = Image.fromarray(draw.integers(0, 255, (24, 32, 3), np.uint8))
    smooth = np.asarray(coarse.resize((341, 256), Image.Resampling.BICUBIC), np.float32)
    for split, count in (("train", 500), ("val", 4)):
        for i in range(count):
            pixels = smooth + draw.normal(0, 12, (256, 341, 1))
            folder = place / "photos" / split / f"class{i % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.jpg", quality=90)
    splits = folder_sources(place / "photos")
    write_shards({"train": splits.train, "val": splits.val}, place / "shards", shard_bytes=5_000_000)  # type: ignore[dict-item]
    return place / "shards"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pauses", type=float, nargs="*", default=[0.0, 0.02, 0.1])
    parser.add_argument("--batches", type=int, default=6)
    args = parser.parse_args()
    from sppcls.data.sampler import permutation
    from sppcls.data.shards import shards
    from sppcls.data.shards.source import ShardSource

    print(
        "| pause of the server, ms | one by one, images/s | a batch of 64 together, images/s | ratio |\n|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as place:
        folder = write(Path(place))
        order = permutation(500, 0, 0).tolist()
        for pause in args.pauses:
            with serving(folder, pause=pause) as (address, _):
                source = shards(address).train
                assert isinstance(source, ShardSource)
                source.data(order[-1])  # the connection
                rates = {}
                for together in (False, True):
                    wanted = order[: BATCH * args.batches] if together else order[:BATCH]
                    started = time.perf_counter()
                    for at in range(0, len(wanted), BATCH):
                        if together:
                            source.fetch(wanted[at : at + BATCH])
                        for index in wanted[at : at + BATCH]:
                            source.data(index)
                    rates[together] = len(wanted) / (time.perf_counter() - started)
                print(
                    f"| {pause * 1e3:.0f} | {rates[False]:.0f} | {rates[True]:.0f} | {rates[True] / rates[False]:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
