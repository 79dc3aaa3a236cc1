"""Data sets of Hugging Face's ``datasets`` that lie on this machine: saved ones, and parquet files."""

from __future__ import annotations

import copy
import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from sppcls._util.reason import reason_of
from sppcls.data.decode import MAX_PIXELS, decode
from sppcls.data.files import Splits
from sppcls.data.hold_out import hold_out
from sppcls.data.label_columns import read_columns
from sppcls.data.label_sets import LabelSets, some_targets, targets_of
from sppcls.data.names import ROLES, roles_among, some
from sppcls.data.pixel_range import PixelRange, as_pixel_range
from sppcls.errors import ConfigError, DataError, ImageError, Interrupted
from sppcls.registry import instead, register


class HuggingFaceSource:
    """Rows of a ``datasets.Dataset`` with an image column; the image files in it are decoded here.

    Args:
        dataset: its image column gives files, not decoded ones.
        column: the image column.
        split: before the names of images.
        targets: class number of each row, or :class:`~sppcls.data.label_sets.LabelSets`.
        classes: names of the classes.
        max_pixels: refuse larger images.
        pixel_range: how grey of more than 8 bits becomes 8 bits.
    """

    def __init__(
        self,
        dataset: Any,
        column: str,
        split: str,
        targets: Any,
        classes: Sequence[str],
        max_pixels: int = MAX_PIXELS,
        pixel_range: PixelRange = "full",
    ) -> None:
        self._dataset, self._column, self._split = dataset, column, split
        self.targets = targets if isinstance(targets, LabelSets) else array("i", targets)
        self.classes, self.max_pixels, self.pixel_range = list(classes), max_pixels, pixel_range
        self._rows = np.arange(len(targets))

    def __len__(self) -> int:
        return len(self.targets)

    def part(self, mask: npt.NDArray[np.bool_]) -> HuggingFaceSource:
        """Some of the rows."""
        made = copy.copy(self)
        made._rows, made.targets = self._rows[mask], some_targets(self.targets, mask)
        return made

    def name(self, index: int) -> str:
        return f"{self._split}/{int(self._rows[index]):07d}"

    def image(self, index: int) -> torch.Tensor:
        """uint8 (3, H, W); raises ImageError, naming the row."""
        try:
            value = self._dataset[int(self._rows[index])][self._column]
        except Interrupted:  # a signal that came within
            raise
        except Exception as error:  # of Arrow, of many types
            raise ImageError(f"{self.name(index)}: {reason_of(error)}") from error
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise ImageError(f"{self.name(index)}: the row holds no image file")
        try:
            return decode(data, self.max_pixels, self.pixel_range)
        except ImageError as error:
            raise ImageError(f"{self.name(index)}: {error}") from error


_NO_CACHE = "its rows are decoded each time, or type data=folder for image files: leave it out"


@register("data", "huggingface")
@instead(
    {
        **dict.fromkeys(("cache", "cache_dir", "cache_shorter_side"), _NO_CACHE),
        "labels": "data.label=COLUMN names the labels",
        **{f"{role}_dir": f"data.{role}=SPLIT names the split" for role in ROLES},
        "download": "nothing is fetched: data.root is what save_to_disk has written, or a folder of parquet files",
    }
)
def huggingface(
    root: str | None = None,
    image: str = "image",
    label: Any = "label",
    multi_label: Literal[None, True, False, "comma", "space"] = None,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
    val_fraction: float = 0.2,
    max_pixels: int = MAX_PIXELS,
    pixel_range: Any = "full",
) -> Splits:
    """The splits of a data set that ``save_to_disk`` has written, or of a folder of parquet files.

    No script of a data set is run, and nothing is fetched.

    Args:
        root: folder of the data set.
        image: column of images.
        label: column of classes: numbers, names or lists of them; or a list of columns with a 0 or a 1 for each class.
        multi_label: several labels an image: true (between | or ;), comma, space, or false; null: what the column shows.
        train: name of the training split; null: recognised.
        val: name of the validation split; null: recognised, or held out.
        test: name of the test split; null: recognised, if there is one with labels.
        val_fraction: share of each class held out where there is no validation split.
        max_pixels: largest image accepted, in pixels.
        pixel_range: grey of more than 8 bits: full (white is the depth's largest value), image (each its own), [black,white].

    Raises:
        ConfigError: a key names what is not there.
        DataError: the data set is missing or damaged, or has rows without a label.
    """
    if not root:
        raise ConfigError(
            "data.root: missing; data=huggingface needs the folder of a saved data set or of parquet files"
        )
    found = _load(Path(root))
    chosen = _choose(found, {"train": train, "val": val, "test": test}, root)
    columns = list(label) if isinstance(label, list | tuple) else [label]
    if columns != [label] and len(columns) < 2:
        raise ConfigError(
            f"data.label={label}: name a column for each class, or the one column without a list"
        )
    values = {role: _values(found[name], columns, root) for role, name in chosen.items()}
    feature = found[chosen["train"]].features[columns[0]]
    names = getattr(getattr(feature, "feature", feature), "names", None)  # of a list, or of one
    labels = read_columns(values, columns, names, multi_label, f"data.label={label}")
    number = {key: index for index, key in enumerate(labels.keys)}
    read: dict[str, HuggingFaceSource] = {}
    unused = []
    for role, rows in labels.rows.items():
        known = [row for row in rows if row is not None]
        if len(known) < len(rows):
            if role == "test":  # as the test splits of competitions are
                unused.append(f"{chosen[role]} is not used: it has no labels")
                continue
            raise DataError(
                f"data.root={root}: {len(rows) - len(known):,} rows of {chosen[role]} have no label"
            )
        if unknown := [str(key) for row in known for key in row if key not in number]:
            raise DataError(
                f"data.root={root}: {role} has class {some(list(dict.fromkeys(unknown)))}, which training has not"
            )
        targets, files = targets_of(known, number, labels.several), _files(found[chosen[role]], image, root)
        grey = as_pixel_range(pixel_range)
        read[role] = HuggingFaceSource(files, image, chosen[role], targets, labels.classes, max_pixels, grey)
    words = [f"{chosen[role]} {len(source):,}" for role, source in read.items()]
    held_out = "val" not in read
    if held_out:
        share = f"data.val_fraction={val_fraction:g}"
        read["train"], read["val"] = hold_out(read["train"], val_fraction, share, key=int)
        words.append(f"{len(read['val']):,} of train held out for validation ({share})")
    line = "; ".join([", ".join(words), *unused])
    return Splits(read["train"], read["val"], read.get("test"), line, held_out=held_out)


