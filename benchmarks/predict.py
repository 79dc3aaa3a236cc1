"""Images per second and peak memory of ``sppcls predict`` on photos of mixed shapes, over those of a plain loop.

    python benchmarks/predict.py CKPT FOLDER [--limit 300] [--rounds 3] [--workers 2] [--threads N]

The peer is the loop that one would write by hand: Pillow opens an image, torchvision resizes it to the same shorter side and
normalises it, and the same network takes it alone. Each measurement is a process of its own and the two sides take turns; the
time is that of all images, from the first to be opened to the last to be classified, without loading torch and network. The
floor is the least that decoding, resizing and network take: each image by itself on one core, shared among all cores with
nothing lost. Memory
is the resident peak of the process, and for sppcls of a process that reads images as well, shared pages counted in both.
CPU time is of all processes; on a machine that does other work it says more than the clock.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import finish, in_a_process, ratio_row
from common import parser as arguments
from PIL import Image
from torchvision.transforms import v2

from sppcls import load_classifier
from sppcls.data import image_files, prepare_batch, read_image
from sppcls.data.geometry import default_shorter_side
from sppcls.data.stream import resize_whole
from sppcls.inference.predict import predict
from sppcls.nn import SPPClassifier

WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def with_sppcls(net: SPPClassifier, files: list[Path], workers: int) -> list[str]:
    """Top-1 classes, as `sppcls predict` finds them."""
    return [p.classes[0] for p in predict(net, files, top=1, workers=workers)]


def plain_loop(net: SPPClassifier, files: list[Path], _: int) -> list[str]:
    """Top-1 classes, one image at a time."""
    model_info: Any = net.model_info
    side = default_shorter_side(model_info["val_sizes"][0])
    transform = v2.Compose(
        [
            v2.PILToTensor(),
            v2.Resize(side, antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(model_info["mean"], model_info["std"]),
        ]
    )
    answers = []
    with torch.inference_mode():
        for file in files:
            image = transform(Image.open(file).convert("RGB"))
            answers.append(model_info["classes"][int(net(image[None]).argmax())])
    return answers


def on_one_core(net: SPPClassifier, files: list[Path], _: int) -> list[str]:
    """Top-1 classes with the functions that `sppcls predict` calls, and nothing else."""
    torch.set_num_threads(1)
    model_info: Any = net.model_info
    side = default_shorter_side(model_info["val_sizes"][0])
    answers = []
    with torch.inference_mode():
        for file in files:
            image = resize_whole(read_image(file), side)[None]
            size = (image.shape[2], image.shape[3])
            x = prepare_batch(image, size, model_info["mean"], model_info["std"])
            answers.append(model_info["classes"][int(net(x).argmax())])
    return answers


SIDES: dict[str, Callable[[SPPClassifier, list[Path], int], list[str]]] = {
    "sppcls predict": with_sppcls,
    "plain loop": plain_loop,
    "decode and network on one core": on_one_core,
}


def measure(side: str, args: argparse.Namespace) -> None:
    """One measurement, printed as JSON."""
    if args.threads:
        torch.set_num_threads(args.threads)
    net = load_classifier(args.checkpoint).to(memory_format=torch.channels_last)
    files = image_files([args.folder])[: args.limit]
    cpu, started = cpu_seconds(), time.perf_counter()
    answers = SIDES[side](net, files, args.workers)
    seconds = time.perf_counter() - started
    own, reader = (resource.getrusage(who).ru_maxrss / 1024 for who in WHO)
    result = {
        "seconds": seconds,
        "cpu": cpu_seconds() - cpu,
        "own": own,
        "reader": reader,
        "answers": answers,
    }
    print(json.dumps(result))


def cpu_seconds() -> float:
    """Of this process and of those that it started, once they have ended."""
    return sum(resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime for who in WHO)


def main() -> None:
    parser = arguments(__doc__, 3)
    parser.add_argument("checkpoint", metavar="CKPT")
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("--limit", type=int, default=300, help="images (300)")
    parser.add_argument("--workers", type=int, default=2, help="processes that read images for sppcls (2)")
    parser.add_argument(
        "--threads", type=int, help="CPU threads of the network on both sides (torch's choice)"
    )
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        measure(args.side, args)
        return
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for i in range(args.rounds):
        for side in list(SIDES)[:: 1 if i % 2 == 0 else -1]:
            runs[side].append(in_a_process(__file__, side, *sys.argv[1:]))
    rate, cpu = {}, {}
    for side, results in runs.items():
        rates = [len(r["answers"]) / r["seconds"] for r in results]
        rate[side] = statistics.median(rates)
        cpu[side] = statistics.median(1000 * r["cpu"] / len(r["answers"]) for r in results)
        memory = f"{max(r['own'] for r in results):.0f} MiB"
        if side == "sppcls predict" and args.workers:
            memory += f" and {max(r['reader'] for r in results):.0f} MiB in each process that reads"
        print(
            f"{side}: {rate[side]:.1f} images/s (rounds: {', '.join(f'{r:.1f}' for r in rates)}), "
            f"{cpu[side]:.1f} ms of CPU per image, at most {memory}"
        )
    print(
        f"sppcls predict over plain loop: {rate['sppcls predict'] / rate['plain loop']:.2f} x images/s, "
        f"{cpu['sppcls predict'] / cpu['plain loop']:.2f} x CPU time"
    )
    ours, peer, _ = (runs[side][0]["answers"] for side in SIDES)
    agree = sum(a == b for a, b in zip(ours, peer, strict=True))
    print(f"same top-1 class: {agree} of {len(ours)} images")
    clock, work = ([[r[key] for r in runs[side]] for side in SIDES] for key in ("seconds", "cpu"))
    cores = args.threads or torch.get_num_threads()
    shared = [seconds / cores for seconds in clock[2]]
    what, peer_name = f"predict, {len(ours)} photos of mixed shapes", "a loop, one at a time"
    finish(
        [
            ratio_row(f"{what}, {args.workers} readers", peer_name, clock[1], clock[0], 2.0),
            ratio_row(f"{what}, processor time", peer_name, work[1], work[0]),
            ratio_row(
                f"{what}, {args.workers} readers",
                f"decode and network alone on {cores} cores",
                shared,
                clock[0],
            ),
            ratio_row(f"{what}, processor time", "decode and network alone", work[2], work[0]),
        ],
        args,
    )


if __name__ == "__main__":
    main()
