"""Arrays kept on disk under a name: what a stage has made is there for the next run, and after a kill."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sppcls._util.files import replacing
from sppcls.errors import ConfigError


def default_cache() -> Path:
    """Where windows and maps are kept unless ``--cache`` says otherwise."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "sppcls" / "detect"


class Store:
    """Named sets of arrays in a folder, one file each.

    A file is written whole or not at all, and its checksums are compared when it is read, so a damaged one counts as
    missing and is made anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        """Whether there are arrays of a name; :meth:`get` tells whether they are whole."""
        return (self.folder / f"{name}.npz").is_file()

    def get(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays of a name; None if there are none, or damaged ones."""
        try:
            with open(self.folder / f"{name}.npz", "rb") as opened, np.load(opened) as file:
                return {key: file[key] for key in file.files}
        except Exception:  # what a damaged file raises depends on where the damage is
            return None

    def put(self, name: str, **arrays: np.ndarray) -> None:
        """Keep arrays under a name.

        Raises:
            ConfigError: they cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--cache {self.folder}: cannot be made ({error.strerror})") from None
        with replacing(self.folder / f"{name}.npz", "--cache") as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]
