"""Several trained networks as one: :func:`ensemble`."""

from __future__ import annotations

from collections.abc import Sequence

from sppcls.data import as_size, trained_pixel_range
from sppcls.data.classes import class_numbers
from sppcls.data.sizes import Size
from sppcls.errors import ConfigError
from sppcls.nn import Ensemble, SPPClassifier
from sppcls.nn.ensemble import Reading
from sppcls.nn.model_info import is_multi_label, model_info_of


def ensemble(
    nets: Sequence[SPPClassifier], *, size: int | Size | None = None, names: Sequence[str] | None = None
) -> Ensemble:
    """Networks whose softmax probabilities are averaged (He et al. 2015, Table 5), as one network.

    What it gives can be predicted with, evaluated (crops and whole images) and exported as any network. Order of the
    classes and normalisation of the images may differ; each network gets and says them in its own way.

    Args:
        nets: two or more, from :func:`sppcls.load_classifier`, on one device; they are put into evaluation mode.
        size: side or (height, width) in pixels that all of them are used at; None: the main size of the first, or the only
            one of a network that takes no other.
        names: what messages call the networks; None: ``network 1``, ``network 2``, ...

    Raises:
        CheckpointError: the classes differ.
        ConfigError: fewer than two networks, or such as cannot see the same images.

    Examples:
        >>> net = sppcls.ensemble([sppcls.load_classifier(path) for path in ("a.ckpt", "b.ckpt")])
        >>> for p in sppcls.predict(net, "photo.jpg"):
        ...     print(p.classes, p.probabilities)
    """
    if isinstance(nets, SPPClassifier) or not isinstance(nets, Sequence) or len(nets) < 2:
        raise ConfigError("an ensemble takes two networks or more, in a list")
    infos = [model_info_of(net) for net in nets]
    called = [f"network {number}" for number in range(1, len(nets) + 1)] if names is None else list(names)
    first = infos[0]
    readings = []
    for net, info, name in zip(nets, infos, called, strict=True):
        if isinstance(net, Ensemble):
            raise ConfigError(f"{name}: an ensemble itself; name its networks instead")
        numbers = class_numbers(first["classes"], info["classes"], name, called[0])
        same = numbers == list(range(len(numbers)))
        scale = tuple(ours / own for ours, own in zip(first["std"], info["std"], strict=True))
        colours = zip(first["mean"], info["mean"], info["std"], strict=True)
        shift = tuple((ours - own) / std for ours, own, std in colours)
        readings.append(Reading(scale, shift, None if same else tuple(numbers)))
    ranges = [trained_pixel_range(info) for info in infos]
    for info, value, name in zip(infos, ranges, called, strict=True):
        if value != ranges[0]:
            raise ConfigError(
                f"{name}: another pixel range than {called[0]} (data.pixel_range={value} and {ranges[0]}); images "
                "cannot be read for both"
            )
        if is_multi_label(info) != is_multi_label(first):
            one, other = (called[0], name) if is_multi_label(first) else (name, called[0])
            raise ConfigError(f"{one} gives several labels of an image and {other} one: they have no mean")
    if len({next(net.parameters()).device for net in nets}) > 1:
        raise ConfigError("the networks of an ensemble must be on one device")
    fixed = next((net.fixed_size for net in nets if net.fixed_size is not None), None)
    main = as_size(size) if size is not None else fixed or as_size(first["val_sizes"][0])
    for net, name in zip(nets, called, strict=True):
        try:
            net.check_input_size(*main)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None
    together = Ensemble(nets, readings, main if fixed else None, is_multi_label(first))
    trained = dict.fromkeys(tuple(size) for info in infos for size in info["train_sizes"])
    together.model_info = {**first, "val_sizes": [list(main)], "train_sizes": [*map(list, trained)]}
    return together.eval()
