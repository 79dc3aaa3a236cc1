"""What the names of files and folders say: splits, classes, and what is no part of a data set."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

ROLES = ("train", "val", "test")
"""The splits of a data set: to train on, to choose the best epoch by, and kept for the end."""

_ROLE_OF = {
    **dict.fromkeys(("train", "trains", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(
        ("val", "vals", "valid", "validate", "validation", "validating", "dev", "development", "eval",
         "evaluation"), "val",
    ),
    **dict.fromkeys(("test", "tests", "testing", "tst"), "test"),
}  # fmt: skip

# Words that people put before or after the name of a split.
_FILLERS = frozenset(
    ("set", "sets", "seg", "split", "data", "dataset", "datasets", "image", "images", "img", "imgs", "photo", "photos",
     "pic", "pics", "picture", "pictures", "folder", "dir", "samples")
)  # fmt: skip

_UNLABELLED = frozenset(
    ("pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled", "inference")
)

# Left by file managers, archivers, network drives and notebooks, in lower case; hidden names go without saying.
_JUNK = frozenset(
    ("__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "@eadir",
     "@__thumb", "#recycle", "@recycle", "@recently-snapshot", "$recycle.bin", "recycler", "system volume information",
     "lost+found")
)  # fmt: skip


def is_junk(name: str) -> bool:
    """Whether a file or folder is hidden, or kept there by a system for itself."""
    return name[0] == "." or name.lower() in _JUNK


def role_of(name: str) -> str | None:
    """Which split a name stands for, one of ``ROLES``; None if it is not the usual name of one.

    Case, the signs between words, and words such as "set", "images" or "data" do not matter: ``Training_set``,
    ``seg_train`` and ``trainImages`` are all ``train``; so are years and sizes at the end (``train2017``).
    """
    role, rest = _role_and_rest(name)
    return None if rest else role


def roles_among(names: Iterable[str]) -> dict[str, list[str]]:
    """Names of folders side by side, by the split that they stand for.

    Side by side, splits may have the name of the data set in common: ``flowers_train`` and ``flowers_test``.
    """
    by_rest: dict[tuple[str, ...], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in names:
        role, rest = _role_and_rest(name)
        if role:
            by_rest[rest][role].append(name)
    found: dict[str, list[str]] = {role: [] for role in ROLES}
    for rest, roles in by_rest.items():
        for role, members in roles.items():
            if not rest or len(roles) > 1:
                found[role] += members
    return found


def _role_and_rest(name: str) -> tuple[str | None, tuple[str, ...]]:
    """The split that a name begins or ends with, and its other words."""
    words = _words(name)
    if words[:2] == ["train", "val"]:
        words[:2] = ["trainval"]
    for at in (-1, 0):
        if words and (role := _ROLE_OF.get(words[at])):
            del words[at]
            return role, tuple(words)
    return None, tuple(words)


def is_unlabelled(name: str) -> bool:
    """Whether a name is that of a folder of images without labels, such as ``seg_pred``."""
    return bool(_UNLABELLED.intersection(_words(name)))


def is_wrapping(name: str) -> bool:
    """Whether a name is that of a split, or says no more than that there are images in it."""
    return role_of(name) is not None or not _words(name)


def _words(name: str) -> list[str]:
    """The words of a name in lower case without fillers and trailing numbers."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", name))
    words = re.findall(r"[^\W_]+", apart.casefold())
    kept = []
    for word in words:
        word = re.sub(r"(?<=\D)\d+$", "", word)
        for filler in ("dataset", "images", "image", "data", "set"):  # written together, as in "trainset"
            if word not in _FILLERS and word.removesuffix(filler) in _ROLE_OF:
                word = word.removesuffix(filler)
        kept.append(word)
    while len(kept) > 1 and (kept[-1].isdigit() or re.fullmatch(r"\d+x\d*", kept[-1])):
        kept.pop()
    return [word for word in kept if word not in _FILLERS]


def class_name(name: str) -> str:
    """The name of a class in composed letters (NFC): macOS writes the same word in two ways."""
    return unicodedata.normalize("NFC", name)


def in_order(names: Iterable[str]) -> list[str]:
    """Class names as they are numbered: by their text, or by their value if all are whole numbers."""
    names = list(names)
    if all(name.isascii() and name.isdigit() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ in case, spaces or forms of the same letters only."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups["".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    return [group for group in groups.values() if len(group) > 1]


def some(names: Sequence[str], most: int = 5) -> str:
    """Names in quotes, the first few of many."""
    return few(list(map(repr, names)), most)


def counted(counts: Mapping[str, int], most: int = 5) -> str:
    """Names in quotes with their counts, the first few of many."""
    return few([f"{name!r} {count:,}" for name, count in counts.items()], most)


def few(words: Sequence[str], most: int = 5) -> str:
    """The first few of many words: ``a, b and 3 more``."""
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
