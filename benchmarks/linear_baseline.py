"""Top-1 error of a linear model on thumbnails: what colour and rough layout alone tell.

    python benchmarks/linear_baseline.py --data shapes
    python benchmarks/linear_baseline.py --data folder --root PATH

Multinomial logistic regression on 16 x 16 RGB thumbnails of the central region (the one that networks are
validated on), standardised, L-BFGS to convergence. The weight decay is the best of six on a fifth of the
training set; the validation set is used once. Nothing is random, so there is no spread to report.
"""

from __future__ import annotations

import argparse

import torch
from torch.nn import functional as F

from sppcls.data import SOURCES, EvalTransform, Source, build_sources, prepare_batch
from sppcls.errors import ImageError

THUMBNAIL = (16, 16)
WEIGHT_DECAYS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)


def features(source: Source) -> tuple[torch.Tensor, torch.Tensor]:
    """Thumbnails, float64 (n, 3 * 16 * 16), and targets of all readable images."""
    transform = EvalTransform((224, 224))
    rows, targets = [], []
    for index, target in enumerate(source.targets):
        try:
            region = transform(source.image(index))[None]
        except ImageError as error:
            print(f"left out: {error}")
            continue
        rows.append(prepare_batch(region, THUMBNAIL, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)).flatten())
        targets.append(target)
    return torch.stack(rows).double(), torch.tensor(targets)


def fit(x: torch.Tensor, y: torch.Tensor, classes: int, weight_decay: float) -> torch.Tensor:
    """Weights (features + 1, classes) of the regularised logistic regression of ``y`` on ``x``."""
    weights = torch.zeros(x.shape[1] + 1, classes, dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(scores(x, weights), y) + weight_decay / len(y) * weights[:-1].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return weights.detach()


def scores(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return x @ weights[:-1] + weights[-1]


def error(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor) -> float:
    """Top-1 error in per cent."""
    return 100 * (scores(x, weights).argmax(1) != y).double().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=SOURCES, default="shapes")
    parser.add_argument("--root", help="folder of the data (not for shapes)")
    args = parser.parse_args()

    train, val, *_ = build_sources(args.data, args.root)
    (x, y), (x_val, y_val) = features(train), features(val)
    mean, std = x.mean(0), x.std(0).clamp_min(1e-6)
    x, x_val = (x - mean) / std, (x_val - mean) / std
    classes = len(train.classes)

    held = torch.zeros(len(y), dtype=torch.bool)
    for label in range(classes):
        held[(y == label).nonzero().flatten()[::5]] = True
    tried = {
        decay: error(x[held], y[held], fit(x[~held], y[~held], classes, decay)) for decay in WEIGHT_DECAYS
    }
    decay = min(tried, key=tried.__getitem__)
    weights = fit(x, y, classes, decay)
    chance = 100 * (1 - y_val.bincount().max().item() / len(y_val))
    print(
        f"{args.data}: linear model on {THUMBNAIL[0]}x{THUMBNAIL[1]} thumbnails: "
        f"top-1 error {error(x_val, y_val, weights):.1f} % (training {error(x, y, weights):.1f} %, "
        f"chance {chance:.1f} %); n = {len(y)} training and {len(y_val)} validation images, "
        f"{classes} classes, data seed 0, weight decay {decay:g}"
    )


if __name__ == "__main__":
    main()
