from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def _small_operations(one_thread: None) -> None:
    """Tens of thousands of tiny operations: threads that wait for each other would take most of the time."""
