"""From plain settings to a network: every value is checked, and every error starts with its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import nn

from sppcls._util.near import choose_from
from sppcls.nn.backbones import Backbone, paper_backbone
from sppcls.nn.classifier import SPPClassifier
from sppcls.nn.heads import ConvHead, FCHead, Head
from sppcls.nn.init import init_backbone, init_head
from sppcls.nn.own import own_backbone, own_head, own_pooling
from sppcls.nn.pretrained import timm_trunk, torchvision_trunk
from sppcls.nn.pyramid import Pyramid
from sppcls.nn.spp import SpatialPyramidPooling2d
from sppcls.nn.weights import load_weights
from sppcls.registry import (
    BACKBONES,
    BIN_RULES,
    HEADS,
    INITS,
    PAPER_BACKBONES,
    POOL_MODES,
    is_own,
)

T = TypeVar("T")


def build_classifier(
    *,
    backbone: Mapping[str, Any],
    pyramid: Mapping[str, Any],
    head: Mapping[str, Any],
    num_classes: int,
    input_size: tuple[int, int],
    init: str = "modern",
) -> SPPClassifier:
    """Build a network from plain settings.

    Args:
        backbone: ``name`` (one of :data:`BACKBONES`), ``weights`` (None, ``DEFAULT``, or the path of a
            file that holds a state_dict, such as a checkpoint of ``sppcls train``, whose backbone is taken;
            default None; ``backbone.weights`` of the result says what was taken).
            The paper's networks also take ``width`` (default 1) and ``norm`` (one of :data:`NORMS`; default:
            the LRN the network was trained with). ``timm`` needs ``model``; it and some of torchvision's networks
            take ``drop_path_rate``. Keys that do not apply may be None.
        pyramid: ``levels`` (ints or (rows, columns) pairs; None for the backbone's own last pooling),
            ``mode`` (one of :data:`POOL_MODES`; default ``max``), ``bin_rule`` (one of :data:`BIN_RULES`; default
            ``adaptive``). Without levels there is nothing that another mode or rule could apply to.
        head: ``name`` (one of :data:`HEADS`), ``hidden`` (widths, default none; always none for ``linear``),
            ``dropout`` (default 0).
            Each of the three may instead name a part of one's own; see :mod:`sppcls.nn.own`.
        num_classes: number of logits, at least 1.
        input_size: (height, width) of the images. Must give a map that can be pooled. Without a pyramid it
            fixes the size of the images for good, unless the last pooling is a global one or the head is
            ``conv``.
        init: ``paper`` or ``modern``; see :mod:`sppcls.nn.init`. Trunks keep their own start, only their head
            is initialised; but with ``modern`` AlexNet starts like the paper's networks.

    Raises:
        ValueError: an impossible setting. The message starts with the key, such as ``backbone.norm='foo':
            ...``.

    Examples:
        >>> net = build_classifier(
        ...     backbone={"name": "resnet18"},
        ...     pyramid={"levels": [4, 3, 2, 1]},
        ...     head={"name": "linear"},
        ...     num_classes=10,
        ...     input_size=(224, 224),
        ... )
        >>> tuple(net(torch.randn(1, 3, 97, 160)).shape)
        (1, 10)
    """
    _choice("init", init, INITS)
    _must("num_classes", num_classes, _is_count(num_classes), "be a whole number of at least 1")
    pair = isinstance(input_size, Sequence) and len(input_size) == 2 and all(map(_is_count, input_size))
    _must("input_size", input_size, pair, "be (height, width) in pixels")
    size = (input_size[0], input_size[1])
    spp = None if is_own("pyramid", pyramid) else _spp(pyramid)
    head_name, hidden, dropout = ("", [], 0.0) if is_own("head", head) else _head_settings(head)
    if head_name == "conv" and (spp is not None or is_own("pyramid", pyramid)):
        raise ValueError("head.name='conv': pools nothing, so it needs pyramid.levels=null")

    trunk = own_backbone(backbone) if is_own("backbone", backbone) else _backbone(backbone)
    if init in trunk.restarts and backbone.get("weights") is None:
        init_backbone(trunk.layers, init)
    pool: nn.Module = nn.Identity()
    length, any_size = 0, True
    classifier_head: Head
    if head_name == "conv":
        classifier_head = ConvHead(trunk.out_channels, hidden, num_classes, dropout)
    else:
        if is_own("pyramid", pyramid):
            pool, length, any_size = own_pooling(pyramid, trunk, size)
        elif spp is not None:
            pool, length = spp, spp.output_length(trunk.out_channels)
        else:
            pool, length, any_size = _last_pooling(trunk, size)
        if head_name:
            classifier_head = FCHead(length, hidden, num_classes, dropout)
        else:
            classifier_head = own_head(head, length, num_classes, init)
    if head_name:
        init_head(classifier_head, init, trunk.name)
    classifier = SPPClassifier(trunk, pool, classifier_head, None if any_size else size)
    classifier.check_input_size(*size)
    return classifier


def _last_pooling(trunk: Backbone, size: tuple[int, int]) -> tuple[nn.Module, int, bool]:
    """A trunk's own last pooling, the length of its vector, and whether images of every size have that length."""
    rows, columns = trunk.pooled_size(*size)
    if min(rows, columns) < 1:
        raise ValueError(f"input_size={size[0]}x{size[1]}: too small for {trunk.name} and its last pooling")
    any_size = isinstance(trunk.last_pool, nn.AdaptiveAvgPool2d)
    return nn.Sequential(trunk.last_pool, nn.Flatten(1)), trunk.out_channels * rows * columns, any_size


def _backbone(settings: Mapping[str, Any]) -> Backbone:
    _check_keys("backbone", settings, ("name", "width", "norm", "weights", "model", "drop_path_rate"))
    name = _choice("backbone.name", settings.get("name"), BACKBONES)
    width, norm, weights, model = (settings.get(key) for key in ("width", "norm", "weights", "model"))
    drop_path = settings.get("drop_path_rate")
    share = drop_path is None or _is_share(drop_path)
    _must("backbone.drop_path_rate", drop_path, share, "be null or a number from 0 to below 1")
    text = weights is None or isinstance(weights, str)
    _must("backbone.weights", weights, text, "be null, DEFAULT or a path")
    if model is not None and (name != "timm" or not isinstance(model, str)):
        raise ValueError(f"backbone.model={model!r}: the name of a timm model, only for backbone.name=timm")
    if name not in PAPER_BACKBONES:
        if width not in (None, 1):
            raise ValueError(f"backbone.width={width!r}: {name} has its own widths; use null")
        if norm is not None:
            raise ValueError(f"backbone.norm={norm!r}: {name} has its own normalisation; use null")
        if name != "timm":
            return _named("backbone.", lambda: torchvision_trunk(name, weights, drop_path))
        if model is None:
            raise ValueError("backbone.model=null: backbone.name=timm needs the name of a timm model")
        return _named("backbone.", lambda: timm_trunk(model, weights, drop_path))
    if drop_path is not None:
        raise ValueError(f"backbone.drop_path_rate={drop_path}: {name} has no paths to drop; use null")
    if weights == "DEFAULT":
        raise ValueError(
            f"backbone.weights='DEFAULT': {name} has no published weights here; use null or a path"
        )
    backbone = _named("backbone.", lambda: paper_backbone(name, 1.0 if width is None else width, norm))
    if weights is not None:
        backbone.weights = _named(
            "backbone.", lambda: load_weights(backbone.layers, weights, f"weights={weights!r}")
        )
    return backbone


def _spp(settings: Mapping[str, Any]) -> SpatialPyramidPooling2d | None:
    _check_keys("pyramid", settings, ("levels", "mode", "bin_rule"))
    chosen = {}
    for key, default, choices in (("mode", "max", POOL_MODES), ("bin_rule", "adaptive", BIN_RULES)):
        value = settings.get(key)
        chosen[key] = _choice(f"pyramid.{key}", default if value is None else value, choices)
        if chosen[key] != default and settings.get("levels", ()) is None:
            raise ValueError(
                f"pyramid.{key}={value!r}: applies to a pyramid only; give pyramid.levels, or leave it at "
                f"{default} or null"
            )
    if "levels" not in settings:
        raise ValueError("pyramid.levels: missing; give a list of levels, or null for no pyramid")
    levels = settings["levels"]
    if levels is None:
        return None
    return SpatialPyramidPooling2d(_named("pyramid.", lambda: Pyramid(levels)), **chosen)


def _head_settings(settings: Mapping[str, Any]) -> tuple[str, list[int], float]:
    _check_keys("head", settings, ("name", "hidden", "dropout"))
    name = _choice("head.name", settings.get("name"), HEADS)
    hidden = [] if settings.get("hidden") is None else settings["hidden"]
    widths = isinstance(hidden, Sequence) and not isinstance(hidden, str) and all(map(_is_count, hidden))
    _must("head.hidden", hidden, widths, "be a list of whole numbers of at least 1")
    if name == "linear" and len(hidden) > 0:
        raise ValueError(
            f"head.hidden={list(hidden)}: a linear head has no hidden layers; use [] or head.name=fc"
        )
    dropout = 0.0 if settings.get("dropout") is None else settings["dropout"]
    _must("head.dropout", dropout, _is_share(dropout), "be a number from 0 to below 1")
    return name, list(hidden), float(dropout)


def _check_keys(group: str, settings: Mapping[str, Any], known: Sequence[str]) -> None:
    mapping = isinstance(settings, Mapping)
    _must(group, settings, mapping, f"be a mapping with keys of {', '.join(known)}")
    for key in settings:
        if key not in known:
            raise ValueError(f"{group}.{key}: no such key; {choose_from(key, known)}")


def _choice(key: str, value: Any, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"{key}={value!r}: {choose_from(value, choices)}")
    return value


def _must(key: str, value: Any, good: bool, wanted: str) -> None:
    if not good:
        raise ValueError(f"{key}={value!r}: must {wanted}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1


def _named(prefix: str, call: Callable[[], T]) -> T:
    """The result of ``call``; ``prefix`` goes before the message of a ValueError, which starts with a key."""
    try:
        return call()
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from error
