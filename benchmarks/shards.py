"""The same images from shards and from a folder: images a second of the training input, and the weights of a training.

    python benchmarks/shards.py --data-root PHOTOS [--images 500] [--rounds 7]

PHOTOS and generated JPEG files of 500 x 375 are each written into shards (``sppcls shards``), their files as they are. The
sides take turns, ``--images`` images of an epoch each, in one process with one thread and no loader processes, from the
page cache: read, decoded, cut (``augment=resized``, 224) and normalised. Ratios are of images a second, by the processor's
time and by the clock. Both sides give the same batches, bit for bit, which is looked at. At the end a small network is
trained on each for an epoch, and the final weights are compared.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from common import Row, finish, ratio_row
from common import parser as arguments
from input_pipeline import BATCH, SIZE, write_photos

import sppcls
from sppcls._util.allocator import keep_freed_memory
from sppcls.cli.main import main as command
from sppcls.config.build import load_sources, make_datamodule
from sppcls.config.schedule import size_schedule
from sppcls.data import prepare_batch

SIDES = ("folder", "shards")


def words(kind: str, root: Path) -> list[str]:
    return [f"data={kind}", f"data.root={root}", "data.check=false", "data.workers=0", f"data.batch_size={BATCH}",
            "sizes=single_224", "augment=resized"]  # fmt: skip


class Side:
    """Batches of the first epoch, ready for a network."""

    def __init__(self, kind: str, root: Path, images: int) -> None:
        self.config = sppcls.compose(words(kind, root))
        splits, schedule = load_sources(self.config), size_schedule(self.config)
        self.module = make_datamodule(self.config, schedule, splits.train, splits.val)
        self.steps = max(1, round(images / BATCH))

    def batches(self) -> Iterator[torch.Tensor]:
        data = self.config.data
        for batch in islice(self.module.train_dataloader(), self.steps):
            yield prepare_batch(batch.image, (SIZE, SIZE), data.mean, data.std, lighting=batch.lighting)

    def seconds(self) -> tuple[float, float]:
        """Of an image: the processor's, and the clock's."""
        count, cpu, clock = 0, time.process_time(), time.perf_counter()
        for x in self.batches():
            count += len(x)
        return (time.process_time() - cpu) / count, (time.perf_counter() - clock) / count


def measure(label: str, photos: Path, images: int, rounds: int, place: Path) -> list[Row]:
    out = place / f"{label} shards"
    assert command(["shards", str(photos), str(out), "--workers", "0"]) == 0
    sides = {kind: Side(kind, root, images) for kind, root in zip(SIDES, (photos, out), strict=True)}
    pairs = zip(
        *(side.batches() for side in sides.values()), strict=True
    )  # and files come into the page cache
    assert all(torch.equal(one, other) for one, other in pairs), "other batches"
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in SIDES}
    for number in range(rounds):
        for kind in SIDES[:: 1 if number % 2 == 0 else -1]:
            found[kind].append(sides[kind].seconds())
    rows = []
    for clock, name in enumerate(("processor", "clock")):
        each = {kind: [seconds[clock] for seconds in found[kind]] for kind in SIDES}
        median = {kind: 1 / statistics.median(each[kind]) for kind in SIDES}
        print(
            f"{label}: {median['folder']:.0f} images/s from the folder, {median['shards']:.0f} from shards, by the {name}"
        )
        rows.append(
            ratio_row(
                f"{label}: images/s from shards, by the {name}", "folder", each["folder"], each["shards"]
            )
        )
    return rows


def same_weights(photos: Path, shards: Path, place: Path) -> bool:
    """Whether a training of one epoch ends with the same weights from both."""
    small = ["backbone.width=0.0625", "head.hidden=[16]", "pyramid=l321", "trainer.max_epochs=1", "trainer.accelerator=cpu",
             "trainer.threads=1", "log.images=false", f"runs_dir={place / 'runs'}", "sizes.sizes=[96]"]  # fmt: skip
    ends = []
    for kind, root in zip(SIDES, (photos, shards), strict=True):
        run = sppcls.train(sppcls.compose([*words(kind, root), *small, f"run_name={kind}"]))
        ends.append(torch.load(Path(run["folder"]) / "last.ckpt", weights_only=True)["state_dict"])
    return all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def main() -> None:
    parser = arguments(__doc__, rounds=7)
    parser.add_argument("--data-root", type=Path, required=True, help="train/CLASS/* and val/CLASS/*")
    parser.add_argument("--images", type=int, default=500, help="images of each turn (500)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_photos(place / "photos", args.images)
        rows = measure("photos", args.data_root, args.images, args.rounds, place)
        rows += measure("500 x 375", place / "photos", args.images, args.rounds, place)
        print(f"the same weights: {same_weights(args.data_root, place / 'photos shards', place)}")
    finish(rows, args)


if __name__ == "__main__":
    main()
