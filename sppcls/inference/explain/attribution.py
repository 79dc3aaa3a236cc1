"""Which level, bin and cell gave a class its score: the values alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from sppcls.data.sizes import Size
from sppcls.nn.pyramid import CellRange


@dataclass(frozen=True, repr=False)
class LevelSeen:
    """One level of the pyramid on one image.

    Attributes:
        label: ``"6x6"``: rows x columns of bins.
        rows, columns: the cells (first, one past the last) of each row and of each column of bins.
        contribution: of the level to the score; see :mod:`sppcls.inference.explain.explanation`.
        drop: of the score if the level is set to zero.
        bins: (rows, columns), contribution of each bin.
        cells: (h, w), contribution of each cell of the feature map.
        activity: (h, w). With max pooling the number of channels whose maximum, in one bin or more, comes from this
            cell (a maximum of zero, which tells the head nothing, comes from none; of equal cells the first counts).
            With average and sum pooling the mean activation of each cell over the channels, the same at every level.
    """

    label: str
    rows: list[CellRange]
    columns: list[CellRange]
    contribution: float
    drop: float
    bins: Tensor
    cells: Tensor
    activity: Tensor

    def __repr__(self) -> str:
        return f"<level {self.label}: contribution {self.contribution:+.3f}, drop {self.drop:+.3f}>"


@dataclass(frozen=True)
class Attribution:
    """What a network made of one image.

    Attributes:
        name: of the image.
        image: float32 (3, H, W) in 0..1, as the network was given it.
        classes: names by number.
        probabilities: (classes,), softmax of the logits; of several labels the sigmoid.
        class_index: the class explained.
        score: its logit.
        score_of_zeros: its logit for a pooled vector of zeros, where the contributions start from.
        map_size: (h, w), cells of the feature map.
        channels: of the feature map.
        mode, bin_rule: of the pyramid.
        levels: one :class:`LevelSeen` for each, in the pyramid's order.
    """

    name: str
    image: Tensor = field(repr=False)
    classes: Sequence[str] = field(repr=False)
    probabilities: Tensor = field(repr=False)
    class_index: int
    score: float
    score_of_zeros: float
    map_size: Size
    channels: int
    mode: str
    bin_rule: str
    levels: tuple[LevelSeen, ...]

    @property
    def class_name(self) -> str:
        """The class explained."""
        return self.classes[self.class_index]

    @property
    def top(self) -> list[tuple[str, float]]:
        """Up to five (class, probability), the most probable first."""
        values, numbers = self.probabilities.topk(min(5, len(self.classes)))
        return [(self.classes[i], p) for p, i in zip(values.tolist(), numbers.tolist(), strict=True)]
