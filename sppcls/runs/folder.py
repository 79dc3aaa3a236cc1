"""Where a run writes: a folder that a person can read and that no other run writes to.

``runs/<name>/<sizes>-<pyramid>-<backbone>-seed<seed>/``; a second run of the same configuration gets ``-2``, and so on.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import yaml

from sppcls.config.choices import choice_of
from sppcls.config.old_versions import upgraded
from sppcls.config.parts import values_of
from sppcls.config.same_run import run_identity
from sppcls.config.schedule import size_schedule
from sppcls.config.schema import Config, as_dict
from sppcls.errors import ConfigError
from sppcls.runs.names import BEST, CONFIG, LAST, PREVIOUS, pyramid_word
from sppcls.runs.result import read_result


def pyramid_label(config: Config) -> str:
    """As typed: ``l6321``, or ``none`` without SPP; a pooling of one's own by its name."""
    own = values_of(config.pyramid)
    return pyramid_word(config.pyramid.levels) if own is None else str(own["name"])


def sizes_label(config: Config) -> str:
    """As typed: ``multi_224_180``."""
    own = values_of(config.sizes) is not None
    return (None if own else choice_of(config, "sizes", ("val_sizes",))) or size_schedule(config).label


def backbone_label(config: Config) -> str:
    """As typed: ``zf5_small``; with a width that no choice has ``zf5w0.1``."""
    if values_of(config.backbone) is not None:
        return config.backbone.name
    if config.backbone.name == "timm":
        return str(config.backbone.model)
    width = "" if config.backbone.width in (None, 1) else f"w{config.backbone.width:g}"
    return choice_of(config, "backbone", ("weights",)) or f"{config.backbone.name}{width}"


def run_name(config: Config) -> str:
    """Readable name of the run folder: what this run trains, without characters that a shell or Hydra would mind."""
    if config.run_name:
        return _safe(config.run_name)
    if config.detection.checkpoint is not None:
        return _safe(detector_name(config))
    parts = [sizes_label(config), pyramid_label(config), backbone_label(config), f"seed{config.seed}"]
    if config.data.fold is not None:
        parts.append(f"fold{config.data.fold}")
    return _safe("-".join(parts))


def _name_before(config: Config) -> str:
    """The name that versions before 0.2 gave to the folder of such a run: ``multi_224_180-l6_3_2_1-zf5w0.25-seed0``."""
    from sppcls.nn import Pyramid  # loads torch, which a process that only starts runs does without

    if config.run_name or values_of(config.backbone) is not None or values_of(config.pyramid) is not None:
        return run_name(config)
    backbone = config.backbone.model if config.backbone.name == "timm" else config.backbone.name
    width = "" if config.backbone.width in (None, 1) else f"w{config.backbone.width:g}"
    levels = config.pyramid.levels
    pyramid = "nospp" if levels is None else f"l{Pyramid(levels).label.replace('-', '_')}"
    sizes = size_schedule(config).label.replace("random_batch", "randombatch")
    return _safe(f"{sizes}-{pyramid}-{backbone}{width}-seed{config.seed}")


def detector_name(config: Config) -> str:
    """What a detector is, such as ``ftfc7-bb-one-seed0``."""
    detection = config.detection
    parts = [
        detection.features,
        *(["softmax"] if detection.scorer == "softmax" else []),
        *(["bb"] if detection.regression else []),
        detection.scales,
        f"seed{config.seed}",
    ]
    return "-".join(parts)


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip(".") or "run"


def claim_run_folder(config: Config) -> Path:
    """Make the next free folder for this run; two runs started at once never get the same one.

    Raises:
        ConfigError: the folder cannot be written.
    """
    return new_folder(base_folder(config), f"runs_dir={config.runs_dir}", "choose another run_name")


def new_folder(base: Path, where: str, remedy: str) -> Path:
    """The first of :func:`numbered_folders` that is new."""
    return next(folder for folder, new in numbered_folders(base, where, remedy) if new)


def numbered_folders(base: Path, where: str, remedy: str) -> Iterator[tuple[Path, bool]]:
    """``base``, ``base-2`` and so on, until the caller has found the one that it wants.

    Args:
        base: the first one; the folders above it are made.
        where: begins the error lines: the key or option that has named the place.
        remedy: what to do when all names are taken.

    Yields:
        A folder, and whether it is new: it was made just now, can be written, and nobody else is given it as new.

    Raises:
        ConfigError: it cannot be made or written, or there are too many.
    """
    for number in range(1, 100_000):
        folder = base if number == 1 else base.with_name(f"{base.name}-{number}")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            if not folder.parent.is_dir():
                raise ConfigError(f"{where}: {folder.parent} is not a folder") from None
            yield folder, False
        except OSError as error:
            raise ConfigError(f"{where}: cannot write there ({error.strerror})") from None
        else:
            check_writable(folder)
            yield folder, True
    raise ConfigError(f"{where}: {base} exists 100,000 times; {remedy}")


