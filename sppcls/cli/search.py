"""``sppcls search``: look for good values of config keys with Optuna."""

from __future__ import annotations

from sppcls.cli.common import RunWords
from sppcls.cli.layout import laid_out
from sppcls.errors import ConfigError

_OPTIONS = ("--data", "--config-dir", "-cd", "--help")

_HELP = """\
usage: sppcls search [+search=NAME] n_trials=N [group=choice ...] [key=value ...]

Look for values of config keys with a small validation error, by Optuna: every trial is a training run, and bad ones are
stopped early. The same command again continues until N trials are done. Needs sppcls[search].

examples:
  sppcls search +search=small n_trials=40 --data PHOTOS  the space of conf/search/small.yaml
  sppcls search +search=small n_trials=40 optimizer.lr=0.01  the same, with a rate that is given
  sppcls search +search=mine n_trials=40 --config-dir DIR  your own file DIR/search/mine.yaml

a space without a file:
  sppcls search n_trials=20 pyramid=l6321,l421,l1 'optimizer.lr=tag(log,interval(0.001,0.1))'

searches: {searches}

words:
  key=value  of `sppcls train --help all`; fixes a key, and wins over the file
  key=a,b,c  one of these values
  key=interval(low,high)  a number between; tag(log,interval(low,high)): uniform in its logarithm
  n_trials=N  trials done in total: finished, pruned or diverged; failed ones do not count
  objective=COLUMN  validation column of metrics.csv to be small after the last epoch (val/top1_error, or
    val/map_error where images have several labels)
  pruner=median  stop a trial that is worse than the median of the others at its epoch; pruner=none: never
  pruner.startup_trials=5  trials before any is stopped
  pruner.warmup_epochs=2  epochs of a trial before it may be stopped
  sampler=tpe  learns from the trials before; sampler=random
  sampler.startup_trials=10  random draws before it learns
  sampler.seed=0  of these draws
  name=NAME  of the folder below runs_dir

runs/NAME/ gets a run folder for each trial (trial-0007), trials.csv, and study.db, Optuna's record (SQLite). One process at
a time searches in a folder. Ctrl-C saves; a search killed at any moment resumes where it was. Values that are impossible
together are skipped, and a trial that fails does not stop the rest. See docs/search.md.
"""


def run(words: list[str]) -> int:
    """Search; ``words`` are ``key=value`` words and perhaps ``--config-dir DIR``."""
    from sppcls.config.command_line import read_command_line

    if {"-h", "--help"} & set(words):
        from sppcls.sweeps.overrides import named_files

        print(laid_out(_HELP.format(searches=", ".join(named_files("search")))))
        return 0
    for option in (word.partition("=")[0] for word in words if word.startswith("-")):
        if option not in _OPTIONS:
            raise ConfigError(f"sppcls search: {RunWords.unknown(option, '', _OPTIONS)}")
    line = read_command_line(words)
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ConfigError('sppcls search: needs pip install "sppcls[search]"') from None
    from sppcls.sweeps.search.study import run_search

    run_search(line.overrides, line.config_dir)
    return 0
