"""Data sets of Hugging Face's ``datasets`` that lie on this machine: saved ones, and parquet files."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sppcls._util.reason import reason_of
from sppcls.data.decode import MAX_PIXELS, decode
from sppcls.data.files import Splits
from sppcls.data.hold_out import held_out
from sppcls.data.names import ROLES, in_order, roles_among, some
from sppcls.data.pixel_range import PixelRange, as_pixel_range
from sppcls.errors import ConfigError, DataError, ImageError
from sppcls.registry import register


class HuggingFaceSource:
    """Rows of a ``datasets.Dataset`` with an image column; the image files in it are decoded here.

    Args:
        dataset: its image column gives files, not decoded ones.
        column: the image column.
        split: before the names of images.
        rows: numbers of the rows.
        labels: int32, class number of each of these rows.
        classes: names of the classes.
        max_pixels: refuse larger images.
        pixel_range: how grey of more than 8 bits becomes 8 bits.
    """

    def __init__(
        self,
        dataset: Any,
        column: str,
        split: str,
        rows: npt.NDArray[np.int64],
        labels: npt.NDArray[np.int32],
        classes: Sequence[str],
        max_pixels: int = MAX_PIXELS,
        pixel_range: PixelRange = "full",
    ) -> None:
        self._dataset, self._column, self._split, self._rows = dataset, column, split, rows
        self.classes, self.max_pixels, self.pixel_range = list(classes), max_pixels, pixel_range
        self.targets = array("i", labels.astype(np.intc).tobytes())

    def __len__(self) -> int:
        return len(self.targets)

    def name(self, index: int) -> str:
        return f"{self._split}/{int(self._rows[index]):07d}"

    def image(self, index: int) -> torch.Tensor:
        """uint8 (3, H, W); raises ImageError, naming the row."""
        try:
            value = self._dataset[int(self._rows[index])][self._column]
        except Exception as error:  # of Arrow, of many types
            raise ImageError(f"{self.name(index)}: {reason_of(error)}") from error
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise ImageError(f"{self.name(index)}: the row holds no image file")
        try:
            return decode(data, self.max_pixels, self.pixel_range)
        except ImageError as error:
            raise ImageError(f"{self.name(index)}: {error}") from error


@register("data", "huggingface")
def huggingface(
    root: str | None = None,
    image: str = "image",
    label: str = "label",
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
        label: column of classes: numbers, or names.
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
    labels, classes = _labels({role: found[name] for role, name in chosen.items()}, label, root)
    read: dict[str, HuggingFaceSource] = {}
    unused = []
    for role, numbers in labels.items():
        if (numbers < 0).any():
            if role == "test":  # as the test splits of competitions are
                unused.append(f"{chosen[role]} is not used: it has no labels")
                continue
            raise DataError(f"data.root={root}: {(numbers < 0).sum():,} rows of {chosen[role]} have no label")
        files, rows = _files(found[chosen[role]], image, root), np.arange(len(numbers))
        grey = as_pixel_range(pixel_range)
        read[role] = HuggingFaceSource(files, image, chosen[role], rows, numbers, classes, max_pixels, grey)
    words = [f"{chosen[role]} {len(source):,}" for role, source in read.items()]
    held_out = "val" not in read
    if held_out:
        read["train"], read["val"] = _hold_out(read["train"], val_fraction)
        share = f"data.val_fraction={val_fraction:g}"
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


def _labels(
    splits: dict[str, Any], column: str, root: str
) -> tuple[dict[str, npt.NDArray[np.int32]], list[str]]:
    """Class numbers of each split, -1 where there is none, and the names of the classes."""
    values = {}
    for role, dataset in splits.items():
        _column(dataset, "label", column, root)
        values[role] = dataset.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    names = getattr(splits["train"].features[column], "names", None)
    if not all(v is None or isinstance(v, int | str) for of_role in values.values() for v in of_role):
        raise DataError(f"data.label={column}: its values are neither whole numbers nor names")
    there = {value for value in values["train"] if value is not None}
    if not there:
        raise DataError(f"data.root={root}: no row of {column} has a class")
    if names is not None:
        number: dict[Any, int] = {index: index for index in range(len(names))}
    elif all(isinstance(value, int) for value in there):
        values_there = sorted(value for value in there if value != -1)  # which are no count: 1 to 10, say
        names = [str(value) for value in values_there]
        number = {value: index for index, value in enumerate(values_there)}
    else:
        names = in_order(map(str, there))
        number = {name: index for index, name in enumerate(names)}
    for role, of_role in values.items():
        unknown = [str(v) for v in dict.fromkeys(of_role) if v not in (None, -1) and v not in number]
        if unknown:
            raise DataError(f"data.root={root}: {role} has class {some(unknown)}, which training has not")
    found = {role: np.array([number.get(v, -1) for v in of], np.int32) for role, of in values.items()}
    return found, list(names)


def _files(dataset: Any, column: str, root: str) -> Any:
    """The data set, its image column giving the files as they are."""
    import datasets

    _column(dataset, "image", column, root)
    dataset = dataset.with_format(None)  # it may have been saved with other columns hidden
    if isinstance(dataset.features[column], datasets.Image):
        return dataset.cast_column(column, datasets.Image(decode=False))
    return dataset


def _hold_out(source: HuggingFaceSource, val_fraction: float) -> list[HuggingFaceSource]:
    """[train, val]: in each class, the rows whose numbers hash lowest are val."""
    labels, setting = np.array(source.targets), f"data.val_fraction={val_fraction}"
    names = [source.classes[label] for label in source.targets]
    val = np.array(held_out(names, range(len(labels)), val_fraction, setting))
    return [
        HuggingFaceSource(
            source._dataset, source._column, source._split, rows, labels[rows], source.classes, source.max_pixels,
            source.pixel_range,
        )
        for rows in (np.flatnonzero(~val), np.flatnonzero(val))
    ]  # fmt: skip
