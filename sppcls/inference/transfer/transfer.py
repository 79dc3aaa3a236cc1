"""How good the features of a network are for other images: a linear SVM on each layer (He et al. 2015, sec. 4).

Features are taken without augmentation, after their ReLU and without dropout, and l2-normalised. With ``layers`` and
two views the result is a table such as the paper's Tables 6 (VOC2007) and 7 (Caltech101).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from tqdm import tqdm

from sppcls._util.console import table
from sppcls._util.files import check_new_file, write_csv
from sppcls._util.near import choose_from
from sppcls.data.voc import find_voc, read_voc
from sppcls.errors import ConfigError
from sppcls.inference.feature_stream import RowFile, stream_features
from sppcls.inference.features import check_any
from sppcls.inference.layers import check_layers, last_map, layer_names, map_layers
from sppcls.inference.transfer.tasks import Measured, Task, VOCTask, caltech_task, folder_task, svm_module
from sppcls.inference.views import View, choose_view
from sppcls.nn import SPPClassifier
from sppcls.nn.model_info import model_info_of

PROTOCOLS = ("folder", "caltech101", "voc07")
_COLUMNS = [
    "layer",
    "view",
    "shorter_side",
    "length",
    "measure",
    "class",
    "mean",
    "std",
    "splits",
    "protocol",
]


@dataclass(frozen=True)
class LayerScore:
    """What an SVM on one layer reached.

    Attributes:
        layer: name.
        view: what the network saw of each image.
        length: of the feature vectors.
        measured: figures in per cent, by measure, class and split.
    """

    layer: str
    view: View
    length: int
    measured: Measured


@dataclass(frozen=True)
class TransferTable:
    """Figures of all layers and views; ``str()`` of it is a table.

    Attributes:
        protocol: in words.
        scores: one for each layer and view.
        bad: one line for each image that could not be read and is left out.
    """

    protocol: str
    scores: list[LayerScore]
    bad: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        views = list(dict.fromkeys(score.view for score in self.scores))
        measures = list(self.scores[0].measured.overall)
        found = {(score.layer, score.view): score for score in self.scores}
        rows = []
        for layer in dict.fromkeys(score.layer for score in self.scores):
            cells = [found.get((layer, view)) for view in views]
            lengths = {score.length for score in cells if score}
            rows.append(
                [layer, "/".join(map(str, sorted(lengths)))]
                + [_shown(score.measured.overall[m]) if score else "–" for score in cells for m in measures]
            )
        header = ["layer", "length", *(f"{view.kind}: {m}, %" for view in views for m in measures)]
        lines = [self.protocol, *(f"view {view}" for view in views), "", table(rows, header)]
        unfinished = sum(score.measured.unfinished for score in self.scores)
        if unfinished:
            lines += ["", f"{unfinished} SVM(s) did not converge."]
        return "\n".join(lines)

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write a CSV file: a row per layer, view, measure and, where ``class`` is not empty, class.

        ``std`` is the standard deviation over splits (n - 1), empty for one split.

        Raises:
            ConfigError: the file exists already or cannot be written.
        """
        path, rows = check_new_file(path, overwrite), []
        for score in self.scores:
            start = [score.layer, score.view.kind, score.view.shorter_side, score.length]
            for measure, name, values in _figures(score.measured):
                std = f"{stdev(values):.4f}" if len(values) > 1 else ""
                cells = [*start, measure, name, f"{mean(values):.4f}", std, len(values), self.protocol]
                rows.append(dict(zip(_COLUMNS, cells, strict=True)))
        write_csv(path, rows, _COLUMNS)


def _figures(measured: Measured) -> list[tuple[str, str, list[float]]]:
    """(measure, class, values): first those over all classes."""
    overall = [(measure, "", values) for measure, values in measured.overall.items()]
    return overall + [
        (measure, name, values)
        for measure, classes in measured.by_class.items()
        for name, values in classes.items()
    ]


