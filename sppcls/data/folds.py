"""Cross-validation: all images but those of the test split in folds, one of which is validated on."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sppcls.data.files import FileSource, PartSource, Source, Splits
from sppcls.data.label_sets import LabelSets, is_multi_label, spread_label_sets
from sppcls.data.seeding import derive
from sppcls.errors import DataError


def into_folds(splits: Splits, folds: int, fold: int) -> Splits:
    """The same images, ``fold`` of ``folds`` of them to validate on and the others to train on.

    Training and validation images are put together; a test split stays as it is. Within each class, images go to the
    folds in turn, in the order of a hash of their content: so each fold has its share of every class, the folds are the
    same on every machine and for every seed, whatever the files are called, and files of the same bytes share a fold.
    Images that are not files go by their names. Images of several labels are divided by
    :func:`~sppcls.data.label_sets.spread_label_sets`.

    Args:
        splits: as they were found.
        folds: how many, at least 2.
        fold: the one to validate on, from 0.

    Raises:
        DataError: a class has fewer different images than there are folds.
    """
    sources: dict[str, Source] = {"train": splits.train, "val": splits.val}
    members = [(role, index) for role, source in sources.items() for index in range(len(source))]
    seen: Counter[str] = Counter()
    keys = [key for source in sources.values() for key in _content(source, seen)]
    targets = [target for source in sources.values() for target in source.targets]
    divide = _by_label_sets if is_multi_label(splits.train) else _by_class
    fold_of = divide(targets, keys, splits.train.classes, folds)
    val = [member for member, number in zip(members, fold_of, strict=True) if number == fold]
    train = [member for member, number in zip(members, fold_of, strict=True) if number != fold]
    made = [_part(sources, sorted(part)) for part in (train, val)]
    notes = splits.found.partition("; ")[2]
    found = (
        f"fold {fold} of 0 to {folds - 1}: {len(val):,} images to validate on, the other {len(train):,} to train on"
        + (f", {len(splits.test):,} test images kept for the end" if splits.test is not None else "")
    )
    return splits._replace(
        train=made[0], val=made[1], found="; ".join(filter(None, (found, notes))), held_out=True
    )


def _by_label_sets(
    targets: Sequence[Sequence[int]], keys: Sequence[str], classes: Sequence[str], folds: int
) -> list[int]:
    """The fold of each image; each fold has its share of every label."""
    labels: dict[str, set[int]] = defaultdict(set)
    for target, key in zip(targets, keys, strict=True):
        labels[key].update(target)
    sets = LabelSets(labels.values())
    for name, count in zip(classes, sets.counts(len(classes)).tolist(), strict=True):
        _check_enough(folds, name, count)
    part_of = dict(zip(labels, spread_label_sets(sets, list(labels), [1 / folds] * folds), strict=True))
    return [part_of[key] for key in keys]


def _by_class(targets: Sequence[int], keys: Sequence[str], classes: Sequence[str], folds: int) -> list[int]:
    """The fold of each image; each class is dealt out to the folds in turn."""
    images: dict[int, set[str]] = defaultdict(set)
    for target, key in zip(targets, keys, strict=True):
        images[target].add(key)
    fold_of = {}
    for label, name in enumerate(classes):
        _check_enough(folds, name, len(images[label]))
        first = derive("fold", name) % folds  # which classes have one more in the first fold
        for place, key in enumerate(sorted(images[label], key=lambda key: derive("fold", key))):
            fold_of[label, key] = (first + place) % folds
    return [fold_of[image] for image in zip(targets, keys, strict=True)]


def _check_enough(folds: int, name: str, count: int) -> None:
    if count < folds:
        advice = f"choose at most {count}" if count > 1 else "add images, or take the class out"
        raise DataError(
            f"data.folds={folds}: class {name!r} has {count} different image(s), so a fold would be without it; {advice}"
        )


def _content(source: Source, seen: Counter[str]) -> list[str]:
    """What decides on the fold of each image: a digest of its file, or its name where it is not one.

    Names may occur again, as the keys of tar files do; ``seen`` counts them.
    """
    names = [source.name(index) for index in range(len(source))]
    if not isinstance(source, FileSource):
        keys = []
        for name in names:
            keys.append(f"{name}\0{seen[name]}" if seen[name] else name)
            seen[name] += 1
        return keys
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(source.digest, names))


def _part(sources: dict[str, Source], members: Sequence[tuple[str, int]]) -> Source:
    """Some images of sources: of files again files, listed class by class as everywhere."""
    files = [source for source in sources.values() if isinstance(source, FileSource)]
    if len(files) < len(sources):
        return PartSource(sources, members)
    root = Path(os.path.commonpath([source.root.absolute() for source in files]))
    before = {
        role: os.path.relpath(source.root.absolute(), root)
        for role, source in sources.items()
        if isinstance(source, FileSource)
    }
    rows = sorted(
        (sources[role].targets[index], os.path.normpath(f"{before[role]}/{sources[role].name(index)}"))
        for role, index in members
    )
    targets = [label for label, _ in rows]
    return FileSource(
        root,
        [name for _, name in rows],
        LabelSets(targets) if any(map(is_multi_label, files)) else targets,
        files[0].classes,
        files[0].max_pixels,
        sum(source.ignored for source in files),
        files[0].pixel_range,
    )
