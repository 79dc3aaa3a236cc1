"""How often a process that ends right after its last exchange with gloo is aborted: exit statuses of pairs.

    python benchmarks/gloo_end.py [--pairs 10] [--as-before]

Pairs of forks exchange a few tensors and end. In the second of a pair gloo's threads get a processor only when nothing else
wants it, as it happens on a busy machine. ``--as-before``: without ``let_gloo_finish``, which a training ends with.
"""

from __future__ import annotations

import argparse
import collections
import os
import socket
import sys

import torch
import torch.distributed as dist

from sppcls._util.processes import let_gloo_finish


def exchange(rank: int, port: int) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo")
    dist.all_reduce(torch.ones(4))  # which starts the threads
    if rank == 1:
        here = {max(os.sched_getaffinity(0))}
        os.sched_setaffinity(0, here)
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/comm") as file:
                if file.read().strip() == "pt_gloo_runloop":
                    os.sched_setaffinity(int(thread), here)
                    os.sched_setscheduler(int(thread), os.SCHED_IDLE, os.sched_param(0))
    for _ in range(3):
        dist.all_reduce(torch.ones(4))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--as-before", action="store_true")
    options = parser.parse_args()
    ended: collections.Counter[tuple[int, int]] = collections.Counter()
    for _ in range(options.pairs):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = []
        for rank in range(2):
            child = os.fork()
            if not child:
                exchange(rank, port)
                if not options.as_before:
                    let_gloo_finish()
                sys.exit(0)
            children.append(child)
        for rank, child in enumerate(children):
            ended[rank, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])] += 1
    for (rank, status), count in sorted(ended.items()):
        print(f"process {rank}: exit status {status} in {count} of {options.pairs}")


if __name__ == "__main__":
    main()
