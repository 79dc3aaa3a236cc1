"""Modern convolutional networks as backbones: torchvision's by name, any of timm's by the optional extra.

Each is cut before the last pooling that a pyramid replaces. That pooling becomes ``last_pool``: global
average pooling, or the last max pooling of ``features`` for AlexNet and VGG (whose adaptive average pooling
is not used).
"""

from __future__ import annotations

from collections import OrderedDict
from difflib import get_close_matches

import torch
from torch import nn

from sppcls.nn.backbones import Backbone, output_shape
from sppcls.nn.weights import load_file, load_into, one_line

TORCHVISION_TRUNKS = (
    "alexnet",
    "vgg11",
    "vgg16",
    "resnet18",
    "resnet34",
    "resnet50",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "convnext_tiny",
)


def torchvision_trunk(name: str, weights: str | None = None) -> Backbone:
    """A torchvision network up to its last pooling.

    Args:
        name: one of :data:`TORCHVISION_TRUNKS`.
        weights: None (torchvision's own random start), ``DEFAULT`` (torchvision's best pre-trained weights,
            downloaded once) or the path of a state_dict file with torchvision's names, whole model or trunk.

    Raises:
        ValueError: unknown name, failed download, or a file that does not fit.
    """
    if name not in TORCHVISION_TRUNKS:
        raise ValueError(f"name={name!r}: choose from {', '.join(TORCHVISION_TRUNKS)}")
    from torchvision import models

    model = models.get_model(name, weights=None)
    if weights == "DEFAULT":
        try:
            state = models.get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True)
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"weights='DEFAULT': the download for {name} failed ({one_line(error)}); "
                "give the path of a state_dict file instead"
            ) from error
        load_into(model, state, "weights='DEFAULT'")
    layers, last_pool = _cut(model)
    if weights not in (None, "DEFAULT"):
        load_into(layers, load_file(weights), f"weights={weights!r}", ignore=set(model.state_dict()))
    return _backbone(name, layers, last_pool)


def timm_trunk(model: str, weights: str | None = None) -> Backbone:
    """Any timm network that gives a feature map (N, C, h, w), up to its last pooling.

    ``last_pool`` is a global average, which is what nearly all of them have there.

    Args:
        model: a timm model name.
        weights: None, ``DEFAULT`` (timm's pre-trained weights, downloaded once) or the path of a state_dict
            file with timm's names.

    Raises:
        ValueError: timm is not installed, it does not know the model, the model gives no such map, the
            download fails or the file does not fit.
    """
    try:
        import timm
    except ImportError as error:
        raise ValueError("name='timm': timm is not installed; pip install 'sppcls[timm]'") from error
    if not timm.is_model(model):
        near = get_close_matches(model, timm.list_models(), 3)
        raise ValueError(
            f"model={model!r}: timm has no such model" + (f"; near: {', '.join(near)}" if near else "")
        )
    try:
        layers = timm.create_model(model, pretrained=weights == "DEFAULT", num_classes=0, global_pool="")
    except (TypeError, AssertionError) as error:
        raise ValueError(f"model={model!r}: cannot be cut before its pooling ({one_line(error)})") from error
    except (OSError, RuntimeError) as error:
        if weights != "DEFAULT":
            raise
        raise ValueError(
            f"weights='DEFAULT': the download for {model} failed ({one_line(error)}); "
            "give the path of a state_dict file instead"
        ) from error
    if weights not in (None, "DEFAULT"):
        with torch.device("meta"):
            whole = timm.create_model(model)
        load_into(layers, load_file(weights), f"weights={weights!r}", ignore=set(whole.state_dict()))
    return _backbone(model, layers, nn.AdaptiveAvgPool2d(1))


def _cut(model: nn.Module) -> tuple[nn.Sequential, nn.Module]:
    """The layers before the last pooling, under their torchvision names, and that pooling."""
    children = OrderedDict(model.named_children())
    if "features" not in children:  # resnet
        del children["fc"]
        last_pool = children.pop("avgpool")
        return nn.Sequential(children), last_pool
    features = children["features"]
    assert isinstance(features, nn.Sequential)
    if isinstance(features[-1], nn.MaxPool2d):  # alexnet, vgg
        return nn.Sequential(OrderedDict(features=features[:-1])), features[-1]
    kept = OrderedDict[str, nn.Module](features=features)
    classifier = children["classifier"]
    assert isinstance(classifier, nn.Sequential)
    if isinstance(classifier[0], nn.LayerNorm):
        # ConvNeXt normalises the channels of its pooled vector. Normalising each cell of the map instead
        # keeps values in the range that was trained, and works before any pooling.
        kept["classifier"] = classifier[:1]
    return nn.Sequential(kept), children["avgpool"]


def _backbone(name: str, layers: nn.Module, last_pool: nn.Module) -> Backbone:
    try:
        small, large = output_shape(layers, (256, 256)), output_shape(layers, (1024, 1024))
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"model={name!r}: gives no map for images of any size ({one_line(error)})"
        ) from error
    if len(small) != 4 or small[1] != large[1] or small[2] >= large[2]:
        raise ValueError(
            f"model={name!r}: gives {tuple(small)} for two images of 256x256, not a map (N, C, h, w)"
        )
    stride = round((1024 - 256) / (large[2] - small[2]))
    return Backbone(name, layers, small[1], stride, last_pool)
