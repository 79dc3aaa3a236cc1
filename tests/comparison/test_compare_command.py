"""``sppcls compare`` from the command line, on trained runs and on bad input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from written_runs import misses, save_answers, write_run

import sppcls
from sppcls.cli.main import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_words: list[str]) -> Path:
    """Real runs: two pyramids, two seeds each."""
    folder = tmp_path_factory.mktemp("trained")
    for pyramid in ("l321", "l1"):
        for seed in (0, 1):
            words = [word for word in tiny_words if not word.startswith("pyramid=")]
            more = [f"pyramid={pyramid}", f"seed={seed}", f"runs_dir={folder}", "name=tiny"]
            sppcls.train(sppcls.compose([*words, *more]))
    return folder


def test_trained_runs_are_compared(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["compare", str(trained), "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert "4 finished runs in 2 groups; varied: pyramid.levels." in out
    assert "pyramid, val_96/top1_error: no difference shown. l321 " in out
    assert "over 2 seeds" in out
    assert f"Report: {tmp_path / 'out' / 'comparison.html'}" in out
    assert err == ""
    comparison = sppcls.compare([trained])
    for group in comparison.groups:
        assert group.seeds == [0, 1]
        for run in group.runs:
            assert set(run.answers) == set(run.errors) == set(comparison.measures)
            # Epoch 0 at 96, epoch 1 at 72; the numbers are those of the training itself.
            assert run.last("pixels_seen") == 48 * (96**2 + 72**2)
            assert run.result["last"]["val_96/top1_error"] == pytest.approx(
                run.errors[comparison.main][0], abs=1e-3
            )


@pytest.mark.parametrize(
    ("form", "start"), [("markdown", "| group |"), ("csv", "group,seed numbers"), ("latex", "% Groups")]
)
def test_tables_in_other_formats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, start: str
) -> None:
    write_run(tmp_path / "a", error=20)
    assert main(["compare", str(tmp_path), "--format", form]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(start)
    assert err == f"sppcls: report: {tmp_path / 'comparison' / 'comparison.html'}\n"


def test_what_cannot_be_compared_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "runs" / "a", right=misses(40, 1))
    write_run(tmp_path / "runs" / "b", right=misses(40, 2), pyramid__levels=None, optimizer__lr=1.0)
    half = write_run(tmp_path / "runs" / "c", error=10, epochs=1)
    assert main(["compare", str(tmp_path / "runs")]) == 0
    out, err = capsys.readouterr()
    assert "not compared: they differ in pyramid and optimizer (pyramid.levels, optimizer.lr)" in out
    assert err == f"sppcls: {half}: unfinished, at epoch 1 of 2: left out\n"


def test_two_single_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    a = write_run(tmp_path / "a", right=misses(100, *range(30)))
    b = write_run(tmp_path / "b", right=misses(100, *range(28)), pyramid__levels=None)
    assert main(["compare", str(a), str(b)]) == 0
    out, _ = capsys.readouterr()
    assert (
        "no difference shown. l321 is 2.00 percentage points higher than none with one seed (0), so there is no interval"
        in out
    )
    assert "McNemar: p = 0.500); this says nothing about another training run" in out
    assert (tmp_path / "comparison" / "comparison.html").is_file()


def test_two_files_of_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, other = (tmp_path / name for name in ("a.npz", "b.npz", "other.npz"))
    save_answers(a, misses(100, *range(30)))
    save_answers(b, misses(100, *range(10)))
    save_answers(other, misses(90, *range(10)))
    assert main(["compare", str(a), str(b)]) == 0
    out, _ = capsys.readouterr()
    assert (
        f"these two networks differ: {b} is 20.00 percentage points lower than {a}, over the 100 images -28.00 to -12"
        in out
    )
    assert "McNemar: p < 0.001" in out
    assert main(["compare", str(a), str(other)]) == 1
    _, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert "(90 and 100 images, 90 of the same name), so they cannot be compared" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "PATH: missing"),
        (["{tmp}/gone"], "gone: no such folder"),
        (["{tmp}/empty"], "no run that can be compared; {tmp}/empty: is empty"),
        (["{tmp}/runs", "--baseline", "x"], "--baseline x: no such group; choose from runs"),
        (["{tmp}/runs", "--format", "word"], "--format word: choose from text, markdown"),
        (["{tmp}/runs", "--out", "{tmp}/runs"], "holds a, which is of no report"),
        (["{tmp}/one.npz"], "one file of predictions; name another one"),
        (["{tmp}/one.npz", "{tmp}/runs"], "not both"),
        (["{tmp}/one.npz", "{tmp}/one.npz", "--out", "x"], "--out: is for run folders"),
        (["{tmp}/bad.npz", "{tmp}/one.npz"], "bad.npz: cannot be read"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    write_run(tmp_path / "runs" / "a", error=20)
    (tmp_path / "empty").mkdir()
    save_answers(tmp_path / "one.npz", np.ones(10, dtype=bool))
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    assert main(["compare", *(word.format(tmp=tmp_path) for word in words)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message.format(tmp=tmp_path) in err


def test_it_starts_without_torch() -> None:
    code = "import sys, sppcls.comparison.report.write, sppcls.cli.compare; assert not {'torch', 'hydra'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_report_of_one_run_is_in_its_folder_and_of_several_in_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    one, other = (write_run(tmp_path / "runs" / name, error=20, name=name) for name in ("one", "other"))
    assert main(["compare", str(one)]) == 0
    assert list((tmp_path / "here").iterdir()) == []
    assert (one / "comparison" / "comparison.html").is_file()
    assert main(["compare", str(one), str(other)]) == 0
    assert (tmp_path / "here" / "comparison" / "comparison.html").is_file()


def test_only_the_first_of_many_problems_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", error=20)
    for number in range(14):
        write_run(tmp_path / f"half{number}", error=20, epochs=1, seed=number)
    assert main(["compare", str(tmp_path)]) == 0
    _, err = capsys.readouterr()
    assert err.count("unfinished, at epoch 1 of 2: left out") == 12
    assert err.endswith("sppcls: ... and 2 more in the report\n")
    assert (tmp_path / "comparison" / "comparison.md").read_text().count("unfinished") == 14