def check_writable(folder: Path) -> None:
    """Write and remove a small file.

    Raises:
        ConfigError: the folder cannot be written.
    """
    probe = folder / f".write-test-{os.getpid()}"
    try:
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"{folder}: cannot write there ({error.strerror})") from None


@contextmanager
def lock_folder(folder: Path, patience: float = 0) -> Iterator[None]:
    """Keep other processes from writing to a folder. The lock ends with the process that holds it, however it ends.

    Args:
        folder: it has to be there.
        patience: seconds to wait for a process that holds it.

    Raises:
        ConfigError: another process holds it.
    """
    with open(folder / ".lock", "a+", encoding="utf-8") as file:
        if _flock(file, patience):
            file.truncate(0)
            file.write(f"{os.getpid()} {os.uname().nodename}")
            file.flush()
        yield


def in_use(folder: Path) -> bool:
    """Whether a process holds the lock of :func:`lock_folder`."""
    try:
        with open(folder / ".lock", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a file system without locks
        pass
    return False


def _flock(file: IO[str], patience: float) -> bool:
    """Whether the file system has locks; there is nothing to hold where it has none."""
    started = time.monotonic()
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            file.seek(0)
            process, _, host = file.read().partition(" ")
            # Loader processes outlive a killed run by some seconds, and share its lock. Where no name stands, somebody
            # looks whether it is in use, or has just taken it.
            gone = host == os.uname().nodename and not _alive(process)
            if time.monotonic() < started + (max(30, patience) if gone or not host else patience):
                time.sleep(0.1)
                continue
            folder = Path(file.name).parent
            who = f"process {process} on {host}" if host else "another process"
            raise ConfigError(f"{folder}: in use by {who}; wait for it, or stop it first") from None
        except OSError:
            return False


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True


def has_finished(folder: Path, epochs: int) -> bool:
    """Whether the run in ``folder`` has been trained for all its epochs, or a callback has stopped it, and nothing of it
    is missing."""
    result = read_result(folder) or {}
    done = result.get("epochs")
    if isinstance(result.get("map"), dict):  # a detector has no epochs
        return True
    return type(done) is int and (done >= epochs or result.get("stopped") is True)


def lacks_result(folder: Path, epochs: int) -> bool:
    """Whether a run that is trained for all its epochs was killed before it could say what came out."""
    return (folder / LAST).is_file() and not has_finished(folder, epochs)


def own_checkpoints(config: Config) -> list[Path]:
    """The checkpoints in the newest folder of this very configuration, the newest first (``ckpt_path=auto``).

    The same configuration may differ in what does not change the weights after an epoch, and in the number of epochs:
    :func:`sppcls.config.same_run.run_identity`.
    """
    base = base_folder(config)
    names = "|".join(map(re.escape, (base.name, _name_before(config))))
    pattern = re.compile(rf"({names})(-\d+)?")
    folders = [p for p in base.parent.glob("*") if pattern.fullmatch(p.name)] if base.parent.is_dir() else []
    found = [checkpoints_in(folder) for folder in folders if is_same_run(folder, config)]
    return max(filter(None, found), key=lambda paths: paths[0].stat().st_mtime_ns, default=[])


def checkpoints_in(folder: Path) -> list[Path]:
    """What a run can resume from, the newest first."""
    return [path for name in (LAST, PREVIOUS, BEST) if (path := folder / name).is_file()]


def is_same_run(folder: Path, config: Config) -> bool:
    """Whether a folder is of this very configuration, as ``ckpt_path=auto`` takes it."""
    try:
        saved = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
        return run_identity(upgraded(saved)) == run_identity(as_dict(config))
    except (OSError, yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def base_folder(config: Config) -> Path:
    """The folder that a first run of this configuration gets."""
    # The images of a classifier, of which the name is made, have no part in a detector.
    unnamed = config.detection.checkpoint is not None and config.name == config.data.name
    return Path(config.runs_dir) / ("detect" if unnamed else _safe(config.name)) / run_name(config)
