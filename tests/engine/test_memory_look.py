"""The look at memory, where what it tries crashes, is killed, or fails in another way."""

from __future__ import annotations

import os
import resource
import signal

import pytest
import torch

from sppcls.engine.callbacks.memory import _survives


def crash() -> bool:
    os.kill(os.getpid(), signal.SIGSEGV)
    return True


def killed() -> bool:
    os.kill(os.getpid(), signal.SIGKILL)
    return True


def beyond_the_limit() -> bool:
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    torch.empty(1 << 40, dtype=torch.uint8)
    return True


def other_error() -> bool:
    raise ValueError("nothing to do with memory")


@pytest.mark.parametrize(
    ("attempt", "fits"),
    [
        (lambda: True, True),
        (lambda: False, False),
        (crash, False),
        (killed, False),
        (os.abort, False),
        (beyond_the_limit, False),
        (other_error, True),  # the run meets it again and says what it is
    ],
    ids=["fits", "does not", "crash", "killed", "abort", "limit", "another error"],
)
def test_what_happens_in_the_look_happens_to_it_alone(
    attempt, fits: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    limit = resource.getrlimit(resource.RLIMIT_AS)
    assert _survives(attempt) is fits
    assert resource.getrlimit(resource.RLIMIT_AS) == limit
    assert capfd.readouterr().err == ""


def test_convolutions_run_in_the_look_after_threads_have_been_used_here() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        net = torch.nn.Conv2d(3, 8, 3)
        x = torch.randn(8, 3, 64, 64)
        net(x).sum().backward()

        def attempt() -> bool:
            net(x).sum().backward()
            return True

        assert _survives(attempt)
    finally:
        torch.set_num_threads(threads)
