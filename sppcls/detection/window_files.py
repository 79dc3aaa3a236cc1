"""Windows that the user brings: ``.npz``, the ``.mat`` files of the literature's selective search, or JSON.

``.npz``
    an array (N, 4) for each image, under its name, as boxes of :mod:`sppcls.detection.boxes`.
``.json``
    ``{name: [[left, top, right, bottom], ...]}``, or a list of ``{"file_name": name, "bbox": [left, top, width, height]}``.
``.mat``
    cells ``images`` and ``boxes`` as of R-CNN and Fast R-CNN for VOC2007: (top, left, bottom, right), from 1 and inclusive.

A name may lack its extension and folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sppcls._util.files import replacing
from sppcls.data.sizes import Size
from sppcls.detection.boxes import as_boxes, clip, fault, from_voc
from sppcls.errors import DataError


def read_windows(path: Path) -> dict[str, np.ndarray]:
    """Windows by image name; raises DataError if the file is not one of the above."""
    readers = {".npz": _npz, ".json": _json, ".mat": _mat}
    if path.suffix not in readers:
        raise DataError(f"{path}: windows are read from {', '.join(readers)} files")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        found = readers[path.suffix](path)
    except DataError:
        raise
    except Exception as error:  # three libraries, each with errors of its own
        raise DataError(f"{path}: no windows can be read ({' '.join(str(error).split())[:160]})") from None
    return {Path(name).stem: boxes for name, boxes in found.items()} | found


def windows_of(windows: Mapping[str, np.ndarray], name: str, size: Size, path: Path) -> np.ndarray:
    """The windows of an image of (height, width) in a file that was read."""
    boxes = windows.get(name, windows.get(Path(name).stem))
    if boxes is None or not len(boxes):
        raise DataError(f"{path}: has no windows of image {name}")
    if wrong := fault(boxes, size):
        raise DataError(f"{path}: image {name}: window {wrong}; are its numbers in another order?")
    return clip(boxes, size)


def write_windows(path: Path, windows: Mapping[str, np.ndarray]) -> None:
    """Write an ``.npz`` file that :func:`read_windows` reads."""
    with replacing(path, "--out") as temporary:
        np.savez(temporary, **windows)  # type: ignore[arg-type]


def _npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: as_boxes(file[name]) for name in file.files}


def _json(path: Path) -> dict[str, np.ndarray]:
    data: Any = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(data, dict):
        return {str(name): as_boxes(boxes) for name, boxes in data.items()}
    by_name: dict[str, list[list[float]]] = {}
    for one in data:
        left, top, width, height = map(float, one["bbox"])
        by_name.setdefault(str(one["file_name"]), []).append([left, top, left + width, top + height])
    return {name: as_boxes(boxes) for name, boxes in by_name.items()}


def _mat(path: Path) -> dict[str, np.ndarray]:
    from scipy.io import loadmat

    data = loadmat(path)
    if not {"images", "boxes"} <= data.keys():
        raise DataError(f"{path}: has no cells images and boxes")
    names = [str(np.asarray(name).ravel()[0]) for name in data["images"].ravel()]
    # As float first: the files hold unsigned integers, in which 0 - 1 is 65,535.
    boxes = [as_boxes(one)[:, [1, 0, 3, 2]] for one in data["boxes"].ravel()]
    return {name: from_voc(one) for name, one in zip(names, boxes, strict=True)}
