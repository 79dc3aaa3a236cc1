"""Images per second of the training input, from JPEG files to normalised float batches, on one core: sppcls without and
with ``data.cache=disk``, the preset of torchvision's classification reference, and timm's loader.

    pip install "sppcls[bench]"
    python benchmarks/input_pipeline.py [--data-root FOLDER] [--images 500] [--rounds 5]

All sides cut boxes of random area and aspect (``augment=resized``), mirror them and make batches of 64 at 224 x 224; a
second line of sppcls has the paper's crops (``augment=paper``). They take turns, an epoch each, in one process with
one thread and no loader processes, freed memory kept as in ``sppcls train``. The medians over the rounds are reported, by the processor's time, which other
programs on the machine disturb less, and by the clock. Building the caches is timed once, apart.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from common import Row, finish, ratio_row
from common import parser as arguments
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from sppcls import compose
from sppcls._util.allocator import keep_freed_memory
from sppcls._util.console import table
from sppcls.config.build import load_sources, make_caches, make_datamodule
from sppcls.config.schedule import size_schedule
from sppcls.config.schema import Config
from sppcls.data import image_files, prepare_batch, read_image

BATCH, SIZE = 64, 224
ALONE = "reading and decoding alone"


def write_photos(folder: Path, count: int) -> None:
    """JPEG files of 500 x 375, smooth with grain, about 67 kB each."""
    draw = np.random.default_rng(0)
    for split, number in (("train", count), ("val", 20)):
        for index in range(number):
            coarse = draw.integers(0, 255, (24, 32, 3), np.uint8)
            pixels = np.asarray(
                Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC), np.float32
            )
            pixels = pixels + draw.normal(0, 5, (375, 500, 1)).astype(np.float32)
            place = folder / split / f"class{index % 2}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{index}.jpg", quality=90)


def of_sppcls(root: Path, augment: str, cache: str | None) -> tuple[Callable[[], Iterable], Config]:
    words = [
        "data=folder",
        f"data.root={root}",
        "data.workers=0",
        f"data.batch_size={BATCH}",
        "sizes=single_224",
    ]
    words += [f"augment={augment}", *(["data.cache=disk", f"data.cache_dir={cache}"] if cache else [])]
    config = compose(words)
    sources, schedule = load_sources(config)[:2], size_schedule(config)
    module = make_datamodule(config, schedule, *sources, make_caches(config, schedule, *sources))

    def batches() -> Iterable:
        steps = len(module.batch_sampler())
        for _, batch in zip(range(steps), module.train_dataloader(), strict=False):
            yield prepare_batch(batch.image, (SIZE, SIZE), config.data.mean, config.data.std, batch.lighting)

    return batches, config


def of_torchvision(root: Path, config: Config) -> Callable[[], Iterable]:
    """``ClassificationPresetTrain`` with its default Pillow backend and no further augmentation."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float, scale=True),
            v2.Normalize(config.data.mean, config.data.std),
            v2.ToPureTensor(),
        ]
    )
    return lambda: (
        image for image, _ in DataLoader(ImageFolder(str(root / "train"), transform), BATCH, shuffle=True)
    )


def of_timm(root: Path, config: Config) -> Callable[[], Iterable]:
    from timm.data import ImageDataset, create_loader

    loader = create_loader(
        ImageDataset(str(root / "train")), (3, SIZE, SIZE), BATCH, is_training=True, num_workers=0,
        mean=tuple(config.data.mean), std=tuple(config.data.std), device=torch.device("cpu"),
        persistent_workers=False, pin_memory=False, auto_augment=None, color_jitter=0.0,
    )  # fmt: skip
    return lambda: (image for image, _ in loader)


def decoding_alone(root: Path) -> Callable[[], Iterable]:
    """Every file read and decoded, and nothing else: less than any loader takes that decodes whole images."""
    files = image_files([root / "train"])

    def images() -> Iterable:
        for file in files:
            read_image(file)
            yield None

    return images


def epoch(batches: Callable[[], Iterable]) -> tuple[float, float]:
    """Seconds per image: the processor's, and the clock's."""
    count, cpu, clock = 0, time.process_time(), time.perf_counter()
    for image in batches():
        assert image is None or (image.shape[1:] == (3, SIZE, SIZE) and image.dtype == torch.float32)
        count += 1 if image is None else len(image)
    return (time.process_time() - cpu) / count, (time.perf_counter() - clock) / count


def measure(label: str, root: Path, rounds: int, place: str) -> list[Row]:
    plain, config = of_sppcls(root, "resized", None)
    started = time.process_time()
    cached, _ = of_sppcls(root, "resized", place)
    built = time.process_time() - started
    sides = {
        "torchvision preset": of_torchvision(root, config),
        "timm loader": of_timm(root, config),
        "sppcls": plain,
        "sppcls, cache": cached,
        ALONE: decoding_alone(root),
        "sppcls, paper's crops": of_sppcls(root, "paper", None)[0],
        "sppcls, paper's crops, cache": of_sppcls(root, "paper", place)[0],
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, batches in sides.items():
            found = epoch(batches)
            if number:  # the first round warms up
                seconds[name].append(found)
    cpu = {name: statistics.median(c for c, _ in values) for name, values in seconds.items()}
    clock = {name: statistics.median(w for _, w in values) for name, values in seconds.items()}
    lines = []
    for name, values in seconds.items():
        each = [1 / c for c, _ in values]
        ratios = [cpu[peer] / cpu[name] for peer in ("torchvision preset", "timm loader")]
        lines.append([name, f"{1 / cpu[name]:.0f}", f"{min(each):.0f} to {max(each):.0f}", f"{1 / clock[name]:.0f}",
                     *(f"{ratio:.2f}" for ratio in ratios)])  # fmt: skip
    print(f"\n{label}; caches of augment=resized built in {built:.1f} s")
    print(
        table(lines, ["images/s/core", "median", "rounds", "by the clock", "over torchvision", "over timm"])
    )
    return as_rows(label, seconds)


def as_rows(label: str, seconds: dict[str, list[tuple[float, float]]]) -> list[Row]:
    """Ours beside each peer, by processor time."""
    work = {name: [cpu for cpu, _ in values] for name, values in seconds.items()}
    rows = [
        ratio_row(f"{name}: images/s per core, {label}", peer, work[peer], work[name], bar)
        for peer in ("torchvision preset", "timm loader")
        for name, bar in (("sppcls", 1.5), ("sppcls, cache", 4.0))
    ]
    rows.append(ratio_row(f"sppcls: images/s per core, {label}", ALONE, work[ALONE], work["sppcls"]))
    rows.append(
        ratio_row(f"{ALONE}: images/s per core, {label}", "timm loader", work["timm loader"], work[ALONE])
    )
    return rows


def main() -> None:
    parser = arguments(__doc__, 5)
    parser.add_argument("--data-root", type=Path, help="a folder with train/ and val/ to measure as well")
    parser.add_argument("--images", type=int, default=500, help="generated JPEG files (500)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder) / "photos", args.images)
        rows = measure("generated, 500 x 375", Path(folder) / "photos", args.rounds, f"{folder}/cache")
        if args.data_root:
            rows += measure(args.data_root.name, args.data_root, args.rounds, f"{folder}/cache")
    finish(rows, args)


if __name__ == "__main__":
    main()
