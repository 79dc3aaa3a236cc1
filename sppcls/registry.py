"""The parts that a config may choose from: those that come with sppcls, by name, and anybody's own.

A part of one's own is a class or a function in any importable package. A config names it by ``_target_:
package.module.name``, or by the short name that :func:`register` gives it. Its parameters are the keys of its config
group. It is imported only from packages that a person has named: as ``plugins=[package]`` on the command line, as
``plugins=`` of a function, by :func:`allow_plugins`, in the environment variable ``SPPCLS_PLUGINS``, or by installing
a package with an entry point in the group ``sppcls.plugins``. A file - a config, a sweep, a checkpoint - never
chooses which code runs.

Free of torch, so that help and mistyped words are answered at once.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any, TypeVar

from sppcls._util.near import choose_from
from sppcls._util.reason import reason_with_line
from sppcls.errors import ConfigError, SppclsError

__all__ = ["allow_plugins", "register"]

PAPER_BACKBONES = ("zf5", "convnet_star5", "overfeat5", "overfeat7")
TORCHVISION_TRUNKS = (
    *("alexnet", "vgg11", "vgg16", "resnet18", "resnet34", "resnet50"),
    *("mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "convnext_tiny"),
)
BACKBONES = (*PAPER_BACKBONES, *TORCHVISION_TRUNKS, "timm")
NORMS = ("lrn_within", "lrn_across", "batch", "none")
INITS = ("paper", "modern")
POOL_MODES = ("max", "avg", "sum")
BIN_RULES = ("adaptive", "sliding", "padded")
HEADS = ("fc", "linear", "conv")

DOWNLOADS = ("imagenette", "flowers102", "caltech101", "food101", "cifar10", "pets")
SOURCES = ("shapes", "folder", "imagenet", *DOWNLOADS)
SCHEDULES = ("single", "alternate", "random_epoch", "random_batch", "progressive")
CROPS = ("five", "anywhere", "center", "resized")
LOSSES = ("cross_entropy",)
OPTIMIZERS = ("sgd", "adamw")
SCHEDULERS = ("paper", "step", "cosine", "constant")


@dataclass(frozen=True)
class Door:
    """How a part of one's own enters a config group.

    Attributes:
        given: arguments that sppcls passes to it, those of them that it takes; they are no config keys.
        called: arguments of what it makes. A function that takes them is called with them each time.
        shared: keys of the group that sppcls itself reads, whatever the part is.
        name_key: the key that holds its name.
        libraries: modules whose parts need no permission.
    """

    given: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    name_key: str = "name"
    libraries: tuple[str, ...] = ()


TARGET = "_target_"

NOT_IN_FILES = "stands in a file, and a file never chooses which code runs"

# The name of what is given from Python: a network, images.
GIVEN = "given"

DOORS: Mapping[str, Door] = {
    "backbone": Door(shared=("weights",)),
    "head": Door(given=("in_features", "num_classes")),
    "pyramid": Door(given=("in_channels",)),
    "sizes": Door(given=("epochs", "seed"), shared=("pixel_budget", "val_sizes"), name_key="kind"),
    "data": Door(
        shared=(
            *("batch_size", "val_batch_size", "workers", "drop_last", "sampler", "balance", "folds", "fold"),
            *("check", "on_error", "mean", "std"),
        )
    ),
    "augment": Door(given=("region",), called=("image",), shared=("shorter_side",), name_key="crop"),
    "loss": Door(given=("num_classes", "class_counts"), called=("logits", "target"), libraries=("torch.nn",)),
    "optimizer": Door(
        given=("params",),
        shared=("lr", "weight_decay", "decay_norm_and_bias", "bias_lr_factor", "lr_factors", "layer_decay"),
        libraries=("torch.optim",),
    ),
    "scheduler": Door(called=("step", "steps_per_epoch", "epochs"), shared=("warmup_epochs",)),
    "callbacks": Door(name_key=TARGET, libraries=("pytorch_lightning.callbacks",)),
    "logger": Door(given=("folder",), name_key=TARGET, libraries=("pytorch_lightning.loggers",)),
}
VARIABLE = "SPPCLS_PLUGINS"
ENTRY_POINTS = "sppcls.plugins"

# Where parts that come with sppcls are; to import these modules does nothing else.
_OWN_ROOMS = ("sppcls.nn", "sppcls.data", "sppcls.engine")

_T = TypeVar("_T", bound=Callable[..., Any])

_registered: dict[str, dict[str, Callable[..., Any]]] = {group: {} for group in DOORS}
# (group, package.module.name) of every part that was ever registered; a module is only run once.
_decorated: set[tuple[str, str]] = set()
_instead: dict[str, dict[str, str]] = {}


def register(group: str, name: str | None = None) -> Callable[[_T], _T]:
    """Decorate a class or a function as a part that a config names in short.

    Args:
        group: config group that it is chosen in: ``backbone``, ``head``, ``pyramid`` (a pooling), ``sizes``, ``data``,
            ``augment``, ``loss``, ``optimizer``, ``scheduler``, ``callbacks`` or ``logger``.
        name: its name in configs; its own by default.

    Raises:
        ConfigError: an unknown group, or a name that another part has.

    Examples:
        >>> @register("loss")
        ... def squared(logits, target):
        ...     return (logits.softmax(1) - target) ** 2
    """
    if group not in DOORS:
        raise ConfigError(f"register({group!r}): {choose_from(group, DOORS)}")

    def add(part: _T) -> _T:
        chosen = name or part.__name__
        other = _registered[group].get(chosen)
        if comes_with_sppcls(group, chosen) or (other is not None and target_of(other) != target_of(part)):
            raise ConfigError(f"register({group!r}, {chosen!r}): another part has this name")
        _registered[group][chosen] = part
        _decorated.add((group, target_of(part)))
        return part

    return add


def instead(lines: Mapping[str, str]) -> Callable[[_T], _T]:
    """Decorate a part with what to type instead of keys that other parts of its group take, a line by key."""

    def add(part: _T) -> _T:
        _instead[target_of(part)] = dict(lines)
        return part

    return add


def what_instead(group: str, values: Mapping[str, Any], key: str) -> str | None:
    """What to type instead of a key that the part of a config group does not take, if it says so."""
    return _instead.get(target_of(find(group, values)), {}).get(key)


_BUILT_IN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(DOORS, ()),
    "backbone": BACKBONES,
    "head": HEADS,
    "sizes": SCHEDULES,
    "data": SOURCES,
    "augment": CROPS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "scheduler": SCHEDULERS,
}


def comes_with_sppcls(group: str, name: object) -> bool:
    """Whether a name is that of one of our own parts."""
    return name in _BUILT_IN[group]


def target_of(part: Callable[..., Any]) -> str:
    """``package.module.name`` of a part."""
    return f"{part.__module__}.{part.__qualname__}"


def name_of(group: str, part: Callable[..., Any]) -> str:
    """The short name of a part, or its own where it has none."""
    return next((name for name, other in _registered[group].items() if other is part), part.__name__)


# -- which packages may be imported ------------------------------------------------------------------------------------


def allow_plugins(*packages: str) -> None:
    """Import packages with parts of one's own, and let configs and checkpoints name what they hold.

    They stay named for the rest of the process: the parts they have registered cannot be taken back. Processes that
    this one starts may import them, too.

    Raises:
        ConfigError: a package cannot be imported; names it and the reason.
    """
    for package in packages:
        if not isinstance(package, str) or not re.fullmatch(
            r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", package, re.ASCII
        ):
            raise ConfigError(f"plugins={package}: must be the name of a Python package, such as my_parts")
        _import(package)
        if package not in named_plugins():
            os.environ[VARIABLE] = ",".join([*named_plugins(), package])


def allowed() -> list[str]:
    """Packages that configs and checkpoints may name parts of."""
    # What lies in the current folder is not installed, though Python may look for modules there.
    here = Path.cwd()
    paths = [path for path in sys.path if path and Path(path).resolve() != here]
    points = [
        point.module
        for distribution in metadata.distributions(path=paths)
        for point in distribution.entry_points
        if point.group == ENTRY_POINTS
    ]
    return [*dict.fromkeys([*named_plugins(), *points])]


def has_plugins() -> bool:
    """Whether this process has parts that do not come with sppcls."""
    registered = (part for parts in _registered.values() for part in parts.values())
    return bool(allowed()) or any(part.__module__.partition(".")[0] != "sppcls" for part in registered)


def named_plugins() -> list[str]:
    """Packages named on a command line, as an argument or in the environment."""
    return [name for name in os.environ.get(VARIABLE, "").split(",") if name]


def _import(module: str, key: str = "plugins") -> Any:
    top = module.partition(".")[0]
    if top not in sys.modules and util.find_spec(top) is None:
        # A console script does not look in the current folder, where most people's packages are.
        here = Path.cwd()
        if (here / top).is_dir() or (here / f"{top}.py").is_file():
            sys.path.append(str(here))  # last: nothing there stands in for an installed package
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a module may raise anything
        missing = isinstance(error, ModuleNotFoundError) and top == str(error.name).partition(".")[0]
        reason = "no such module" if missing else reason_with_line(error)
        raise ConfigError(f"{key}: {module} cannot be imported: {reason}") from error


def short_name(group: str, values: Mapping[str, Any]) -> Any:
    """The name that the values of a config group give its part: by the group's own key, or by ``name``."""
    name = values.get(DOORS[group].name_key)
    return values.get("name") if name is None else name


