"""ImageNet's path from its tar files to ten views, on a stand-in: 20,000 JPEG files of 1,000 classes, sized like ImageNet's.

    python benchmarks/imagenet_rehearsal.py [--place FOLDER] [--out results/imagenet_cost.md]

Builds the three files (2 GB), prepares shards (killed once on the way), checks them, trains the paper's experiment with a
narrow network for two short epochs (killed once, too), evaluates it with ten views, and measures the loader. From these figures and the
FLOPs of the network follows what ImageNet would cost; that part is arithmetic.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
TRAIN, VAL = 1_281_167, 50_000
EPOCHS = 70  # of experiment=paper/zf5_multi
_DISTINCT = 100
UNFINISHED = ".unfinished"  # what sppcls.data.shards.write knows of whole shards


def photos() -> list[bytes]:
    """JPEG files of ImageNet's usual sizes, smooth with grain; the grain is chosen for about 110 kB each."""
    draw = np.random.default_rng(0)
    sizes = [(500, 375), (375, 500), (500, 333), (500, 500), (400, 300), (640, 480), (300, 225)]
    found = []
    for i in range(_DISTINCT):
        width, height = sizes[i % len(sizes)]
        coarse = Image.fromarray(draw.integers(0, 255, (24, 32, 3), np.uint8))
        pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        pixels = pixels + draw.normal(0, 12, (height, width, 1)).astype(np.float32)
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
        found.append(file.getvalue())
    return found


