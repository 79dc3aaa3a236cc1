"""What the processor can do."""

from __future__ import annotations

from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_BF16 = {"avx512_bf16", "amx_bf16"}


def has_bf16_arithmetic(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the processor multiplies bfloat16 numbers itself; False where the system does not say."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.startswith("flags") and not _BF16.isdisjoint(line.split()) for line in lines)
