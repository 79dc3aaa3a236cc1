"""What linear SVMs learn from features, and how they are judged: classes of class folders, or those of VOC."""

from __future__ import annotations

import inspect
import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from sppcls.data.files import FileSource
from sppcls.data.folder import given_splits
from sppcls.data.names import class_name
from sppcls.data.seeding import derive
from sppcls.data.voc import VOCImages, average_precision, check_voc
from sppcls.errors import ConfigError, DataError
from sppcls.inference.features import list_images

_BLOCK = 1024  # test rows at once
_MAX_ITER = 10_000


@dataclass
class Measured:
    """Figures in per cent, one for each split.

    Attributes:
        overall: by measure.
        by_class: by measure and class; without the classes that a split cannot judge.
        unfinished: SVMs that did not converge.
    """

    overall: dict[str, list[float]] = field(default_factory=dict)
    by_class: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    unfinished: int = 0

    def add(self, measure: str, value: float, by_class: dict[str, float]) -> None:
        """Add the figures of one split, fractions."""
        self.overall.setdefault(measure, []).append(100 * value)
        classes = self.by_class.setdefault(measure, {})
        for name, share in by_class.items():
            classes.setdefault(name, []).append(100 * share)


@dataclass(frozen=True)
class Draw:
    """Random splits: the paper's for Caltech101 (sec. 4.4).

    Attributes:
        per_class: images of each class to train on.
        test_per_class: most images of each class to test on.
        splits: their number.
        seed: any integer.
    """

    per_class: int = 30
    test_per_class: int = 50
    splits: int = 10
    seed: int = 0


class ClassTask:
    """One class per image, and a given split or random ones.

    Args:
        root, names: the images.
        labels: (N,) class numbers.
        classes: their names.
        split: bool (N,), whether an image is a test image; or how splits are drawn.
    """

    def __init__(
        self, root: Path, names: list[str], labels: np.ndarray, classes: list[str], split: np.ndarray | Draw
    ) -> None:
        self.root, self.names, self.labels, self.classes, self.split = root, names, labels, classes, split

    def __str__(self) -> str:
        if not isinstance(self.split, Draw):
            train, test = int((~self.split).sum()), int(self.split.sum())
            return f"{len(self.classes)} classes; the given split: {train} training, {test} test images"
        draw = self.split
        return (
            f"{len(self.classes)} classes; {draw.splits} random split(s): {draw.per_class} training and at most "
            f"{draw.test_per_class} test images per class, seed {draw.seed}"
        )

    def check(self, kept: np.ndarray) -> None:
        """Raise DataError if the images numbered ``kept`` are too few."""
        labels = self.labels[kept]
        if not isinstance(self.split, Draw):
            is_test = self.split[kept]
            gone = [name for i, name in enumerate(self.classes) if not (labels[~is_test] == i).any()]
            if gone:
                raise DataError(f"{self.root}: no training image of class {gone[0]!r} can be read")
            if not is_test.any():
                raise DataError(f"{self.root}: no test image can be read")
            return
        least = self.split.per_class
        for number, name in enumerate(self.classes):
            count = int((labels == number).sum())
            if count <= least:
                hint = f", so lower --per-class to {count - 1}" if count > 1 else ""
                raise DataError(
                    f"{self.root}: class {name!r} has {count} image(s); {least} to train on and one to test on are "
                    f"needed at least{hint}"
                )

    def splits(self, kept: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Places in ``kept`` of the training images and of the test images of each split."""
        if not isinstance(self.split, Draw):
            yield np.flatnonzero(~self.split[kept]), np.flatnonzero(self.split[kept])
            return
        draw = self.split
        for split in range(draw.splits):
            train: list[int] = []
            test: list[int] = []
            for number, name in enumerate(self.classes):
                places = np.flatnonzero(self.labels[kept] == number).tolist()
                # From its name, so that a class is drawn alike whatever classes lie beside it.
                random.Random(derive("transfer", draw.seed, split, name)).shuffle(places)
                train += places[: draw.per_class]
                test += places[draw.per_class : draw.per_class + draw.test_per_class]
            yield np.array(train), np.array(test)

    def measure(self, rows: np.ndarray, kept: np.ndarray, c: float) -> Measured:
        """Train and test on the features ``rows`` (N, D) of the images ``kept`` (N,); ``c``: of the SVM."""
        measured = Measured()
        for train, test in self.splits(kept):
            svm, converged = fit_svm(rows[train], self.labels[kept][train], c)
            measured.unfinished += not converged
            truth = self.labels[kept][test]
            wrong = np.concatenate([svm.predict(rows[part]) for part in _blocks(test)]) != truth
            shares = {
                name: float(wrong[truth == number].mean())
                for number, name in enumerate(self.classes)
                if (truth == number).any()
            }
            measured.add("top-1 error", float(wrong.mean()), shares)
            measured.add("class-mean error", float(np.mean(list(shares.values()))), {})
        return measured


class VOCTask:
    """Several classes per image: a two-class SVM for each, trained on trainval and ranked on test.

    Images whose objects of a class are all difficult are left out for that class, in training as in testing.
    """

    def __init__(self, images: VOCImages) -> None:
        self.images, self.root, self.names = images, images.root, images.names

    def __str__(self) -> str:
        test = int(self.images.is_test.sum())
        return (
            f"{len(self.images.classes)} VOC classes; {len(self.names) - test} trainval, {test} test images"
        )

    def check(self, kept: np.ndarray) -> None:
        check_voc(self.images, kept)

    def measure(self, rows: np.ndarray, kept: np.ndarray, c: float) -> Measured:
        measured = Measured()
        is_test = self.images.is_test[kept]
        train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
        eleven: dict[str, float] = {}
        all_points: dict[str, float] = {}
        for number, name in enumerate(self.images.classes):
            presence = self.images.presence[kept, number]
            learned, judged = (places[presence[places] != 0] for places in (train, test))
            svm, converged = fit_svm(rows[learned], presence[learned], c)
            measured.unfinished += not converged
            scores = np.concatenate([svm.decision_function(rows[part]) for part in _blocks(judged)])
            eleven[name], all_points[name] = average_precision(scores, presence[judged] > 0)
        measured.add("mAP 11-point", float(np.mean(list(eleven.values()))), eleven)
        measured.add("mAP all-point", float(np.mean(list(all_points.values()))), all_points)
        return measured


Task = ClassTask | VOCTask
"""Images, and what is to be learned about them; ``str()`` of it is the protocol in words."""


def _inner_fit(given: Mapping[str, Any]) -> Callable[..., Any] | None:
    """What ``LinearSVC.fit`` calls; None of a scikit-learn that has it no more, or not with these arguments."""
    try:
        fit: Callable[..., Any] = import_module("sklearn.svm._base")._fit_liblinear
        inspect.signature(fit).bind(None, None, **given)
    except (ImportError, AttributeError, TypeError):
        return None
    return fit


def fit_svm(
    rows: np.ndarray,
    targets: np.ndarray,
    c: float,
    *,
    positive_weight: float = 1.0,
    bias: float = 1.0,
    tolerance: float = 1e-3,
) -> tuple[Any, bool]:
    """A linear SVM on float rows (N, D), and whether it converged. More than two classes: one against the rest.

    With the hinge loss and the tolerance of LIBSVM, which the paper used. (Other than there, the bias is regularised
    with the weights: it is the weight of one more feature, of the value ``bias``.) LIBLINEAR itself takes 16 bytes for each
    number that is not 0.

    Args:
        rows, targets: what is learned.
        c: the SVM's C.
        positive_weight: of errors on the class 1, of two classes.
        bias: as LIBLINEAR's ``-B``.
        tolerance: at which the solver stops; LIBLINEAR's own is 0.1.
    """
    svm = svm_module().LinearSVC(
        C=c,
        loss="hinge",
        tol=tolerance,
        random_state=0,
        max_iter=_MAX_ITER,
        intercept_scaling=bias,
        class_weight=None if positive_weight == 1 else {1: positive_weight},
    )
    # LinearSVC.fit() copies float32 rows to float64. What it calls then takes them as they are, with the same result.
    given = {
        "C": c,
        "fit_intercept": True,
        "intercept_scaling": bias,
        "class_weight": svm.class_weight,
        "penalty": "l2",
        "dual": True,
        "verbose": 0,
        "max_iter": _MAX_ITER,
        "tol": tolerance,
        "random_state": 0,
        "loss": "hinge",
    }
    fit = _inner_fit(given) if rows.dtype == np.float32 else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of not converging, which is reported once
        if fit is None:
            svm.fit(rows, targets)
        else:
            svm.classes_ = np.unique(targets)
            svm.coef_, svm.intercept_, svm.n_iter_ = fit(np.ascontiguousarray(rows), targets, **given)
    return svm, int(np.max(svm.n_iter_)) < _MAX_ITER


def svm_module(command: str = "transfer") -> Any:
    """``sklearn.svm``; raises ConfigError, naming the command that needs it, if it is not installed."""
    try:
        return import_module("sklearn.svm")
    except ImportError:
        raise ConfigError(f'{command} needs scikit-learn: pip install "sppcls[{command}]"') from None


def _blocks(places: np.ndarray) -> list[np.ndarray]:
    return [places[start : start + _BLOCK] for start in range(0, len(places), _BLOCK)]


def folder_task(folder: str | os.PathLike[str], seed: int = 0, **given: int) -> ClassTask:
    """A folder's own splits, unless ``per_class`` is given, or ``<class>/``.

    Of its own splits ``val``, or else ``test``, is tested on. Drawn splits have 30 training and at most 50 test images
    per class and are 10, as the paper's of Caltech101; ``given`` are other numbers, by the names that :class:`Draw` has.

    Raises:
        ConfigError: ``splits`` or ``test_per_class`` of a given split.
        DataError: the folder does not hold classes with images, or too few of one.
    """
    root = Path(folder)
    draw = Draw(seed=seed, **given)
    if found := given_splits(root):
        train, judged = found
        names, labels = _joined(root, [train, *([judged] if judged else [])])
        if "per_class" in given or judged is None:
            return _checked(ClassTask(root, names, labels, train.classes, draw))
        for name, value in given.items():
            raise ConfigError(
                f"--{name.replace('_', '-')} {value}: {root} has its own split, {_below(root, train)}/ and "
                f"{_below(root, judged)}/; add --per-class to draw others"
            )
        return ClassTask(root, names, labels, train.classes, np.arange(len(names)) >= len(train))
    images = list_images(root)
    folders = {class_name(p.name) for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")}
    if not images.classes:
        raise DataError(f"{root}: not every image is in the folder of a class; FOLDER/CLASS/* is needed")
    empty = sorted(folders - set(images.classes))
    if empty:
        raise DataError(f"{root}: no image in the folder of class {empty[0]!r}")
    if len(images.classes) < 2:
        raise DataError(
            f"{root}: a single class folder ({images.classes[0]!r}); two classes are needed at least"
        )
    return _checked(ClassTask(images.root, images.names, images.labels, images.classes, draw))


def _joined(root: Path, sources: Sequence[FileSource]) -> tuple[list[str], np.ndarray]:
    """Paths below ``root`` and class numbers of the images of several splits."""
    names = [f"{_below(root, source)}/{source.name(i)}" for source in sources for i in range(len(source))]
    return names, np.array([target for source in sources for target in source.targets])


def _below(root: Path, source: FileSource) -> str:
    return source.root.relative_to(root).as_posix()


def _checked(task: ClassTask) -> ClassTask:
    task.check(np.arange(len(task.names)))
    return task


def caltech_task(folder: str | os.PathLike[str], seed: int = 0, **given: int) -> ClassTask:
    """The paper's protocol of Caltech101 (sec. 4.4): all 102 folders, the background's among them; 10 random splits,
    30 images per class for training and at most 50 for testing.

    ``folder`` may be that of the class folders, or one with ``101_ObjectCategories`` or
    ``caltech101/101_ObjectCategories`` in it. Raises as :func:`folder_task`.
    """
    for below in ("101_ObjectCategories", "caltech101/101_ObjectCategories"):
        if (Path(folder) / below).is_dir():
            folder = Path(folder) / below
            break
    return folder_task(folder, seed, **{"per_class": Draw.per_class, **given})
