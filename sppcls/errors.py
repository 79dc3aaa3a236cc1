"""Errors meant for the person at the keyboard.

The message of each is one line that names the key, file or value at fault and says what is allowed. The command
line prints that line without a traceback; library callers catch :class:`SppclsError`.
"""

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ImageError",
    "Interrupted",
    "PartError",
    "SppclsError",
]


class SppclsError(Exception):
    """Base of every error that sppcls raises on purpose outside ``sppcls.nn``."""


class ConfigError(SppclsError):
    """A configuration key is unknown, has the wrong type, or its value is impossible."""


class DataError(SppclsError):
    """The data set is missing, empty or inconsistent."""


class ImageError(DataError):
    """One image cannot be read."""


class CheckpointError(SppclsError):
    """A checkpoint cannot be read, written, or does not fit."""


class PartError(SppclsError):
    """A part that does not come with sppcls has raised an exception, which is the cause of this one."""


class Interrupted(SppclsError):
    """Training was asked to stop by a signal and has saved what it had."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum
