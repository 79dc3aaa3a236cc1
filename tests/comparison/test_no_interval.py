"""A difference without an interval is not said to have one."""

from __future__ import annotations

from pathlib import Path

import pytest
from written_runs import misses, write_run

from sppcls.cli.main import main


@pytest.mark.parametrize(
    ("seeds", "said"), [(1, "no 95 % interval: one seed"), (2, "no 95 % interval: no spread")]
)
def test_without_a_spread(seeds: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(seeds):
        for name, levels in (("a", [1]), ("b", [2, 1])):
            write_run(tmp_path / f"{name}{seed}", right=misses(100, 1, 2), seed=seed, pyramid__levels=levels)
    assert main(["compare", str(tmp_path)]) == 0
    answer = capsys.readouterr().out.partition("finished runs")[0]
    assert f"+0.00 percentage points of top-1 error (l21 minus l1, {said})" in answer


def test_one_fold_is_not_called_a_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rate in (0.1, 0.2):
        write_run(tmp_path / str(rate), error=20, optimizer__lr=rate, data__folds=3, data__fold=0)
    assert main(["compare", str(tmp_path)]) == 0
    assert "no 95 % interval: one fold" in capsys.readouterr().out.partition("finished runs")[0]