def names(group: str) -> list[str]:
    """The names that a config may choose a part by."""
    return [*_BUILT_IN[group], *_registered[group]]


def is_own(group: str, values: Any) -> bool:
    """Whether the values of a config group name a part that does not come with sppcls."""
    if not isinstance(values, Mapping):
        return False
    name = short_name(group, values)
    if values.get(TARGET) is None and isinstance(name, str) and not comes_with_sppcls(group, name):
        _load_allowed()
        return name in _registered[group]
    return values.get(TARGET) is not None


def _load_allowed() -> None:
    """Import what may be, so that it registers its parts."""
    for package in allowed():
        _import(package)


def find(group: str, values: Mapping[str, Any]) -> Callable[..., Any]:
    """The part of another's that the values of a config group name (see :func:`is_own`).

    Raises:
        ConfigError: nobody has named its package, or there is no such part.
    """
    target = values.get(TARGET)
    if target is None:
        return _registered[group][str(short_name(group, values))]
    if isinstance(target, str) and "." not in target:
        _load_allowed()
        if target in _registered[group]:
            return _registered[group][target]
    key = f"{group}.{TARGET}={target}"
    if not isinstance(target, str) or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", target, re.ASCII):
        raise ConfigError(f"{key}: must be package.module.name of a class or function")
    for part in _registered[group].values():
        if target_of(part) == target:
            return part  # the person's own program has imported it
    module, _, name = target.rpartition(".")
    top = module.partition(".")[0]
    packages = (*allowed(), *DOORS[group].libraries)
    if _is_within(module, _OWN_ROOMS):  # what comes with sppcls is a part only where it is decorated
        own: Any = getattr(_import(module, key), name, None)
        if callable(own) and (group, target) in _decorated:
            return own
    if not _is_within(module, packages):
        raise ConfigError(
            f"{key}: a file never chooses which code runs; if you trust the package, name it: "
            f"plugins=[{top}] (--plugins {top})"
        )
    found = getattr(_import(module, key), name, None)
    if found is None:
        raise ConfigError(f"{key}: {module} has no {name}")
    # What a module has merely imported is not its part: os.system would be one of any module that imports it.
    if not callable(found) or not _is_within(str(getattr(found, "__module__", "")), packages):
        raise ConfigError(f"{key}: is no class or function of {top}")
    if _is_within(module, DOORS[group].libraries) and not _is_kind(found, group):
        raise ConfigError(f"{key}: is no {'.'.join(_BASES[group])}")
    return found