def _load(root: Path) -> dict[str, Any]:
    """The data sets in a folder by the names of their splits."""
    try:
        import datasets
    except ImportError:
        raise DataError(
            'data=huggingface needs the package datasets: pip install "sppcls[huggingface]"'
        ) from None
    if not root.exists():
        raise DataError(f"data.root={root}: no such folder")
    parquet = sorted(root.rglob("*.parquet")) if root.is_dir() else [root]
    try:
        if root.is_dir() and not parquet:
            if not any((root / name).is_file() for name in ("dataset_dict.json", "state.json")):
                raise DataError(
                    f"data.root={root}: neither a data set that save_to_disk has written nor parquet files"
                )
            found = datasets.load_from_disk(str(root))
            return dict(found) if isinstance(found, dict) else {"train": found}
        by_split: dict[str, list[str]] = {}
        for path in parquet:
            stem = re.sub(r"([-_.]\d+)?([-_]of[-_]\d+)?([-_][0-9a-f]{16})?$", "", path.stem)
            name = stem if stem and not stem.isdigit() else path.parent.name
            by_split.setdefault(name, []).append(str(path))
        return {name: datasets.Dataset.from_parquet(files) for name, files in by_split.items()}
    except DataError:
        raise
    except Exception as error:  # of datasets and Arrow, of many types
        raise DataError(f"data.root={root}: cannot be read ({reason_of(error, 300)})") from None


def _choose(found: dict[str, Any], asked: dict[str, str | None], root: str) -> dict[str, str]:
    """Names of the splits by role."""
    roles = roles_among(found)
    chosen = {}
    for role in ROLES:
        name = asked[role]
        if name is None:
            names = [name for name in roles[role] if name not in asked.values()]
            if len(names) > 1:
                raise ConfigError(f"data.{role}: {some(names)} could each be it; name one")
            name = names[0] if names else None
        if name is None and role == "train" and len(found) == 1:
            name = next(iter(found))
        if name is None:
            continue
        if name not in found:
            raise ConfigError(f"data.{role}={name}: {root} has no such split; choose from {', '.join(found)}")
        chosen[role] = name
    if "train" not in chosen:
        raise ConfigError(f"data.train: which split is trained on? choose from {', '.join(found)}")
    return chosen


def _column(dataset: Any, key: str, column: str, root: str) -> None:
    if column not in dataset.column_names:
        names = ", ".join(dataset.column_names)
        raise ConfigError(f"data.{key}={column}: {root} has no such column; choose from {names}")


def _values(dataset: Any, columns: Sequence[str], root: str) -> list[tuple[Any, ...]]:
    """The values of some columns, row by row."""
    for column in columns:
        _column(dataset, "label", column, root)
    table = dataset.select_columns(list(columns)).with_format("arrow")[:]
    return list(zip(*(table[column].to_pylist() for column in columns), strict=True))


def _files(dataset: Any, column: str, root: str) -> Any:
    """The data set, its image column giving the files as they are."""
    import datasets

    _column(dataset, "image", column, root)
    dataset = dataset.with_format(None)  # it may have been saved with other columns hidden
    if isinstance(dataset.features[column], datasets.Image):
        return dataset.cast_column(column, datasets.Image(decode=False))
    return dataset
