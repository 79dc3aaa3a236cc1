"""What /proc/cpuinfo says of bfloat16."""

from pathlib import Path

import pytest

from sppcls._util.processor import has_bf16_arithmetic


@pytest.mark.parametrize(
    ("flags", "has"),
    [
        ("fpu avx512f avx512_bf16 amx_tile", True),
        ("fpu amx_bf16", True),
        ("fpu avx2 avx512f", False),
        ("fpu not_avx512_bf16", False),
    ],
)
def test_the_flags_of_the_processor_tell(flags: str, has: bool, tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nmodel name\t: Test avx512_bf16\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    assert has_bf16_arithmetic(info) is has


def test_a_system_that_does_not_tell_has_none(tmp_path: Path) -> None:
    assert not has_bf16_arithmetic(tmp_path / "missing")
