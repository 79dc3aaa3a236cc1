"""A run before it is started: its config, its images, its sizes. Imported only where torch and the rest work."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from sppcls.cli.common import RunWords
from sppcls.cli.doctor.diagnosis import Diagnosis, note, ok, problem
from sppcls.cli.doctor.machine import cores, runs_folder, shared_memory
from sppcls.cli.doctor.pixels import pixels
from sppcls.config.build import batch_bytes, find_sources
from sppcls.config.schedule import size_schedule
from sppcls.config.schema import Config
from sppcls.data import (
    Source,
    Splits,
    as_pixel_range,
    check_headers,
    set_pixel_range,
    size_label,
)
from sppcls.data.balance import UNEVEN, class_counts
from sppcls.data.files import FileSource
from sppcls.engine.preflight import RunChecks, device_count
from sppcls.engine.summary import untested_classes_line
from sppcls.errors import SppclsError

_FEW = 10  # training images of a class, below which its error is a matter of luck
_SHOWN = 3  # names in a line


def check_run(given: RunWords) -> Iterator[Diagnosis]:
    """Findings about the run of ``python train.py <words>``."""
    try:
        config = given.compose()
    except SppclsError as error:
        yield problem("config", str(error), "python train.py --help all has every key")
        return
    yield runs_folder(config.runs_dir)
    yield from _loaders(config)
    yield from _images(config)


def _loaders(config: Config) -> Iterator[Diagnosis]:
    schedule, data = size_schedule(config), config.data
    try:
        devices = device_count(config) // config.trainer.num_nodes
    except SppclsError as error:
        yield problem("device", str(error))
        devices = 1
    workers = data.workers * devices
    yield shared_memory(2 * workers * batch_bytes(config, schedule), workers)  # two batches for each process
    if workers > cores():
        yield note(
            "loaders",
            f"{workers} loader processes for {cores():g} cores",
            f"data.workers={max(1, int(cores() // devices))}",
        )


def _images(config: Config) -> Iterator[Diagnosis]:
    data = config.data
    try:
        # As training does, but without its look at the files: here every fault of them is wanted.
        sources = find_sources(replace(config, data=replace(data, download=False)))
    except SppclsError as error:
        yield problem("images", str(error), "docs/faq.md#photos")
        return
    set_pixel_range(as_pixel_range(data.pixel_range), *sources[:3])
    if sources.found:
        yield ok("images", sources.found)
    for warning in sources.warnings:
        yield note("images", warning)
    yield from classes(sources.train, sources.val)
    yield from files(sources.train, sources.val, sources.test)
    yield from pixels(sources.train)
    if sources.test is not None:
        yield from _test_images(sources)
    yield from _plan(replace(config, data=replace(data, check=False, download=False)), len(sources.train))


def classes(train: Source, val: Source) -> Iterator[Diagnosis]:
    """How many images and classes there are, and which classes have few or none."""
    names = train.classes
    numbers, tested = (class_counts(source.targets, len(names)) for source in (train, val))
    text = f"{len(names)} classes, {len(train):,} training images ({min(numbers):,} to {max(numbers):,} a class), {len(val):,} validation images"
    ignored = sum(source.ignored for source in (train, val) if isinstance(source, FileSource))
    yield ok("images", text + (f"; {ignored:,} other files passed over" if ignored else ""))
    few = [f"{names[label]} ({count})" for label, count in enumerate(numbers) if count < _FEW]
    if few:
        yield note(
            "classes", f"fewer than {_FEW} training images: {_some(few)}", "add images, or join classes"
        )
    untested = [name for label, name in enumerate(names) if not tested[label]]
    if untested:
        yield note(
            "classes",
            f"no validation image: {_some(untested)}",
            "errors say nothing about them; add some to val/",
        )
    smallest, largest = (pick(range(len(names)), key=lambda label: numbers[label]) for pick in (min, max))
    if numbers[smallest] * UNEVEN <= numbers[largest]:
        yield note(
            "classes",
            f"uneven: {numbers[largest]:,} training images of {names[largest]}, {numbers[smallest]:,} of {names[smallest]}",
            "data.sampler=balanced or loss=logit_adjusted, and best_by=class_mean_error: docs/howto/uneven.md",
        )


def files(train: Source, val: Source, test: Source | None = None) -> Iterator[Diagnosis]:
    """Files that are no readable images, and images that are in two of the splits."""
    sources = {"training": train, "validation": val, **({} if test is None else {"test": test})}
    bad = [f"{name}: {reason}" for source in sources.values() for name, reason in check_headers(source)]
    if bad:
        yield problem(
            "files",
            f"{len(bad):,} are not readable images: {_some(bad, '; ')}",
            "remove them, or data.check=false skips them",
        )
    alike = False
    for (here, seen), (there, judged) in combinations(sources.items(), 2):
        if not (isinstance(seen, FileSource) and isinstance(judged, FileSource)):
            return
        pairs = duplicates(seen, judged)
        if pairs:
            alike = True
            yield problem(
                "files",
                f"{len(pairs):,} of {len(judged):,} {there} images are also {here} images: "
                + _some([f"{other} = {name}" for name, other in pairs], "; "),
                f"the {there} error would be too low; remove one of each",
            )
    if not bad and not alike:
        which = "both training and validation" if test is None else "two of training, validation and test"
        yield ok("files", f"every header can be read; no image is in {which}")


def _test_images(splits: Splits) -> Iterator[Diagnosis]:
    assert splits.test is not None
    yield ok("images", f"{len(splits.test):,} test images, looked at once, when training has finished")
    if line := untested_classes_line(splits):
        yield note("classes", line.removeprefix("warning: "), "add some to the test images")


def duplicates(train: FileSource, val: FileSource) -> list[tuple[str, str]]:
    """(validation image, training image) for validation files with the very bytes of a training file.

    Only files of the same length are read.
    """
    by_length: dict[int, list[str]] = defaultdict(list)
    for index in range(len(train)):
        by_length[_length(train.root / train.name(index))].append(train.name(index))
    digests: dict[int, dict[bytes, str]] = {}
    found = []
    for index in range(len(val)):
        name = val.name(index)
        length = _length(val.root / name)
        if length <= 0 or length not in by_length:
            continue
        if length not in digests:
            digests[length] = {_digest(train.root / other): other for other in by_length[length]}
        twin = digests[length].get(_digest(val.root / name))
        if twin is not None:
            found.append((name, twin))
    return found


def _plan(config: Config, images: int) -> Iterator[Diagnosis]:
    """Whatever else training would refuse; if nothing, what it would do."""
    try:
        RunChecks().check(config)
    except SppclsError as error:
        yield problem("run", str(error), "docs/faq.md")
        return
    schedule = size_schedule(config)
    sizes = ", ".join(map(size_label, schedule.training_sizes))
    epochs = f"{config.trainer.max_epochs} epoch{'s' if config.trainer.max_epochs > 1 else ''}"
    text = f"{epochs} of {images:,} images, batches of {config.data.batch_size}, sizes {sizes}"
    yield ok(
        "run", f"{text} ({schedule.label})", "epoch by epoch, with the bins of every level: sppcls sizes"
    )


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _digest(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return str(path).encode("utf-8", "surrogateescape")  # like no other; the header check names it


def _some(names: Sequence[str], separator: str = ", ") -> str:
    more = f"{separator}and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return separator.join(names[:_SHOWN]) + more
