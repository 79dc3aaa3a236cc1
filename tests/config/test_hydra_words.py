"""Words for Hydra itself: what changes nothing is refused, in one line that says what to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from sppcls import compose
from sppcls.cli.main import main
from sppcls.config.hydra_words import check_hydra_words
from sppcls.errors import ConfigError
from sppcls.sweeps.plan import plan_sweep

# Words, and what to type instead in a run and in a sweep; None: they have an effect there.
WORDS = [
    ("hydra.run.dir=x", "runs_dir=FOLDER, name=NAME and run_name=NAME", "runs_dir=FOLDER, name=NAME"),
    ("hydra.sweep.dir=x", "runs_dir=FOLDER and name=NAME", "runs_dir=FOLDER and name=NAME"),
    ("hydra.sweep.subdir=x", "runs_dir=FOLDER and name=NAME", "runs_dir=FOLDER and name=NAME"),
    ("hydra.job.chdir=true", "stays in the folder where it was started", "stays in the folder"),
    ("hydra.job.name=x", "name=NAME and run_name=NAME", "name=NAME and run_name=NAME"),
    ("hydra.job.config.override_dirname.item_sep=x", "run_name=NAME", "run_name=NAME"),
    ("hydra.output_subdir=x", "config.yaml in the run's folder", "config.yaml in the run's folder"),
    ("hydra.mode=MULTIRUN", "-m trains with each", "-m trains with each"),
    ("hydra/sweeper=basic", "`sppcls search`", "`sppcls search`"),
    ("hydra.sweeper.max_batch_size=2", "`sppcls search`", "`sppcls search`"),
    ("~hydra.runtime.cwd", "Hydra sets it", "Hydra sets it"),
    ("hydra/launcher=joblib", "add -m", None),
    ("hydra.launcher.n_jobs=2", "add -m", None),
    ("hydra/launcher@hydra.launcher=joblib", "add -m", None),
    ("hydra.searchpath=[file:///tmp]", None, "--config-dir FOLDER"),
    ("hydra.job.env_copy=[HOME]", "set variables as hydra.job.env_set", None),
    ("+hydra.job.env_set.SOME=thing", None, None),
    ("hydra.verbose=true", None, None),
    ("hydra/job_logging=default", None, None),
]


@pytest.mark.parametrize(("word", "run", "sweep"), WORDS, ids=[word for word, *_ in WORDS])
def test_a_word_without_effect_is_refused(word: str, run: str | None, sweep: str | None) -> None:
    for instead, is_sweep in ((run, False), (sweep, True)):
        if instead is None:
            check_hydra_words(["seed=0,1", word], is_sweep)
            continue
        with pytest.raises(ConfigError) as caught:
            check_hydra_words(["seed=0,1", word], is_sweep)
        assert str(caught.value).startswith(f"{word}: has no effect here; ")
        assert instead in str(caught.value)


def test_words_with_an_effect_come_through() -> None:
    in_a_run = [word for word, run, _ in WORDS if run is None]
    assert compose(["seed=3", *in_a_run]).seed == 3
    in_a_sweep = ["hydra/launcher=joblib", *(word for word, _, sweep in WORDS[-3:] if sweep is None)]
    assert plan_sweep(["seed=0,1", *in_a_sweep]).hydra_words == in_a_sweep


@pytest.mark.parametrize("words", [["train"], ["train", "-m", "seed=0,1"], ["sizes"]])
def test_every_command_says_so_before_it_begins(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Whatever else is wrong: without the check, nothing would be trained here either.
    assert main([*words, "hydra.run.dir=x", "data=folder", "data.root=nowhere"]) == 1
    said = capsys.readouterr().err
    assert "hydra.run.dir=x: has no effect here; " in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
