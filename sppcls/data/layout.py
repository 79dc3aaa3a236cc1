"""Which folders of a data set hold what: splits and classes, found by their names."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sppcls.data.names import class_name, is_unlabelled, is_wrapping, role_of, roles_among, some
from sppcls.data.tree import Folder
from sppcls.errors import DataError

_WORDS = {"train": "training", "val": "validation", "test": "test"}


class NoClassFoldersError(DataError):
    """Images lie in folders that are not those of classes; labels may be elsewhere."""


@dataclass(frozen=True)
class Part:
    """A folder of class folders.

    Attributes:
        outer: the folder of the split.
        folder: that holds the class folders: the same, or the only folder in it.
        path: of the latter below the data set's root, ``/`` at its end; empty for the root itself.
        leave_out: names of folders in it that are no classes.
    """

    outer: Folder
    folder: Folder
    path: str
    leave_out: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Layout:
    """What a data set's folders are used for.

    Attributes:
        parts: folder of each split; ``train`` is always there.
        named: the splits whose folders were named; those in a named training folder are classes, whatever they are called.
        notes: what was seen and is not used, a line each.
    """

    parts: dict[str, Part]
    named: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)


def recognise(root: Folder, dirs: Mapping[str, str | None] | None = None) -> Layout:
    """Find the splits of a data set, or that it has none: its class folders are then the training part alone.

    Args:
        root: the data set.
        dirs: folders that are named, by split: below ``root`` or absolute.

    Raises:
        DataError: no training folder, or several folders could be meant; says what to type.
        NoClassFoldersError: the images are not in class folders.
    """
    named = {role: _named(root, role, value) for role, value in (dirs or {}).items() if value is not None}
    place, above = (root, "") if named else _below_wrappers(root)
    notes: list[str] = []
    found: dict[str, Part] = {}
    if "train" not in named or not named["train"].outer.is_same(root):
        beside = _without(place.folders, named.values())
        found, notes = _Beside(place, above, beside, named).find()
    parts = {"train": Part(place, place, above), **found, **named}
    _check_apart(parts)
    return Layout(_without_each_other(parts), frozenset(named), notes)


def _below_wrappers(root: Folder) -> tuple[Folder, str]:
    """The first folder below wrappings that holds more than one folder, or a split."""
    place, above = root, ""
    while (only := place.only()) is not None and role_of(only) is None:
        place, above = place.folders[only], f"{above}{only}/"
    return place, above


class _Beside:
    """Folders side by side, some of which may be splits.

    Args:
        place: the folder that they are in.
        above: its path below the root, for messages.
        folders: by name, without those that are named.
        named: the splits that are named.
    """

    def __init__(
        self, place: Folder, above: str, folders: Mapping[str, Folder], named: Mapping[str, Part]
    ) -> None:
        self.place, self.above, self.folders, self.named = place, above, folders, named
        self.roles = {role: names for role, names in roles_among(folders).items() if role not in named}
        for role, names in self.roles.items():
            self.roles[role] = [name for name in names if folders[name].holds_images] or names[:1]
        self.splits = [name for names in self.roles.values() for name in names]
        self.flat = [name for name in self.splits if _is_flat(name, folders[name])]
        self.empty = [name for name in self.splits if not folders[name].holds_images]

    def find(self) -> tuple[dict[str, Part], list[str]]:
        """The splits, and lines on what is not used; no splits where all are classes."""
        # Folders that look like classes: images lie right in them.
        loose = [
            name
            for name, folder in self.folders.items()
            if (folder.images or folder.unreadable) and role_of(name) is None and name not in self.splits
        ]
        if "train" not in self.named and loose and self.splits:
            if self.empty == self.splits:
                return {}, []
            if self.roles["train"] == self.splits == self.flat and len(self.splits) == 1:
                return {}, [f"{self.above}{self.splits[0]}/ is taken for a class: it holds no class folders"]
            labelled = [name for name in loose if not is_unlabelled(name)]
            if labelled:
                raise DataError(self._beside_classes(labelled))
        if not self.splits or (self.empty == self.splits and len(self.folders) > len(self.splits)):
            return {}, []
        for role, names in self.roles.items():
            if len(names) > 1:
                raise DataError(
                    f"{self.place.path}: {_folders(names)} could each be the {_WORDS[role]} folder; {self._advice()}"
                )
        found, notes = self._parts()
        if "train" not in found and "train" not in self.named:
            raise DataError(
                f"{self.place.path}: there is no training folder beside {_folders(self.splits)}; "
                "name one, data.train_dir=FOLDER"
            )
        unused = [n for n, folder in self.folders.items() if n not in self.splits and folder.holds_images]
        return found, notes + [f"{self.above}{name}/ is not used" for name in unused]

    def _parts(self) -> tuple[dict[str, Part], list[str]]:
        found, notes = {}, []
        for role, names in self.roles.items():
            for name in names:
                if name not in self.flat + self.empty:
                    inner, path = self.folders[name].innermost()
                    found[role] = Part(self.folders[name], inner, f"{self.above}{name}/{path}")
                elif role == "test":  # is often handed out without labels
                    why = "it holds no class folders" if name in self.flat else "it holds no image"
                    notes.append(f"{self.above}{name}/ is not used: {why}")
                elif name in self.flat:
                    raise NoClassFoldersError(self._no_classes())
                else:
                    raise DataError(
                        f"{self.place.path / name}: no image in it or below; remove it, or fill it"
                    )
        if self.flat and not found:
            raise NoClassFoldersError(self._no_classes())
        return found, notes

    def _beside_classes(self, classes: list[str]) -> str:
        text = f"{self.place.path}: {_folders(self.splits)} beside {_folders(classes)}: "
        if self.flat == self.splits:
            verb = "holds" if len(self.flat) == 1 else "hold"
            return (
                f"{text}splits or classes? {_folders(self.flat)} {verb} no class folders; if all are classes, "
                f"add {_word('train', self.above)}; else move {_folders(self.flat)} elsewhere"
            )
        return f"{text}splits or classes? {self._advice(among_classes=True)}"

    def _advice(self, among_classes: bool = False) -> str:
        """What to type to choose among the folders."""
        chosen = {role: f"{self.above}{names[0]}" for role, names in self.roles.items() if names}
        if among_classes and "train" not in chosen:
            chosen = {"train": self.above, **chosen}
        words = " ".join(_word(role, path) for role, path in chosen.items())
        bare = chosen.get("train") == self.above
        otherwise = "" if bare else f"; {_word('train', self.above)} if all are classes"
        return f"name the folders to use, such as {words}{otherwise}"

    def _no_classes(self) -> str:
        verb, these = ("holds", "it is a class") if len(self.flat) == 1 else ("hold", "they are classes")
        return (
            f"{self.place.path}: {_folders(self.flat)} {verb} images and no class folders; sort them into a folder for "
            f"each class, or name a file of labels, data.labels=FILE; if {these}, add {_word('train', self.above)}"
        )


def _is_flat(name: str, folder: Folder) -> bool:
    """Whether the images of a split lie in it and not in class folders."""
    while len(folder.folders) == 1 and not folder.images:  # as in train/train/*.jpg and test/images/*.jpg
        ((inner, only),) = folder.folders.items()
        if inner != name and not is_wrapping(inner):
            break
        folder = only
    return bool(folder.images or folder.unreadable) and not folder.classes


def _named(root: Folder, role: str, value: str) -> Part:
    if not value.strip():
        raise DataError(f"data.{role}_dir: empty; name a folder in {root.path}, or null")
    path = root.path / value
    if not os.path.isdir(path):
        what = "is a file, a folder of class folders is needed" if os.path.exists(path) else "no such folder"
        raise DataError(f"data.{role}_dir={value}: {what} ({path})")
    folder = Folder(path)
    if folder.is_same(root):
        return Part(root, root, "")
    inner, below = folder.innermost()
    return Part(folder, inner, f"{os.path.normpath(value)}/{below}")


def _check_apart(parts: Mapping[str, Part]) -> None:
    """Two splits must not share images."""
    for role, part in parts.items():
        for other in parts:
            if role == other:
                continue
            here, there = (Path(os.path.realpath(parts[r].outer.path)) for r in (role, other))
            if here == there:
                raise DataError(
                    f"data.{role}_dir and data.{other}_dir are the same folder, {part.outer.path}"
                )
            if there in here.parents and there != here.parent:
                raise DataError(f"data.{role}_dir: {part.outer.path} lies inside a class of {there}")


def _without_each_other(parts: dict[str, Part]) -> dict[str, Part]:
    """Folders of a split that lie among the classes of another are none of its classes."""
    made = {}
    for role, part in parts.items():
        kept = _without(part.folder.folders, [other for at, other in parts.items() if at != role])
        made[role] = replace(part, leave_out=frozenset(part.folder.folders.keys() - kept.keys()))
    return made


def _without(folders: Mapping[str, Folder], parts: Collection[Part]) -> dict[str, Folder]:
    """The folders that are not those of ``parts``."""
    return {n: f for n, f in folders.items() if not any(f.is_same(part.outer) for part in parts)}


def check_depth(part: Part) -> None:
    """Refuse "classes" that look like folders one level above the classes.

    Raises:
        DataError: names what gave it away, and the likely root.
    """
    classes = {n: f for n, f in part.folder.classes.items() if n not in part.leave_out}
    inside = {n: set(map(class_name, f.classes)) for n, f in classes.items() if not f.images}
    here = {class_name(name) for name in classes}
    literal = f"if these are the classes, add {_word('train', part.path)}"
    for name, subs in inside.items():
        roles = {role for role, names in roles_among(subs).items() if names}
        if len(roles) > 1 and len([n for n in inside if inside[n] == subs]) > 1:
            raise DataError(
                f"{part.folder.path}: the splits are inside the classes ({name}/{min(subs)}/); put the classes into the "
                f"splits ({min(subs)}/{name}/), or name a file of labels, data.labels=FILE; {literal}"
            )
        if len(roles) > 1:
            raise DataError(_too_high(part, name, f"{name}/ holds {_folders(sorted(subs))}", literal))
        if len(subs & here) > 1:
            raise DataError(
                _too_high(part, name, f"{name}/ holds folders of the same names as those beside it", literal)
            )
        twins = [n for n, others in inside.items() if 2 * len(subs & others) > len(subs | others)]
        if len(subs) > 1 and len(twins) > 1:
            images = {n: sum(len(f.images) for _, f in classes[n].walk()) for n in twins}
            # The split to train on is the larger one; of equal ones that which says so in any language.
            twins.sort(key=lambda n: (-images[n], "train" not in n.lower()))
            shared = some(sorted(subs), 3)
            text = f"{_folders(sorted(twins))} hold the same folders ({shared})"
            words = " ".join(
                _word(r, part.path + twin) for r, twin in zip(("train", "val"), twins, strict=False)
            )
            raise DataError(_too_high(part, twins[0], text, f"if they are splits, add {words}; {literal}"))


def _too_high(part: Part, name: str, what: str, otherwise: str) -> str:
    return (
        f"{part.folder.path}: one level too high? {what}; the likely root is {shlex.quote(f'data.root={part.folder.path / name}')}; "
        f"{otherwise}"
    )


def _word(role: str, path: str) -> str:
    """What to type to name the folder of a split."""
    return shlex.quote(f"data.{role}_dir={path.rstrip('/') or '.'}")


def _folders(names: list[str]) -> str:
    shown = [f"{name}/" for name in names[:4]]
    if len(names) > 4:
        return f"{', '.join(shown)} and {len(names) - 4} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
