"""Image folders: splits of class folders, class folders alone, or images with a file of labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from sppcls.data.balance import without_image
from sppcls.data.class_folders import (
    alike_lines,
    check_links,
    hold_out,
    images_of,
    no_image,
    source_of,
    sources_of,
    unreadable_lines,
)
from sppcls.data.classes import check_known
from sppcls.data.decode import MAX_PIXELS
from sppcls.data.files import FileSource, Splits, with_classes
from sppcls.data.label_files import LabelFile, holds_label_sets, named_file
from sppcls.data.label_search import find_files, labels_beside, name_below
from sppcls.data.label_sets import targets_of
from sppcls.data.label_values import MULTI_LABEL
from sppcls.data.labels import read_labels
from sppcls.data.layout import Layout, NoClassFoldersError, Part, check_depth, recognise
from sppcls.data.names import class_name, roles_among, some
from sppcls.data.tags import one_photo_each
from sppcls.data.tree import Folder, files_below
from sppcls.errors import ConfigError, DataError


def folder_sources(
    root: str | os.PathLike[str],
    *,
    labels: str | None = None,
    dirs: Mapping[str, str | None] | None = None,
    multi_label: bool | str | None = None,
    val_fraction: float = 0.2,
    max_pixels: int = MAX_PIXELS,
) -> Splits:
    """The images of ``root``: its splits if it has any, else its class folders, or what a file of labels says.

    Without validation images, ``val_fraction`` of each class is held out of the training images. A test split is never
    validated on. Images may lie in sub-folders of their class; hidden files and what systems leave behind are passed over.

    Args:
        root: folder of the data set.
        labels: file of labels, below ``root`` or absolute; None: one that is found where there are no class folders.
        dirs: folders of ``train``, ``val`` and ``test``, below ``root`` or absolute; None: recognised by their names.
        multi_label: whether an image may have several labels, one of :data:`~sppcls.data.label_values.MULTI_LABEL`; None: what
            a file of labels shows.
            Class folders then are tags: the same photo in several of them has all their labels.
        val_fraction: share of each class to hold out.
        max_pixels: images larger than this are refused.

    Raises:
        DataError: ``root`` is missing, no folder or empty, or what it holds is ambiguous or contradictory.
    """
    folder = Folder(_existing(Path(root)))
    dirs = {role: value for role, value in (dirs or {}).items() if value is not None}
    if labels is not None:
        if dirs:
            raise ConfigError(f"data.labels={labels}: says the splits, so data.{min(dirs)}_dir must be null")
        return _labelled(folder, [named_file(folder.path, labels)], val_fraction, max_pixels, multi_label)
    try:
        layout = recognise(folder, dirs)
        if len(layout.parts) == 1 and "train" not in layout.named:
            _check_bare(layout.parts["train"])
    except NoClassFoldersError as error:
        if dirs:
            raise
        found = find_files(folder)
        unused = [f"{name_below(folder, file)} is not used: {reason}" for file, reason in found.unused]
        if found.files:
            unused = [line.partition(";")[0] for line in unused]
            return _labelled(folder, found.files, val_fraction, max_pixels, multi_label, unused)
        if not unused:
            raise
        raise DataError("; ".join([str(error), *unused])) from None
    if not dirs:
        layout.notes.extend(labels_beside(folder, layout))
    return _from_layout(layout, val_fraction, max_pixels, bool(multi_label))


def split_sources(
    root: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS
) -> tuple[FileSource, FileSource]:
    """(train, val) of ``root/train/<class>/`` and ``root/val/<class>/``; val may lack a class, train not."""
    sources, _ = sources_of(_given_parts(Path(root)), max_pixels)
    return sources["train"], sources["val"]


def imagenet_sources(root: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Splits:
    """:func:`split_sources`, and the images of ``root/test/<class>/`` if there are such folders: ImageNet's own have no
    labels."""
    parts = _given_parts(Path(root))
    if os.path.isdir(Path(root) / "test") and (test := Folder(Path(root) / "test")).classes:
        parts["test"] = Part(test, test, "test/")
    return _from_layout(Layout(parts, frozenset(parts)), 0.2, max_pixels)


def _given_parts(root: Path) -> dict[str, Part]:
    _existing(root)
    parts = {}
    for split in ("train", "val"):
        if not (root / split).is_dir():
            raise DataError(
                f"data.root={root}: there is no folder {split}/ in it; train/ and val/ are needed"
            )
        folder = Folder(root / split)
        parts[split] = Part(folder, folder, f"{split}/")
    return parts


def single_folder_sources(
    root: str | os.PathLike[str],
    *,
    val_fraction: float,
    max_pixels: int = MAX_PIXELS,
    leave_out: frozenset[str] = frozenset(),
) -> tuple[FileSource, FileSource]:
    """(train, val) of ``root/<class>/``: in each class, the images whose names hash lowest are val.

    Nothing but the names below ``root`` and the fraction decides. Classes in ``leave_out`` are passed over.
    """
    folder = Folder(_existing(Path(root)))
    sources, _ = sources_of({"train": Part(folder, folder, "", leave_out)}, max_pixels)
    return hold_out(sources["train"], val_fraction)


def given_splits(root: str | os.PathLike[str]) -> tuple[FileSource, FileSource | None] | None:
    """The training images of a folder that has splits, and those of its validation or else its test split.

    None for a folder of class folders, or of no classes at all.

    Raises:
        DataError: as of :func:`folder_sources`.
    """
    if not os.path.isdir(root):
        return None
    try:
        layout = recognise(Folder(Path(root)))
    except NoClassFoldersError:
        return None
    if not layout.parts["train"].path:
        return None
    sources, _ = sources_of(_usable(layout)[0], MAX_PIXELS)
    return sources["train"], sources.get("val") or sources.get("test")


def image_files(
    places: Iterable[str | os.PathLike[str]], skipped: Callable[[str], None] = lambda line: None
) -> list[Path]:
    """Image files among ``places`` (files, taken as they are) and in and below them (folders, sorted by name).

    Args:
        places: files and folders.
        skipped: called with a line on images in a folder that are of a kind that cannot be read here.

    Raises:
        DataError: a place that does not exist, or a folder without an image.
    """
    found: list[Path] = []
    for place in map(Path, places):
        try:
            is_folder, exists = place.is_dir(), place.exists()
        except OSError as error:  # such as a name that is too long
            raise DataError(f"{place}: cannot be read ({error.strerror})") from error
        if not is_folder:
            if not exists:
                raise DataError(f"{place}: no such file or folder")
            found.append(place)
            continue
        files = files_below(Folder(place))
        if not files.images:
            raise no_image(place, files.unreadable)
        found += [place / name for name in files.images]
        for line in unreadable_lines(files.unreadable):
            skipped(f"{place}: {line}")
    return found


def labelled_images(folder: str | os.PathLike[str], classes: Sequence[str]) -> FileSource:
    """The images of a folder's validation split, else of its test split, else of its class folders.

    Classes of ``classes`` without an image are no fault: what is there can be tested.

    Raises:
        CheckpointError: a class that is not among ``classes``; says which, and which one is closest.
        DataError: there is no such folder, or no image in it.
    """
    root = Path(folder)
    if not os.path.isdir(root):  # os.path's own: a name that is too long is no folder, and no error
        raise DataError(
            f"{root}: {'a file, a folder is needed' if os.path.exists(root) else 'no such folder'}"
        )
    part = _to_test_on(Folder(root), classes)
    check_links({"val": part})
    files = images_of(part)
    check_known(classes, sorted(files.by_class), part.folder.path)
    found = {name: members for name, members in files.by_class.items() if members}
    if not found:
        raise no_image(part.folder.path, [kind for kinds in files.unreadable.values() for kind in kinds])
    source = source_of(part.folder.path, found, list(found), MAX_PIXELS, files.others)
    source.renumber(classes, with_classes(source, classes).targets)
    return source


def holds_class_folders(folder: str | os.PathLike[str], classes: Sequence[str]) -> bool:
    """Whether a folder has a folder of one of ``classes`` in it."""
    return any(os.path.isdir(Path(folder, name)) for name in classes)


def _to_test_on(root: Folder, classes: Sequence[str]) -> Part:
    """Where the images are that :func:`labelled_images` takes."""
    here = Part(root, root, "")
    there = set(map(class_name, root.folders))
    if there and there <= {class_name(name) for name in classes}:
        return here  # whatever they are called
    for role in ("val", "test"):  # training images are not needed
        if len(names := roles_among(root.folders)[role]) == 1 and root.folders[names[0]].holds_images:
            inner, path = root.folders[names[0]].innermost()
            return Part(root.folders[names[0]], inner, f"{names[0]}/{path}")
    try:
        parts = recognise(root).parts
    except NoClassFoldersError:
        return here
    return parts.get("val") or parts.get("test") or parts["train"]


def _existing(root: Path) -> Path:
    if not os.path.exists(root):
        raise DataError(f"data.root={root}: no such folder")
    if not os.path.isdir(root):
        raise DataError(f"data.root={root}: is a file, a folder of class folders is needed")
    return root


def _check_bare(part: Part) -> None:
    """Refuse what is no folder of class folders, before its files are looked for.

    Raises:
        NoClassFoldersError: there are less than two folders.
        DataError: the folders hold the folders of classes.
    """
    names = [name for name in part.folder.folders if name not in part.leave_out]
    if not names:
        raise NoClassFoldersError(
            f"{part.folder.path}: has no class folders; images belong into one folder per class, "
            "or name a file of labels, data.labels=FILE"
        )
    if len(names) == 1 and part.folder.folders[names[0]].holds_images:
        raise NoClassFoldersError(
            f"{part.folder.path}: holds a single class folder ({names[0]!r}); two classes are needed at least"
        )
    check_depth(part)


def _usable(layout: Layout) -> tuple[dict[str, Part], list[str]]:
    """The parts of a layout without a test folder that has other classes altogether, and what is not used."""
    parts, unused = dict(layout.parts), list(layout.notes)
    if "test" in parts and "test" not in layout.named:
        known = {class_name(name) for name in parts["train"].folder.folders}
        if known.isdisjoint(map(class_name, parts["test"].folder.folders)):
            unused.append(f"{parts.pop('test').path} is not used: none of its folders is a class of training")
    return parts, unused


def _from_layout(layout: Layout, val_fraction: float, max_pixels: int, tags: bool = False) -> Splits:
    parts, unused = _usable(layout)
    sources, notes = sources_of(parts, max_pixels)
    if tags:
        sources = {role: one_photo_each(source) for role, source in sources.items()}
    shown = {role: part.path or "class folders" for role, part in parts.items()}
    return _splits(sources, shown, val_fraction, unused, notes)


def _labelled(
    root: Folder,
    files: Sequence[LabelFile],
    val_fraction: float,
    max_pixels: int,
    multi_label: bool | str | None,
    unused: Sequence[str] = (),
) -> Splits:
    if multi_label is None:
        multi_label = holds_label_sets(files)
    separators = MULTI_LABEL[multi_label]
    found = read_labels(root, files, separators)
    classes, number = found.classes, {name: index for index, name in enumerate(found.classes)}
    sources = {
        role: FileSource(
            root.path,
            list(members),
            targets_of(members.values(), number, several=separators is not None),
            classes,
            max_pixels,
        )
        for role, members in found.splits.items()
    }
    names = [name_below(root, file) for file in files]
    shown = dict.fromkeys(sources, "") | {"train": names[0]}
    if len(files) > 1:
        shown = {str(file.role): name for file, name in zip(files, names, strict=True)}
    notes = [*found.notes, *alike_lines(classes)]
    if "val" in sources and (missing := without_image(classes, sources["val"].targets)):
        notes.append(f"no validation image of class {some(missing)}")
    return _splits(sources, shown, val_fraction, unused, notes)


def _splits(
    sources: dict[str, FileSource],
    shown: Mapping[str, str],
    val_fraction: float,
    unused: Sequence[str],
    notes: Sequence[str],
) -> Splits:
    """What a run gets: held out of the training images what there is no validation split for, and the line on it all."""
    train, test = sources["train"], sources.get("test")
    words = [f"{shown['train']} {len(train):,}"]
    held_out = "val" not in sources
    if not held_out:
        val = sources["val"]
        words.append(f"{shown['val']} {len(val):,} as validation".strip())
    else:
        train, val = hold_out(train, val_fraction)
        words.append(f"of which {len(val):,} held out for validation (data.val_fraction={val_fraction:g})")
    if test is not None:
        words.append(f"{shown['test']} {len(test):,} kept for the end".strip())
    return Splits(train, val, test, "; ".join([", ".join(words), *unused]), tuple(notes), held_out)
