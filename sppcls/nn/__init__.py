"""The network: backbones, pyramid pooling and heads (He et al. 2015). Plain torch, usable on its own."""

from sppcls.nn.backbones import (
    Backbone,
    as_backbone,
    convnet_star5,
    overfeat5,
    overfeat7,
    paper_backbone,
    zf5,
)
from sppcls.nn.build import build_classifier
from sppcls.nn.classifier import SPPClassifier
from sppcls.nn.ensemble import Ensemble
from sppcls.nn.heads import ConvHead, FCHead, Head, OwnHead
from sppcls.nn.lrn import LRNAcrossChannels, LRNWithinChannel
from sppcls.nn.pool.windows import pool_windows
from sppcls.nn.pretrained import timm_trunk, torchvision_trunk
from sppcls.nn.pyramid import Pyramid
from sppcls.nn.spp import (
    LevelLargerThanMapWarning,
    SpatialPyramidPooling2d,
    spatial_pyramid_pool2d,
)
from sppcls.registry import (
    BACKBONES,
    BIN_RULES,
    HEADS,
    INITS,
    NORMS,
    PAPER_BACKBONES,
    POOL_MODES,
    TORCHVISION_TRUNKS,
)

__all__ = [
    "BACKBONES",
    "BIN_RULES",
    "HEADS",
    "INITS",
    "NORMS",
    "PAPER_BACKBONES",
    "POOL_MODES",
    "TORCHVISION_TRUNKS",
    "Backbone",
    "ConvHead",
    "Ensemble",
    "FCHead",
    "Head",
    "LRNAcrossChannels",
    "LRNWithinChannel",
    "LevelLargerThanMapWarning",
    "OwnHead",
    "Pyramid",
    "SPPClassifier",
    "SpatialPyramidPooling2d",
    "as_backbone",
    "build_classifier",
    "convnet_star5",
    "overfeat5",
    "overfeat7",
    "paper_backbone",
    "pool_windows",
    "spatial_pyramid_pool2d",
    "timm_trunk",
    "torchvision_trunk",
    "zf5",
]


def __dir__() -> list[str]:
    return sorted(__all__)
