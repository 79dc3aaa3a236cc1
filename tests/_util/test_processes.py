"""The end of a process that has exchanged with others."""

from __future__ import annotations

import ctypes
import hashlib
import threading
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from sppcls._util.processes import let_gloo_finish

PR_SET_NAME = 15


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are looked at as Linux shows them")
def test_threads_of_gloo_that_are_at_work_are_waited_for() -> None:
    begun, done = threading.Event(), threading.Event()

    def work() -> None:
        ctypes.CDLL(None).prctl(PR_SET_NAME, b"pt_gloo_runloop", 0, 0, 0)  # as torch names them
        begun.set()
        for _ in range(5):
            hashlib.pbkdf2_hmac("sha256", b"gloo", b"gloo", 200_000)  # without Python's lock
        done.set()
        time.sleep(3)  # as one that waits for more to do

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        begun.wait()
        let_gloo_finish(60)
        assert done.is_set()
        assert thread.is_alive(), "those at rest are not"
        thread.join()
    finally:
        dist.destroy_process_group()
