"""What a data set costs as it grows: start-up, memory and time per image, for shards and for class folders.

    python benchmarks/data_scale.py [--counts 1000 100000 1000000] [--folders 1000 100000] [--place FOLDER]

The images are all the same tiny JPEG under names of their own: in shards as often as needed (about 2 kB each), in folders
as hard links. Every measurement is a process of its own. What is measured:

- found: from the config to the images of the run (``data.check`` off for folders, whose every header it would read);
- memory: what the process holds more afterwards, and with the order of an epoch and the classes, divided by the images;
- first step: from the start of the process to the end of the first training step, with a small network, imports included;
- an image: reading and decoding one in the order of training, and the work of the sampler alone.

Seconds are those of the processor, which others on the machine do not lengthen, but where the table says "clock".
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 1000
_LINKS = 50_000  # of one file, which file systems limit
_IMAGES = 2000  # that are read
_IN_A_SHARD = 10_000


def jpeg() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(file, "JPEG")
    return file.getvalue()


def write_shards_of(place: Path, count: int) -> Path:
    """Shards with ``count`` training images and 1,000 of validation, in an order in which classes are mixed."""
    from sppcls.data.shards import Index, Shard
    from sppcls.data.shards.index import Records

    data, sample = jpeg(), io.BytesIO()
    place.mkdir(parents=True)
    with tarfile.open(fileobj=sample, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in (("0.jpg", data), ("0.cls", b"0")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        length = tar.offset
    shards: list[Shard] = []
    splits = {}
    for role, images in (("train", count), ("val", 1000)):
        label = np.sort(np.arange(images) % CLASSES)
        at = np.random.default_rng(0).permutation(images)
        columns = {"shard": at // _IN_A_SHARD + len(shards), "offset": at % _IN_A_SHARD * length + 512,
                   "size": np.full(images, len(data)), "crc32": np.full(images, zlib.crc32(data)), "label": label}  # fmt: skip
        splits[role] = Records.of(
            columns, [f"n{c:08d}/n{c:08d}_{i}.JPEG" for i, c in enumerate(label.tolist())]
        )
        for number, first in enumerate(range(0, images, _IN_A_SHARD)):
            there = min(_IN_A_SHARD, images - first)
            path = place / f"{role}-{number:06d}.tar"
            path.write_bytes(sample.getvalue()[:length] * there + bytes(1024))
            shards.append(Shard(path.name, path.stat().st_size, there, ""))
    Index([f"n{c:08d}" for c in range(CLASSES)], shards, splits).write(place)
    return place


def write_folder_of(place: Path, count: int) -> Path:
    data = jpeg()
    for split, images in (("train", count), ("val", 1000)):
        for c in range(CLASSES):
            (place / split / f"n{c:08d}").mkdir(parents=True)
        for i in range(images):
            if i % _LINKS == 0:
                first = place / f"{split}{i}.bin"
                first.write_bytes(data)
            os.link(first, place / split / f"n{i % CLASSES:08d}" / f"n{i % CLASSES:08d}_{i}.JPEG")
    return place


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def words_of(kind: str, root: str) -> list[str]:
    check = [] if kind == "shards" else ["data.check=false"]
    return [f"data={kind}", f"data.root={root}", *check, "data.workers=0", "data.batch_size=32",
            "sizes=single_224", "sizes.sizes=[64]", "pyramid=l321", "backbone.width=0.0625", "head.hidden=[16]",
            "trainer.accelerator=cpu", "trainer.threads=1", "log.images=false"]  # fmt: skip


def measure_parts(kind: str, root: str) -> dict[str, Any]:
    from sppcls import compose
    from sppcls.config.build import load_sources, make_datamodule
    from sppcls.config.schedule import size_schedule
    from sppcls.data.dataset import ImageDataset

    config = compose(words_of(kind, root))
    schedule = size_schedule(config)
    before, started = resident(), time.process_time()
    splits = load_sources(config)
    found = time.process_time() - started
    index = resident() - before
    module = make_datamodule(config, schedule, *splits[:2])
    started = time.process_time()
    dataset = ImageDataset(splits.train, module.train_transform, 0)
    batches = iter(module.batch_sampler())
    keys = next(batches)
    dataset.__getitems__(keys)
    first = time.process_time() - started
    everything = resident() - before
    count = len(splits.train)
    started = time.process_time()
    sampled = sum(len(batch) for batch in module.batch_sampler())
    order = (time.process_time() - started) / sampled
    started, read = time.process_time(), 0
    for keys in module.batch_sampler():
        dataset.__getitems__(keys)
        read += len(keys)
        if read >= min(_IMAGES, count):
            break
    image = (time.process_time() - started) / read
    return {"found_s": found, "index_bytes": index / count, "all_bytes": everything / count, "first_batch_s": first,
            "sampler_us": order * 1e6, "image_us": image * 1e6}  # fmt: skip


def measure_first_step(kind: str, root: str, runs: str, began: float) -> dict[str, Any]:
    import pytorch_lightning as pl

    import sppcls

    class First(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            print(
                json.dumps({"first_step_s": time.process_time(), "clock_s": time.time() - began}), flush=True
            )
            os._exit(0)

    sppcls.train(sppcls.compose([*words_of(kind, root), f"runs_dir={runs}"]), callbacks=[First()])
    raise AssertionError


def in_a_process(*words: str) -> dict[str, Any]:
    ended = subprocess.run(
        [sys.executable, __file__, "--side", *words], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SystemExit(ended.stderr)
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="*", default=[1000, 100_000, 1_000_000])
    parser.add_argument("--folders", type=int, nargs="*", default=[1000, 100_000])
    parser.add_argument("--place", help="folder for the files, removed at the end (a temporary one)")
    parser.add_argument("--side", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        what, kind, root = args.side[:3]
        if what == "parts":
            print(json.dumps(measure_parts(kind, root)))
        else:
            measure_first_step(kind, root, args.side[3], float(args.side[4]))
        return
    head = ("data", "images", "found s", "first step s", "by the clock s", "index B/image", "with order B/image", "sampler us/image",
            "read us/image")  # fmt: skip
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for kind, counts, write in (
        ("shards", args.counts, write_shards_of),
        ("imagenet", args.folders, write_folder_of),
    ):
        for count in counts:
            with tempfile.TemporaryDirectory(dir=args.place) as place:
                root = write(Path(place) / "data", count)
                parts = in_a_process("parts", kind, str(root))
                step = in_a_process("step", kind, str(root), f"{place}/runs", str(time.time()))
                row = (kind, f"{count:,}", f"{parts['found_s']:.2f}", f"{step['first_step_s']:.1f}", f"{step['clock_s']:.1f}",
                       f"{parts['index_bytes']:.0f}", f"{parts['all_bytes']:.0f}", f"{parts['sampler_us']:.2f}",
                       f"{parts['image_us']:.0f}")  # fmt: skip
                print("| " + " | ".join(row) + " |", flush=True)
                shutil.rmtree(root)


if __name__ == "__main__":
    main()
