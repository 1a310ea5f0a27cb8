"""Runs a command and prints, as JSON, its peak memory in KiB, its seconds and its status. Its output goes to stderr.

    python -S benchmarks/peak_memory.py COMMAND [ARGUMENT ...]

A process of its own, and a small one: see `benchmarks.common.run_measured`.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    start = time.perf_counter()
    child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    print(json.dumps({"peak_kib": usage.ru_maxrss, "seconds": seconds, "status": os.waitstatus_to_exitcode(status)}))


if __name__ == "__main__":
    main()
