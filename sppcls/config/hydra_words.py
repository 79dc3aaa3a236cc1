"""Words for Hydra itself, ``hydra.KEY=VALUE`` and ``hydra/GROUP=CHOICE``: those that change nothing here are refused."""

from __future__ import annotations

from collections.abc import Sequence

from sppcls.errors import ConfigError

# What has an effect on a run, and on the processes of a sweep.
_OF_A_RUN = ("searchpath", "verbose", "callbacks", "job_logging", "hydra_logging", "job.env_set")
_OF_A_SWEEP = (*_OF_A_RUN[1:], "launcher", "job.env_copy")

# What to type instead, by the beginning of the key.
_INSTEAD = {
    "run": "the folder of a run is runs_dir=FOLDER, name=NAME and run_name=NAME",
    "sweep": "the folder of a sweep is runs_dir=FOLDER and name=NAME",
    "job.chdir": "a run stays in the folder where it was started; its own is runs_dir=FOLDER and run_name=NAME",
    "job.env_copy": "set variables as hydra.job.env_set, or before the command",
    "job": "the names of a run are name=NAME and run_name=NAME",
    "output_subdir": "the config is config.yaml in the run's folder",
    "mode": "-m trains with each of several values",
    "sweeper": "-m trains with each combination of values, and `sppcls search` looks for good ones",
    "launcher": "launchers are for sweeps; add -m",
    "searchpath": "add a folder of configs by --config-dir FOLDER",
}


def is_hydras(word: str) -> bool:
    """Whether a word sets something of Hydra's and not a key of a run."""
    return word.lstrip("+~").startswith(("hydra.", "hydra/"))


def check_hydra_words(words: Sequence[str], sweep: bool = False) -> None:
    """Refuse words that Hydra takes and that change nothing.

    Args:
        words: of a command line; those that are not Hydra's are passed over.
        sweep: whether they are those of a sweep, and not of a run.

    Raises:
        ConfigError: one line that names the word and says what to type.
    """
    works = _OF_A_SWEEP if sweep else _OF_A_RUN
    for word in filter(is_hydras, words):
        key = word.lstrip("+~").partition("=")[0].partition("@")[0][len("hydra.") :].replace("/", ".")
        if any(_is_below(key, known) for known in works):
            continue
        instead = next((text for known, text in _INSTEAD.items() if _is_below(key, known)), "Hydra sets it")
        raise ConfigError(f"{word}: has no effect here; {instead}")


def _is_below(key: str, known: str) -> bool:
    return f"{key}.".startswith(f"{known}.")
