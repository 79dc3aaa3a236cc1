"""An ensemble under test protocols, beside each of its networks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch

from sppcls.data import Size, Source, labelled_images, set_pixel_range, trained_pixel_range
from sppcls.errors import DataError
from sppcls.evaluation.evaluate import evaluate
from sppcls.evaluation.predictions import KEPT, Predictions
from sppcls.evaluation.protocols import Protocol
from sppcls.nn import Ensemble
from sppcls.nn.ensemble import logit_mean_sigmoid
from sppcls.nn.model_info import model_info_of, ranked


@dataclass(frozen=True)
class EnsembleResult:
    """One protocol at one size.

    Attributes:
        protocol: with the region that was tested.
        alone: what each network answered, with the scores of all classes in the ensemble's order.
        together: the mean of their scores; of the images that all of them could take.
    """

    protocol: Protocol
    alone: list[Predictions]
    together: Predictions


def evaluate_ensemble(
    net: Ensemble,
    images: Source | str | os.PathLike[str],
    protocols: str | Sequence[str | Protocol] | None = None,
    *,
    sizes: Sequence[int | Size] | None = None,
    batch_size: int = 32,
    workers: int = 0,
    split: str = "",
    bar: bool = False,
) -> list[EnsembleResult]:
    """Errors of an ensemble and of each of its networks, under any protocol.

    The scores that a protocol gives, averaged over its views, are averaged over the networks.

    Args:
        net: from :func:`sppcls.ensemble`.
        images, protocols, batch_size, workers, split, bar: as of :func:`sppcls.evaluate`.
        sizes: region sizes; None: the ensemble's.

    Raises:
        ConfigError, CheckpointError, DataError: as of :func:`sppcls.evaluate`.

    Examples:
        >>> result = evaluate_ensemble(net, "PHOTOS", ["ten_view"])[0]
        >>> result.together.top1_error, [one.top1_error for one in result.alone]
    """
    model_info = model_info_of(net)
    if isinstance(images, (str, os.PathLike)):
        # Listed once: a network with another order of the classes would list them in another order.
        images = labelled_images(images, model_info["classes"])
        set_pixel_range(trained_pixel_range(model_info), images)
    main = [tuple(model_info["val_sizes"][0])]
    found = [
        evaluate(
            member,
            images,
            protocols,
            sizes=main if sizes is None else sizes,
            batch_size=batch_size,
            workers=workers,
            split=split,
            keep_scores=True,
            bar=bar,
        )
        for member in net.members
    ]
    results = []
    for rows in zip(*found, strict=True):
        alone = [
            in_order(row.predictions, model_info["classes"], reading.order)
            for row, reading in zip(rows, net.readings, strict=True)
        ]
        results.append(EnsembleResult(rows[0].protocol, alone, average(alone)))
    return results


def in_order(predictions: Predictions, classes: Sequence[str], order: Sequence[int] | None) -> Predictions:
    """The same answers with other numbers of the classes.

    Args:
        predictions: with the scores of all classes.
        classes: names by new number.
        order: old number of each; None: they are the same.
    """
    if order is None:
        return predictions
    new = np.argsort(order)
    return replace(
        predictions,
        classes=list(classes),
        labels=predictions.labels[:, list(order)] if predictions.multi_label else new[predictions.labels],
        top_class=new[predictions.top_class],
        scores=None if predictions.scores is None else predictions.scores[:, list(order)],
    )


def of_images(predictions: Predictions, indices: np.ndarray) -> Predictions:
    """Those of the images ``indices``, int64 ascending, all of which have been tested."""
    return predictions.of_rows(np.searchsorted(predictions.indices, indices))


def average(alone: Sequence[Predictions]) -> Predictions:
    """Answers by the mean of several networks' scores.

    Args:
        alone: of the same images and classes, with the scores of all classes. Images that one of them lacks are left out.

    Raises:
        DataError: no image has been tested by all.
    """
    common = reduce(np.intersect1d, [one.indices for one in alone])
    bad = list(dict.fromkeys(line for one in alone for line in one.bad))
    if not len(common):
        raise DataError(f"no image could be tested by all networks; the first: {bad[0]}")
    whole = [of_images(one, common) for one in alone]
    # In float64, so that the order of the networks does not show.
    scores = [torch.from_numpy(np.asarray(one.scores, np.float64)) for one in whole]
    several = whole[0].multi_label
    mean = (logit_mean_sigmoid(scores) if several else torch.stack(scores).mean(0)).float()
    top = ranked(mean, KEPT)
    values = mean.gather(1, top)
    return replace(
        whole[0],
        top_class=top.numpy(),
        top_score=(values.sigmoid() if several else values).numpy(),
        scores=mean.numpy(),
        seconds=sum(one.seconds for one in alone),
        bad=bad,
    )
