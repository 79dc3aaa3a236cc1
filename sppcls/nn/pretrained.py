"""Modern convolutional networks as backbones: torchvision's by name, any of timm's by the optional extra.

Each is cut before the last pooling that a pyramid replaces. That pooling becomes ``last_pool``: global
average pooling, or the last max pooling of ``features`` for torchvision's AlexNet and VGG (whose adaptive
average pooling is not used). Layers that a network has after its pooling are left out.
"""

from __future__ import annotations

from collections import OrderedDict
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from sppcls._util.near import choose_from
from sppcls._util.reason import reason_of
from sppcls.nn.backbones import STRIDE_SIZES, Backbone, measured, on_meta
from sppcls.nn.weights import load_into, load_weights
from sppcls.registry import TORCHVISION_TRUNKS

# Of torchvision's trunks those that drop whole blocks in training.
_DROP_PATH = ("convnext_tiny", "efficientnet_b0")


def torchvision_trunk(name: str, weights: str | None = None, drop_path_rate: float | None = None) -> Backbone:
    """A torchvision network up to its last pooling.

    Args:
        name: one of :data:`TORCHVISION_TRUNKS`.
        weights: None (torchvision's own random start), ``DEFAULT`` (torchvision's best pre-trained weights,
            downloaded once) or the path of a file that holds a state_dict with torchvision's names, whole model or
            trunk; see :func:`~sppcls.nn.weights.load_file`.
        drop_path_rate: probability that the last block is left out for an image in training, less for those before it
            (stochastic depth, Huang et al. 2016); None: torchvision's own.

    Raises:
        ValueError: unknown name, no blocks to drop, failed download, or a file that does not fit.
    """
    if name not in TORCHVISION_TRUNKS:
        raise ValueError(f"name={name!r}: {choose_from(name, TORCHVISION_TRUNKS)}")
    from torchvision import models

    # VGG fills its large classifier with random numbers a second time; here they are overwritten or cut off.
    settings: dict[str, float] = {}
    if name.startswith("vgg") and weights is not None:
        settings["init_weights"] = False
    if drop_path_rate is not None:
        if name not in _DROP_PATH:
            raise ValueError(
                f"drop_path_rate={drop_path_rate}: {name} has no paths to drop; use null, or {' or '.join(_DROP_PATH)}"
            )
        settings["stochastic_depth_prob"] = drop_path_rate
    model = models.get_model(name, weights=None, **settings)
    if weights == "DEFAULT":
        try:
            state = models.get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True)
        except (OSError, RuntimeError) as error:
            raise _no_download(name, error) from error
        load_into(model, state, "weights='DEFAULT'")
    layers, last_pool = _cut(model)
    trunk = Backbone(name, layers, 0, 0, last_pool)
    if name == "alexnet":  # left at torch's start, without normalisation, the signal fades
        trunk.restarts = ("modern",)
    if weights is not None and weights != "DEFAULT":
        trunk.weights = load_weights(layers, weights, f"weights={weights!r}", ignore=set(model.state_dict()))
    return measured(trunk, f"model={name!r}")