# What a part of a library has to be; of a package that somebody has named, whoever calls it sees.
_BASES = {
    "loss": ("torch.nn.modules.module", "Module"),
    "optimizer": ("torch.optim.optimizer", "Optimizer"),
    "callbacks": ("pytorch_lightning.callbacks.callback", "Callback"),
    "logger": ("pytorch_lightning.loggers.logger", "Logger"),
}


def _is_kind(part: Any, group: str) -> bool:
    return inspect.isclass(part) and _BASES[group] in [
        (kind.__module__, kind.__name__) for kind in part.__mro__
    ]


def _is_within(module: str, packages: Collection[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


# -- building ----------------------------------------------------------------------------------------------------------


def parameters(part: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a part that can be given by name."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    try:
        found = inspect.signature(part).parameters.values()
    except (TypeError, ValueError):
        raise ConfigError(f"{target_of(part)}: has no signature that could be read") from None
    return {parameter.name: parameter for parameter in found if parameter.kind in kinds}


def arguments(
    group: str, part: Callable[..., Any], values: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """What a part is called with: its own keys of ``values``, and those of ``given`` that it takes."""
    door, own = DOORS[group], parameters(part)
    keys = {
        key: tuple(value) if isinstance(value, list) and isinstance(own[key].default, tuple) else value
        for key, value in values.items()
        if key in own and key not in (*door.given, *door.called, TARGET, door.name_key)
    }
    return {**keys, **{key: value for key, value in given.items() if key in own}}


def build(group: str, values: Mapping[str, Any], **given: Any) -> Any:
    """A part of another's, made from the values of its config group.

    Args:
        group: the config group.
        values: its values, ``_target_`` or the name among them.
        given: what sppcls passes to it; see :attr:`Door.given`.

    Raises:
        ConfigError: it cannot be found, or raises an exception.
    """
    part = find(group, values)
    wanted = arguments(group, part, values, given)
    called = DOORS[group].called
    if called and not inspect.isclass(part) and set(called) <= parameters(part).keys():
        return Called(part, wanted, called)
    try:
        return part(**wanted)
    except SppclsError:
        raise
    except Exception as error:  # other people's code
        raise ConfigError(f"{group}: {target_of(part)} cannot be built: {reason_with_line(error)}") from error


class Called:
    """A function with the values of its config keys, called with the others by name whatever their order."""

    def __init__(self, part: Callable[..., Any], values: dict[str, Any], called: tuple[str, ...]) -> None:
        self.part, self.values, self.called = part, values, called

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.part(**self.values, **dict(zip(self.called, args, strict=False)), **kwargs)
