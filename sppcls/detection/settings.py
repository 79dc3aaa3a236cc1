"""What decides a detector, and what can be said of it before any work."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sppcls.detection.pooled import POOLED, RegionRules, Regions
from sppcls.detection.proposals import METHODS, Proposer, make_proposer
from sppcls.detection.scales import parse_scales
from sppcls.detection.svm import SVMRules
from sppcls.detection.truth import DetectionSet
from sppcls.detection.tuning import TuningRules
from sppcls.errors import ConfigError, DataError
from sppcls.inference.transfer.tasks import svm_module
from sppcls.nn import SPPClassifier
from sppcls.nn.model_info import model_info_of

SCORERS = ("svm", "softmax")


@dataclass(frozen=True)
class Settings:
    """What decides a detector, besides the network and the images.

    Attributes:
        scales: a name of :data:`~sppcls.detection.scales.SCALES`, or shorter sides with commas between.
        scale_rule, window_rule: see :class:`~sppcls.detection.pooled.RegionRules`.
        proposals: one of :data:`~sppcls.detection.proposals.METHODS`, or a file of windows.
        limit, k: see :class:`~sppcls.detection.proposals.Proposer`.
        tuning: of the fc layers.
        layer: whose output is scored; None: the last hidden one if it was fine-tuned, else ``spp``, the pooled vector.
        scorer: ``svm``, or ``softmax`` of the fine-tuned network.
        svm: how SVMs are trained.
        regression: whether boxes are moved.
        ridge: lambda of the regression; 1,000 in the paper, 4,000 in the authors' code.
        nms, per_class: see :class:`~sppcls.detection.detector.Choice`.
        seed: of all that is drawn.
    """

    scales: str = "one"
    scale_rule: str = "area"
    window_rule: str = "appendix"
    proposals: str = METHODS[0]
    limit: int = 2000
    k: int = 50
    tuning: TuningRules = field(default_factory=TuningRules)
    layer: str | None = None
    scorer: str = "svm"
    svm: SVMRules = field(default_factory=SVMRules)
    regression: bool = True
    ridge: float = 1000.0
    nms: float = 0.3
    per_class: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.scorer not in SCORERS:
            raise ConfigError(f"scorer {self.scorer!r}: choose from {', '.join(SCORERS)}")
        if self.scorer == "softmax" and not self.tuning.any:
            raise ConfigError(
                "scorer 'softmax': the network's own classes are not the set's; fine-tune it (--tune N)"
            )
        parse_scales(self.scales)
        if not self.ridge > 0:
            raise ConfigError(f"ridge {self.ridge:g}: must be greater than 0")
        if not 0 < self.nms <= 1:
            raise ConfigError(f"nms {self.nms:g}: must be above 0, and 1 at most")


def check_settings(
    net: SPPClassifier, images: DetectionSet, settings: Settings
) -> tuple[Proposer | Path, Regions, str]:
    """How windows are proposed and pooled, and the layer that is scored; before any work.

    Raises:
        ConfigError, DataError: as :func:`train_detector`.
    """
    proposer = make_proposer(settings.proposals, settings.limit, settings.k)
    side = min(model_info_of(net)["val_sizes"][0])
    rules = RegionRules(parse_scales(settings.scales), settings.scale_rule, settings.window_rule, side)
    regions = Regions(net, rules)
    layer = settings.layer or (regions.layer_names()[-1] if settings.tuning.any else POOLED)
    regions.check_layer(layer)
    if settings.scorer == "svm":
        svm_module("detect")
    _check_objects(images)
    return proposer, regions, layer


def _check_objects(images: DetectionSet) -> None:
    for name, count in zip(images.classes, images.counts(), strict=True):
        if not count:
            raise DataError(
                f"{images.name}: class {name!r} has no object in {images.split} (difficult ones do not count)"
            )
