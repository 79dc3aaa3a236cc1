"""The network: backbones, pyramid pooling and heads (He et al. 2015). Plain torch, usable on its own."""

from typing import TYPE_CHECKING

from sppcls._util.lazy import public

if TYPE_CHECKING:
    from sppcls.nn.backbones import Backbone as Backbone
    from sppcls.nn.backbones import as_backbone as as_backbone
    from sppcls.nn.backbones import convnet_star5 as convnet_star5
    from sppcls.nn.backbones import overfeat5 as overfeat5
    from sppcls.nn.backbones import overfeat7 as overfeat7
    from sppcls.nn.backbones import paper_backbone as paper_backbone
    from sppcls.nn.backbones import zf5 as zf5
    from sppcls.nn.build import build_classifier as build_classifier
    from sppcls.nn.classifier import SPPClassifier as SPPClassifier
    from sppcls.nn.ensemble import Ensemble as Ensemble
    from sppcls.nn.heads import ConvHead as ConvHead
    from sppcls.nn.heads import FCHead as FCHead
    from sppcls.nn.heads import Head as Head
    from sppcls.nn.heads import OwnHead as OwnHead
    from sppcls.nn.lrn import LRNAcrossChannels as LRNAcrossChannels
    from sppcls.nn.lrn import LRNWithinChannel as LRNWithinChannel
    from sppcls.nn.pool.windows import pool_windows as pool_windows
    from sppcls.nn.pretrained import timm_trunk as timm_trunk
    from sppcls.nn.pretrained import torchvision_trunk as torchvision_trunk
    from sppcls.nn.pyramid import Pyramid as Pyramid
    from sppcls.nn.spp import LevelLargerThanMapWarning as LevelLargerThanMapWarning
    from sppcls.nn.spp import SpatialPyramidPooling2d as SpatialPyramidPooling2d
    from sppcls.nn.spp import spatial_pyramid_pool2d as spatial_pyramid_pool2d
    from sppcls.registry import BACKBONES as BACKBONES
    from sppcls.registry import BIN_RULES as BIN_RULES
    from sppcls.registry import HEADS as HEADS
    from sppcls.registry import INITS as INITS
    from sppcls.registry import NORMS as NORMS
    from sppcls.registry import PAPER_BACKBONES as PAPER_BACKBONES
    from sppcls.registry import POOL_MODES as POOL_MODES
    from sppcls.registry import TORCHVISION_TRUNKS as TORCHVISION_TRUNKS

__getattr__, __dir__ = public(__name__)