def unlike(photo: bytes, number: int) -> bytes:
    """The same photo with a comment, so that no two files have the same bytes."""
    text = f"number {number}".encode()
    return photo[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + photo[2:]


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def build(place: Path, train: int, val: int, classes: int) -> int:
    """The three files as image-net.org has them; returns the bytes of all images."""
    from scipy.io import savemat

    place.mkdir()
    distinct, wnids = photos(), [f"n{1_440_764 + 17 * c:08d}" for c in range(classes)]
    size = 0

    def image(number: int) -> bytes:
        nonlocal size
        data = unlike(distinct[number % _DISTINCT], number)
        size += len(data)
        return data

    with tarfile.open(place / "ILSVRC2012_img_train.tar", "w") as outer:
        for c, wnid in enumerate(wnids):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for i in range(c, train, classes):
                    add(tar, f"{wnid}_{i}.JPEG", image(i))
            add(outer, f"{wnid}.tar", inner.getvalue())
    with tarfile.open(place / "ILSVRC2012_img_val.tar", "w") as tar:
        for i in range(1, val + 1):
            add(tar, f"ILSVRC2012_val_{i:08d}.JPEG", image(train + i))
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    synsets = np.array([(c + 1, wnid, "", 0) for c, wnid in enumerate(wnids)], kinds).reshape(-1, 1)
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets})
    with tarfile.open(place / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        truth = "".join(f"{i % classes + 1}\n" for i in range(val))
        add(tar, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", truth.encode())
        add(tar, "ILSVRC2012_devkit_t12/data/meta.mat", meta.getvalue())
    return size


def command(*words: str) -> tuple[str, float, float]:
    """Run sppcls; what it printed, its seconds, and the seconds of processors that it and its loaders took."""
    before, started = os.times(), time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", "sppcls", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    seconds, after = time.perf_counter() - started, os.times()
    if ended.returncode:
        raise SystemExit(f"sppcls {' '.join(words)}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    print(
        f"$ sppcls {' '.join(words)}\n{ended.stdout[-1500:]}  [{seconds:.0f} s, {used:.0f} s of processors]",
        flush=True,
    )
    return ended.stdout, seconds, used


def killed(*words: str, after: str, place: Path) -> None:
    """Start sppcls and kill it when a file is there."""
    process = subprocess.Popen([sys.executable, "-m", "sppcls", *words], cwd=ROOT, stdout=subprocess.DEVNULL)
    while not (place / after).exists():
        if process.poll() is not None:
            raise SystemExit("it ended before it could be killed")
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()


def loader(root: str, seconds: float) -> float:
    """Training images a second of processor time: read, decoded and cut as the paper does."""
    from sppcls import compose
    from sppcls.config.build import load_sources, make_datamodule
    from sppcls.config.schedule import size_schedule
    from sppcls.data import collate
    from sppcls.data.dataset import ImageDataset

    config = compose(["experiment=paper/zf5_multi", "data=shards", f"data.root={root}", "data.batch_size=64"])
    module = make_datamodule(config, size_schedule(config), *load_sources(config)[:2])
    dataset = ImageDataset(module.train, module.train_transform, 0)

    def batches() -> Iterator[int]:
        sampler = module.batch_sampler()
        for epoch in itertools.count():
            sampler.set_epoch(epoch)
            for keys in sampler:
                collate(dataset.__getitems__(keys))
                yield len(keys)

    steps = batches()
    next(steps)
    started, images = time.process_time(), 0
    while time.process_time() - started < seconds:
        images += next(steps)
    return images / (time.process_time() - started)


def gflops() -> dict[int, float]:
    """FLOPs of a forward pass for one image, by its side, in 10^9: two for each multiplication and addition."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from sppcls import compose
    from sppcls.config.build import build_network

    net = build_network(compose(["experiment=paper/zf5_multi", "data.root=unused"]), 1000).eval()
    found = {}
    for side in (224, 180):
        counter = FlopCounterMode(display=False)
        with counter, torch.inference_mode():
            net(torch.zeros(1, 3, side, side))
        found[side] = counter.get_total_flops() / 1e9
    return found


def page(m: dict[str, Any]) -> str:
    images = TRAIN + VAL
    prepare = images / m["prepare_per_core"] / 3600
    per_image = 3 * sum(m["gflops"].values()) / 2
    total = per_image * 1e9 * TRAIN * EPOCHS
    decode = TRAIN * EPOCHS / m["loader_small"] / 3600
    rows = []
    for tflops in (10, 30, 100):
        rate = tflops * 1e12 / (per_image * 1e9)
        hours = total / (tflops * 1e12) / 3600
        rows.append(
            f"| {tflops} | {rate:,.0f} | {hours:.1f} | {hours / 8:.1f} | {rate / m['loader_small']:.0f} | "
            f"{8 * rate / m['loader_small']:.0f} |"
        )
    gpu = "\n".join(rows)
    return f"""# What ImageNet would cost

The first table was measured; what follows it is **on paper**: nobody has run this with ImageNet or on a GPU. All of it is written by

```bash
OMP_NUM_THREADS=1 python benchmarks/imagenet_rehearsal.py --out results/imagenet_cost.md
```

## The rehearsal

{m["train"]:,} training and {m["val"]:,} validation JPEG files of {m["classes"]:,} classes, generated, {m["bytes"] / 1e3:.0f} kB each, in tar files like
ImageNet's. One run; {m["machine"]}; one process beside others, so the seconds are those of processors, not of a clock.

| step | measured |
|---|---|
| `sppcls shards TARS OUT --resize-shorter-side 256 --quality 90`, killed after its first shard and resumed | {m["prepare_s"]:.0f} s, {m["prepare_per_core"]:.0f} images a second and core |
| shards | {m["shard_bytes"] / 1e3:.1f} kB an image, of {m["bytes"] / 1e3:.1f} kB before |
| `sppcls shards --check OUT` | {m["check_s"]:.0f} s, start-up included; all as they were written |
| loader, from these shards: read, decode, cut 224 of 256 | {m["loader_small"]:.0f} images a second and core |
| loader, from shards of the files as they are | {m["loader_large"]:.0f} images a second and core |
| `experiment=paper/zf5_multi data=shards` with a narrow network: two short epochs at 224 and 180, killed within them and resumed | {m["narrow_s"]:.0f} s |
| `sppcls evaluate CKPT --protocol center,full,ten_view` of that, {m["val"]:,} images | {m["evaluate_s"]:.0f} s |

## Disk

| what | GB |
|---|---|
| the tar files, as image-net.org has them | 155 |
| shards, {m["shard_bytes"] / 1e3:.1f} kB an image as in the rehearsal | {images * m["shard_bytes"] / 1e9:.0f} |
| index | {images * m["index_bytes"] / 1e9:.2f} |

Generated photos have more grain than most: real ones of this size may take less.

## Hours

Preparing takes {prepare:.1f} core-hours, so {prepare / 8:.1f} hours with 8 workers, if the disk gives {8 * m["prepare_per_core"] * m["bytes"] / 1e6:.0f} MB a second from all over the training file.

A forward pass of the network takes {m["gflops"][224]:.2f} GFLOPs at 224 and {m["gflops"][180]:.2f} at 180, training three times as many: {per_image:.2f} on
average over the two sizes. {EPOCHS} epochs of {TRAIN:,} images make {total / 1e18:.2f} x 10^18. What a GPU sustains depends on the GPU, on precision and on
the network; the first column is an assumption, the others follow from it.

| TFLOP/s that a GPU sustains | images/s | hours on one GPU | on eight | cores that the loader needs for one | for eight |
|---|---|---|---|---|---|
{gpu}

The loader takes {decode:.0f} core-hours for the {EPOCHS} epochs: with fewer cores than in the last columns, they decide and not the GPU.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--place", help="folder for the files, removed at the end (a temporary one)")
    parser.add_argument("--train", type=int, default=20_000)
    parser.add_argument("--val", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--out", help="file for the page of costs (printed)")
    args = parser.parse_args()
    m: dict[str, Any] = {"train": args.train, "val": args.val, "classes": args.classes}
    m["machine"] = f"{_processor()}, Python {platform.python_version()}"
    with tempfile.TemporaryDirectory(dir=args.place) as place:
        tars, out = Path(place) / "tars", Path(place) / "shards"
        images = args.train + args.val
        m["bytes"] = build(tars, args.train, args.val, args.classes) / images
        words = ("shards", str(tars), str(out), "--resize-shorter-side", "256", "--quality", "90", "--workers", "1",
                 "--size", "64MB")  # fmt: skip
        killed(*words, after="train-000000.json", place=out / UNFINISHED)
        text, _, m["prepare_s"] = command(*words)
        first = int(re.search(r"going on behind [\d,]+ shards with ([\d,]+)", text)[1].replace(",", ""))  # type: ignore[index]
        m["prepare_per_core"] = (images - first) / m["prepare_s"]
        m["shard_bytes"] = sum(path.stat().st_size for path in out.glob("*.tar")) / images
        m["index_bytes"] = (out / "index.json").stat().st_size / images
        m["check_s"] = command("shards", "--check", str(out))[2]
        m["loader_small"] = loader(str(out), 10)
        small = Path(place) / "large"
        (Path(place) / "few").mkdir()
        build(Path(place) / "few" / "tars", 1000, 50, 50)
        command("shards", str(Path(place) / "few" / "tars"), str(small), "--workers", "1")
        m["loader_large"] = loader(str(small), 10)
        m["gflops"] = gflops()
        train = ("train", "experiment=paper/zf5_multi", "data=shards", f"data.root={out}", "data.batch_size=8",
                 "data.workers=1", "trainer.accelerator=cpu", f"runs_dir={place}/runs", "log.images=false",
                 "trainer.limit_val_batches=1", "evaluation.protocols=null")  # fmt: skip
        narrow = (*train, "backbone.width=0.125", "head.hidden=[32]", "trainer.max_epochs=2", "trainer.limit_train_batches=20",
                  "run_name=narrow", "log.save_every_minutes=0.0001", "ckpt_path=auto")  # fmt: skip
        killed(*narrow, after="last.ckpt", place=Path(place) / "runs" / "paper_zf5_multi" / "narrow")
        m["narrow_s"] = command(*narrow)[2]
        checkpoint = Path(place) / "runs" / "paper_zf5_multi" / "narrow" / "last.ckpt"
        m["evaluate_s"] = command(
            "evaluate", str(checkpoint), "--protocol", "center,full,ten_view", "--workers", "1"
        )[2]
    print(json.dumps(m))
    if args.out:
        Path(args.out).write_text(page(m), encoding="utf-8")
    else:
        print(page(m))


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    main()
