"""A process with everything imported, which forks a child for each ingest: what is to be killed need not start first.

Run as a script it reads one job a line on stdin and answers each with one line; `ForkServer` is the other end.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    status: int
    """Its exit status; minus the signal's number where one killed it."""
    stdout: str
    stderr: str
    seconds: float
    """Of processor time, which a busy machine does not stretch."""


class ForkServer:
    """Starts ingests in children of one warm process, and ends them at chosen moments."""

    def __init__(self, folder: Path, *, block_rows: int | None = None) -> None:
        """folder: for the children's output. block_rows: the capture's BLOCK_ROWS, where not its own."""
        self._folder = folder
        environment = os.environ | {
            "PYTHONPATH": str(Path(__file__).parent.parent),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server", str(block_rows or 0)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def cli(self, *words: str | Path, **job: Any) -> Ended:
        """`featuredb WORDS`. job: see `run`."""
        return self.run(words=list(map(str, words)), **job)

    def ingest(self, store: Path, request: dict[str, Any], **job: Any) -> Ended:
        """One ingest, written down after every block. request: arguments of small_ingest.request; job: see `run`."""
        return self.run(store=str(store), request=request, **job)

    def run(self, **job: Any) -> Ended:
        """One child. Jobs may say, beside what to run:

        kill_after: seconds of processor time after which it gets SIGKILL.
        interrupt_when: a glob; once it names a file that is not empty, the child gets SIGINT.
        at: [function, n, signal]; at the n-th call of "module:function" the child sends itself the signal first.
        file_limit: the most bytes a file may have. cwd: where it runs.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job["output"] = str(self._folder / "child")
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the fork server died"
        out, err = (Path(f"{job['output']}.{stream}").read_text(errors="replace") for stream in ("out", "err"))
        status, seconds = json.loads(answer)
        return Ended(status, out, err, seconds)

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=300)


def serve(block_rows: int) -> None:
    import torch

    from featuredb.capture import loop
    from featuredb.capture.plan import Plan

    torch.set_num_threads(1)
    _import_all()
    if block_rows:
        loop.BLOCK_ROWS = block_rows
    plans: dict[str, Plan] = {}
    for line in sys.stdin:
        job = json.loads(line)
        plan = _plan(job, plans)
        child = os.fork()
        if child == 0:
            _be_child(job, plan)
        _end_early(job, child)
        _, status, used = os.wait4(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime]), flush=True)  # noqa: T201


def _import_all() -> None:
    """Whatever an ingest imports, so that no child has to. Importing starts no threads, which a fork would lose."""
    for module in (
        "duckdb",
        "faiss",
        "pandas",
        "pyarrow.compute",
        "safetensors.torch",
        "transformers.models.gpt2.modeling_gpt2",
        "featuredb.capture.finish",
        "featuredb.cli.ingest",
        "featuredb.cli.output",
        "featuredb.search.listing",
        "featuredb.store.store",
    ):
        importlib.import_module(module)
    import featuredb

    with tempfile.TemporaryDirectory() as folder, featuredb.open(Path(folder) / "store.fdb", create=True) as db:
        db.ls("runs")


def _plan(job: dict[str, Any], plans: dict[str, Any]) -> Any:
    """The job's plan, with its model loaded here, once for all children."""
    from featuredb.capture.ingest import prepare
    from tests.small_ingest import request

    if "request" not in job:
        return None
    asked = dict(job["request"])
    known = json.dumps(asked, sort_keys=True)
    if known not in plans:
        paths = [
            Path(asked.pop("model")),
            [Path(path) for path in asked.pop("dictionaries")],
            Path(asked.pop("corpus")),
        ]
        plans[known] = prepare(request(*paths, checkpoint_seconds=0.0, **asked))  # type: ignore[arg-type]
    return plans[known]


def _be_child(job: dict[str, Any], plan: Any) -> None:
    for number, stream in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{job['output']}.{stream}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    # Where the tests run in the background of a script, every process inherits that SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = 1
    try:
        os.chdir(job.get("cwd", "."))
        if "at" in job:
            _signal_at(*job["at"])
        if "file_limit" in job:
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"],) * 2)
        status = _work(job, plan)
    except BaseException:  # noqa: BLE001  a forked child must not return into its parent's code
        import traceback

        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _work(job: dict[str, Any], plan: Any) -> int:
    if plan is not None:
        import featuredb

        with featuredb.open(job["store"], create=True) as db:
            db.ingest(plan)
        return 0
    from featuredb.cli.main import main

    try:
        main(job["words"])
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def _signal_at(function: str, n: int, number: int) -> None:
    module, name = function.split(":")
    owner = importlib.import_module(module)
    before = getattr(owner, name)
    calls = 0

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == n:
            os.kill(os.getpid(), number)
            time.sleep(1)  # another thread may get it, and it is here that it should be felt
        return before(*args, **kwargs)

    setattr(owner, name, counting)


def _end_early(job: dict[str, Any], child: int) -> None:
    if "kill_after" in job and _reached(child, lambda: _seconds(child) >= job["kill_after"]):
        os.kill(child, signal.SIGKILL)
    if "interrupt_when" in job and _reached(child, lambda: _filled(job["interrupt_when"])):
        os.kill(child, signal.SIGINT)


def _reached(child: int, moment: Callable[[], bool]) -> bool:
    """Waits for a moment in a child's life; False where the child ended before it. It is left to be waited for, so
    that its number stays its own."""
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if moment():
            return True
        time.sleep(0.002)
    return False


def _seconds(child: int) -> float:
    """Processor time of a child's main thread so far."""
    return int(Path(f"/proc/{child}/schedstat").read_text().split()[0]) / 1e9


def _filled(pattern: str) -> bool:
    path = Path(pattern)
    try:
        return any(found.stat().st_size for found in Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    serve(int(sys.argv[1]))