def _shown(values: Sequence[float]) -> str:
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def transfer(
    net: SPPClassifier,
    folder: str | os.PathLike[str],
    layers: str | Sequence[str] | None = None,
    *,
    protocol: str | None = None,
    view: str | Sequence[str] | None = None,
    shorter_side: int | None = None,
    per_class: int | None = None,
    test_per_class: int | None = None,
    splits: int | None = None,
    seed: int = 0,
    c: float = 1.0,
    batch_size: int = 32,
    workers: int = 0,
) -> TransferTable:
    """Train and test a linear SVM on each layer's features of a folder of images.

    Every image goes through the network once for each view, whatever the number of layers. Features wait in a
    temporary folder: images x length x 4 bytes for each layer.

    Args:
        net: from :func:`sppcls.load_classifier`; its device is used.
        folder: the images.
        layers: of :func:`~sppcls.inference.layers.layer_names`; None: those of the paper's tables that the network
            has, from the finest level of the pyramid to the last hidden layer, and the last map of crops.
        protocol: ``folder``: one split, ``train`` and ``val``, or else random ones; ``caltech101``: random ones;
            ``voc07``: the folder of a VOC development kit. None: by the folder.
        view: ``full``, ``crop`` or both; None: ``full``, or ``crop`` for a network of one size. Layers that are maps
            are measured on crops only.
        shorter_side: of an image in pixels; None: that of the crop, as in the paper's sec. 4: 224 for 224.
        per_class, test_per_class: images of each class that random splits train on (30) and test on at most (50).
            ``per_class`` draws random splits from ``train`` and ``val`` together.
        splits: number of random splits (10).
        seed: of the random splits.
        c: the SVM's C.
        batch_size: images at once, where shapes agree.
        workers: processes that read images.

    Raises:
        ConfigError: an unknown layer, view or protocol, options that do not go together, or no scikit-learn.
        DataError: images or annotations are missing, broken or too few.

    Examples:
        >>> table = sppcls.transfer(net, "PHOTOS", layers=["spp", "fc7"])
        >>> print(table)
    """
    model_info = model_info_of(net)
    svm_module()
    if not c > 0:
        raise ConfigError(f"C {c}: must be greater than 0")
    kinds: Sequence[str | None] = [None]  # neither named nor an empty word
    if view:
        kinds = [view] if isinstance(view, str) else list(dict.fromkeys(view))
    side = min(model_info["val_sizes"][0]) if shorter_side is None else shorter_side
    # Crops first, as in the paper's tables.
    views = sorted((choose_view(net, kind, side) for kind in kinds), key=lambda seen: seen.kind)
    asked = [layers] if isinstance(layers, str) else layers
    chosen = list(dict.fromkeys(asked)) if asked else default_layers(net, views)
    plan = [(seen, _layers_of(net, chosen, seen, views)) for seen in views]
    task = make_task(folder, protocol, per_class, test_per_class, splits, seed)
    bad: list[str] = []
    scores: list[LayerScore] = []
    for seen, names in plan:
        if names:
            scores += _measure(net, task, names, seen, c, batch_size, workers, bad)
    order = {layer: place for place, layer in enumerate(chosen)}
    scores.sort(key=lambda score: order[score.layer])
    words = f"{task}; linear SVM, C={c:g}, l2-normalised features"
    return TransferTable(words, scores, list(dict.fromkeys(bad)))


def default_layers(net: SPPClassifier, views: Sequence[View]) -> list[str]:
    """What ``layers=None`` stands for."""
    names, maps = layer_names(net), map_layers(net)
    finest = [name for name in names if name.startswith("level")][:1]
    chosen = [name for name in names if name in (*finest, "spp", "pool") or name.startswith("fc")]
    if any(view.kind == "crop" for view in views):
        return [last_map(net), *chosen]
    return [name for name in chosen if name not in maps] or ["logits"]


def make_task(
    folder: str | os.PathLike[str],
    protocol: str | None = None,
    per_class: int | None = None,
    test_per_class: int | None = None,
    splits: int | None = None,
    seed: int = 0,
) -> Task:
    """Images and protocol; arguments and errors as of :func:`transfer`."""
    options = {"per_class": per_class, "test_per_class": test_per_class, "splits": splits}
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {value}: must be at least 1")
    if protocol is None:
        protocol = "folder" if find_voc(folder) is None else "voc07"
    if protocol not in PROTOCOLS:
        raise ConfigError(f"protocol {protocol!r}: {choose_from(protocol, PROTOCOLS)}")
    if protocol == "voc07":
        for name, value in given.items():
            raise ConfigError(
                f"--{name.replace('_', '-')} {value}: a VOC folder has its own split, trainval and test"
            )
        return VOCTask(read_voc(folder))
    return (folder_task if protocol == "folder" else caltech_task)(folder, seed, **given)


def _layers_of(net: SPPClassifier, layers: Sequence[str], view: View, views: Sequence[View]) -> list[str]:
    """The layers measured on a view."""
    if view.kind == "full" and len(views) > 1:
        check_layers(net, layers, "crop")
        return [layer for layer in layers if layer not in map_layers(net)]
    check_layers(net, layers, view.kind)
    return list(layers)


def _measure(
    net: SPPClassifier,
    task: Task,
    layers: Sequence[str],
    view: View,
    c: float,
    batch_size: int,
    workers: int,
    bad: list[str],
) -> list[LayerScore]:
    """Features of all layers in one pass, then the SVMs of one layer after the other."""
    paths = [task.root / name for name in task.names]
    kept: list[int] = []
    scores = []
    with tempfile.TemporaryDirectory(prefix="sppcls-") as folder, ExitStack() as stack:
        files = {layer: stack.enter_context(RowFile(Path(folder) / f"{layer}.rows")) for layer in layers}
        for indices, values in stream_features(
            net, paths, layers, view, bad=bad, batch_size=batch_size, workers=workers
        ):
            try:
                for layer, file in files.items():
                    file.append(normalised(values[layer]))
            except OSError as error:
                raise ConfigError(
                    f"{folder}: features cannot be written ({error.strerror}); set TMPDIR to a folder with more room"
                ) from None
            kept += indices
        check_any(kept, task.root, bad)
        task.check(np.array(kept))
        for layer in tqdm(layers, disable=None, leave=False, unit="layer", desc="SVMs"):
            rows = files[layer].array()
            scores.append(LayerScore(layer, view, rows.shape[1], task.measure(rows, np.array(kept), c)))
    return scores


def normalised(rows: np.ndarray) -> np.ndarray:
    """Rows (N, D) divided by their l2 norm; a row of zeros stays one."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)
