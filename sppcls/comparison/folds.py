"""Repetitions of a run: seeds and, of a cross-validation, the folds that were validated on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


class Fold(int):
    """A fold with the seed of its run, where other runs have their seed alone: sorted and paired by both.

    Attributes:
        seed, fold: of the run.
        folds: how many folds there are.
    """

    seed: int
    fold: int
    folds: int

    def __new__(cls, seed: int, fold: int, folds: int) -> Fold:
        made = super().__new__(cls, ((seed + 1) << 40) + fold)  # no seed is so large
        made.seed, made.fold, made.folds = seed, fold, folds
        return made

    def __str__(self) -> str:
        return f"{self.seed}_fold{self.fold}"

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def repetition(config: Mapping[str, Any]) -> int:
    """What tells a run from its repetitions: its seed, or a :class:`Fold`."""
    seed, data = int(config["seed"]), config.get("data") or {}
    fold, folds = data.get("fold"), data.get("folds")
    return Fold(seed, fold, folds) if isinstance(fold, int) and isinstance(folds, int) else seed


def overlap(repetitions: Collection[int]) -> float:
    """Validation images over training images of folds: what their runs have in common; 0 of seeds.

    Each fold trains on most of what the others train on, so their results vary less than those of independent data
    would. The variance of their mean is that of n independent ones times 1 + n x this (Nadeau and Bengio 2003).
    """
    folds = [each.folds for each in repetitions if isinstance(each, Fold)]
    return 1 / (min(folds) - 1) if folds else 0.0


def unit(repetitions: Collection[int]) -> str:
    """What the repetitions are called: ``seed`` or ``fold``."""
    return "fold" if any(isinstance(each, Fold) for each in repetitions) else "seed"


def no_interval(repetitions: Collection[int]) -> str:
    """Why there is no interval over repetitions of which there is none: ``one seed``, ``one fold`` or ``no spread``."""
    return f"one {unit(repetitions)}" if len(repetitions) == 1 else "no spread"
