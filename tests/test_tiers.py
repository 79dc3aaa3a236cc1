"""Every test has one tier, and the README's command, which CI runs, leaves out the long ones only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tiers import DEFAULTS, TIERS

pytest_plugins = "pytester"
TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent

_CONFTEST = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(TESTS)!r})
import pytest
import tiers

@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        tiers.give_tier(item, Path(__file__).parent)
"""
_MARKERS = "[pytest]\nmarkers =\n" + "".join(f"    {tier}\n" for tier in TIERS)


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(_MARKERS)
    pytester.makeconftest(_CONFTEST)
    return pytester


def collected(suite: pytest.Pytester, *words: str) -> set[str]:
    # A process of its own: modules of the names used here may be loaded in this one.
    done = suite.runpytest_subprocess(
        "-p", "no:cacheprovider", "--collect-only", "-q", "--import-mode=importlib", *words
    )
    return {line for line in done.outlines if "::" in line}


def test_a_tier_is_that_of_the_marker_the_file_or_the_folder(suite: pytest.Pytester) -> None:
    plain = "def test_plain(): pass\n"
    own = "import pytest\n" + "".join(f"@pytest.mark.{t}\ndef test_{t}(): pass\n" for t in TIERS)
    part = "@pytest.mark.parametrize('x', [1, pytest.param(2, marks=pytest.mark.long)])\ndef test_part(x): pass\n"
    for path, text in {
        "nn/test_a.py": plain + own + part,
        "engine/test_b.py": plain + own,
        "sweeps/search/test_search.py": plain,
        "sweeps/search/test_space.py": plain,
        "long/test_c.py": plain,
    }.items():
        (suite.path / path).parent.mkdir(parents=True, exist_ok=True)
        (suite.path / path).write_text(text)
    by_tier = {tier: collected(suite, "-m", tier) for tier in TIERS}
    assert by_tier == {
        "unit": {
            "nn/test_a.py::test_plain",
            "nn/test_a.py::test_unit",
            "nn/test_a.py::test_part[1]",
            "engine/test_b.py::test_unit",
            "sweeps/search/test_space.py::test_plain",
        },
        "run": {
            "nn/test_a.py::test_run",
            "engine/test_b.py::test_plain",
            "engine/test_b.py::test_run",
            "sweeps/search/test_search.py::test_plain",
        },
        "long": {
            "nn/test_a.py::test_long",
            "nn/test_a.py::test_part[2]",
            "engine/test_b.py::test_long",
            "long/test_c.py::test_plain",
        },
    }


def test_two_tiers_are_refused(suite: pytest.Pytester) -> None:
    suite.makepyfile("import pytest\npytestmark = pytest.mark.run\n@pytest.mark.long\ndef test_it(): pass\n")
    done = suite.runpytest_inprocess()
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*::test_it is marked long and run: a test has one tier"])


def test_every_place_with_a_tier_exists() -> None:
    assert [name for name in DEFAULTS if not (TESTS / name).exists()] == []


def test_every_test_here_has_one_tier(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        assert len({mark.name for mark in item.iter_markers()}.intersection(TIERS)) == 1, item.nodeid


def test_ci_runs_the_second_command_of_the_readme() -> None:
    commands = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert len(commands) == 2
    assert (
        script.replace('"$environment/.venv"', ".venv")
        .replace('"$environment/.venv/bin/activate"', ".venv/bin/activate")
        .splitlines()[-1]
        == commands[1]
    )