def timm_trunk(model: str, weights: str | None = None, drop_path_rate: float | None = None) -> Backbone:
    """Any timm network whose ``forward_features`` gives a map (N, C, h, w) of images of any size.

    That map is the trunk's: what timm computes before its pooling. Nothing is kept of what comes after it,
    such as the convolution that MobileNetV3 applies to the pooled vector, the large one of VGG, or ConvNeXt's
    normalisation of the vector. ``last_pool`` is a global average, which is what nearly all of them have
    there. Parameters keep timm's names.

    Args:
        model: a timm model name, with or without a tag such as ``resnet18.a1_in1k``.
        weights: None, ``DEFAULT`` (timm's pre-trained weights of this tag, downloaded once) or the path of a
            state_dict file with timm's names, whole model or trunk.
        drop_path_rate: as for :func:`torchvision_trunk`; None: timm's own.

    Raises:
        ValueError: timm is not installed, it does not know the model, the model gives no such map, the
            download fails or the file does not fit.
    """
    try:
        import timm
    except ImportError as error:
        raise ValueError("name='timm': timm is not installed; pip install 'sppcls[timm]'") from error
    if not timm.is_model(model):
        near = get_close_matches(model, timm.list_models(), 3, cutoff=0.75)
        raise ValueError(
            f"model={model!r}: timm has no such model" + (f"; near: {', '.join(near)}" if near else "")
        )
    architecture, _, tag = model.partition(".")
    known = [name.partition(".")[2] for name in timm.list_models(f"{architecture}.*", include_tags=True)]
    if tag and tag not in known:
        raise ValueError(
            f"model={model!r}: timm has no tag {tag!r} of {architecture}; choose from {', '.join(known)}"
        )
    if weights == "DEFAULT" and not timm.is_model_pretrained(model):
        raise ValueError(f"weights='DEFAULT': timm has no weights of {model}; use null or a path")
    try:
        layers = timm.create_model(
            model, pretrained=weights == "DEFAULT", num_classes=0, drop_path_rate=drop_path_rate
        )
    except Exception as error:  # of timm, of the hub, or of the network under it
        if weights == "DEFAULT" and not isinstance(error, (TypeError, AssertionError)):
            raise _no_download(model, error) from error
        if "drop_path_rate" in str(error):
            raise ValueError(
                f"drop_path_rate={drop_path_rate}: {model} has no paths to drop; use null"
            ) from error
        raise ValueError(
            f"model={model!r}: timm cannot build it ({reason_of(error, first_line=True)})"
        ) from error
    trunk = _TimmBackbone(model, layers, 0, 0, nn.AdaptiveAvgPool2d(1))
    measured(trunk, f"model={model!r}", STRIDE_SIZES + _ODD_SIZES)
    _drop_unused(trunk)
    if weights is not None and weights != "DEFAULT":
        with torch.device("meta"):
            whole = timm.create_model(model)
        trunk.weights = load_weights(layers, weights, f"weights={weights!r}", ignore=set(whole.state_dict()))
    return trunk


def _no_download(name: str, error: Exception) -> ValueError:
    reason = reason_of(error, first_line=True)
    return ValueError(
        f"weights='DEFAULT': the download for {name} failed ({reason}); give the path of a state_dict file instead"
    )


class _TimmBackbone(Backbone):
    """``layers`` is the timm model itself, so that its parameters keep their names."""

    def forward(self, x: Tensor) -> Tensor:
        map_: Tensor = self.layers.forward_features(x)  # type: ignore[operator]
        return map_

    def layer_names(self) -> dict[str, str]:
        """Names of the parameters to the layers that timm counts for a layer-wise learning rate."""
        from timm.models import group_parameters

        matcher = self.layers.group_matcher(coarse=False)  # type: ignore[operator]
        numbers: dict[str, int] = group_parameters(self.layers, matcher, reverse=True)
        first = min(numbers.values())
        return {f"layers.{name}": f"backbone.layer{number - first}" for name, number in numbers.items()}


def _drop_unused(trunk: Backbone) -> None:
    """Take out the children of ``layers`` that the map does not depend on: nothing would train them."""
    tensors = on_meta(trunk)
    parameters = dict(trunk.named_parameters())
    with torch.enable_grad():
        copies = [tensors[name].requires_grad_() for name in parameters]
        map_ = torch.func.functional_call(trunk, tensors, (torch.empty(2, 3, 256, 256, device="meta"),))
        gradients = torch.autograd.grad(map_.sum(), copies, allow_unused=True)
    used = {id(p) for p, grad in zip(parameters.values(), gradients, strict=True) if grad is not None}
    for name, child in list(trunk.layers.named_children()):
        own = [id(parameter) for parameter in child.parameters()]
        if own and used.isdisjoint(own):
            setattr(trunk.layers, name, nn.Identity())


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


_ODD_SIZES = ((225, 301), (180, 180))  # no multiples of a stride, which some networks cannot take
