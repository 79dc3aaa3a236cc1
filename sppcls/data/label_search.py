"""Which of the files in a data set hold its labels."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from sppcls.data.label_files import KINDS, LabelFile, check_columns, rows
from sppcls.data.layout import Layout, Part
from sppcls.data.names import class_name, role_of, some
from sppcls.data.tree import Folder
from sppcls.errors import DataError

_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")  # the others hold all kinds of text
_OTHER_TABLES = (".xlsx", ".xls", ".ods", ".parquet")
_TELLING = frozenset(("label", "labels", "annotation", "annotations", "groundtruth", "truth", "gt"))


class Unused(NamedTuple):
    """A file that may have been meant to hold labels, and why it is not used."""

    file: LabelFile
    reason: str


class Found(NamedTuple):
    """Files of labels.

    Attributes:
        files: whose columns are those of labels.
        unused: the others, as far as their names or kinds are those of tables.
    """

    files: list[LabelFile]
    unused: list[Unused]


def find_files(root: Folder) -> Found:
    """Files whose columns are those of labels: in ``root`` or, if there is none, in the folders in it.

    Several are the splits that their names, or those of their folders, stand for.

    Raises:
        DataError: several, and not one for each split; or that of a split cannot be used.
    """
    files, unused = files_in(root)
    for name, folder in root.folders.items():
        below = files_in(folder)
        inside = [LabelFile(file.path, role_of(name)) for file in below.files]
        if any(file.path.parent == root.path for file in files):
            unused += [Unused(file, f"{files[0].path.name} is") for file in inside]
        else:
            files += inside
        unused += [Unused(LabelFile(file.path, role_of(name)), reason) for file, reason in below.unused]
    if len(files) > 1:
        _check_splits(root, files)
    if "train" in [file.role for file in files]:
        for file, reason in unused:
            # A test split is often handed out without labels.
            if file.role in ("train", "val") and file.role not in [other.role for other in files]:
                raise DataError(f"{file.path}: {reason}")
    return Found(files if len(files) > 1 else [LabelFile(file.path) for file in files], unused)


def _check_splits(root: Folder, files: list[LabelFile]) -> None:
    roles = [file.role for file in files]
    if None in roles or len(set(roles)) < len(roles) or "train" not in roles:
        files = sorted(files, key=lambda file: file.role != "train")
        names = [os.path.relpath(file.path, root.path) for file in files]
        word = shlex.quote(f"data.labels={names[0]}")
        raise DataError(f"{root.path}: {some(names)} could each hold the labels; name one, such as {word}")


def files_in(folder: Folder) -> Found:
    """The files of labels right in a folder, of whatever name; ``.txt`` and ``.json`` only if there are no others."""
    names = sorted(folder.others)
    tables = _among(folder, [name for name in names if name.lower().endswith(_TABLES)])
    texts = [name for name in names if name.lower().endswith(KINDS) and not name.lower().endswith(_TABLES)]
    others = _among(folder, texts if not tables.files else [])
    unused = tables.unused + [each for each in others.unused if _is_telling(each.file.path)]
    for name in names:
        if name.lower().endswith(_OTHER_TABLES):
            unused.append(Unused(_file(folder, name), "it cannot be read here; save it as CSV"))
    return Found(tables.files or others.files, unused)


def labels_beside(root: Folder, layout: Layout) -> list[str]:
    """What to say of files of labels beside folders that say the labels, too.

    Raises:
        DataError: the labels of a file and the names of the class folders have nothing in common.
    """
    train = layout.parts["train"]
    lines = []
    for folder in [root] if root.is_same(train.folder) else [root, train.folder]:
        found = files_in(folder)
        if len(layout.parts) == 1:
            for file in found.files:
                _check_labels_agree(name_below(root, file), file, train)
        telling = [file for file, _ in found.unused if _is_telling(file.path)]
        lines += [f"{name_below(root, file)} is not used" for file in found.files + telling]
    return lines


def _check_labels_agree(name: str, file: LabelFile, part: Part) -> None:
    try:
        labels = {row.label.casefold() for row in rows(file)}
    except DataError:
        return  # nobody has asked for it
    if labels and labels.isdisjoint(class_name(name).casefold() for name in part.folder.folders):
        take = shlex.quote(f"data.labels={name}")
        leave = shlex.quote(f"data.train_dir={part.path.rstrip('/') or '.'}")
        raise DataError(
            f"{part.folder.path}: which are the labels? {name} has others than the names of the folders; "
            f"{take} takes the file, {leave} the folders"
        )


def name_below(root: Folder, file: LabelFile) -> str:
    """The path of a file below the root of its data set."""
    return Path(os.path.relpath(file.path, root.path)).as_posix()


def _is_telling(path: Path) -> bool:
    """Whether a name says that there are labels in the file, or in images of a split."""
    words = re.findall(r"[^\W_\d]+", path.stem.casefold())
    return bool(_TELLING.intersection(words)) or role_of(path.stem) is not None


def _among(folder: Folder, names: list[str]) -> Found:
    found = Found([], [])
    for name in names:
        file = _file(folder, name)
        if "submission" in name.lower():  # its labels are made up
            found.unused.append(Unused(file, "its name is that of a submission"))
            continue
        try:
            check_columns(file.path)
        except DataError as error:
            found.unused.append(Unused(file, str(error).removeprefix(f"{file.path}: ")))
        else:
            found.files.append(file)
    return found


def _file(folder: Folder, name: str) -> LabelFile:
    return LabelFile(folder.path / name, role_of(Path(name).stem))
