"""Processes that need no start-up: one with everything imported, forked for each job. ``python -m tests.prepared``.

It reads jobs as lines of JSON and answers each with one. It has one thread and never differentiates, so that a fork of
it is as good as a fresh process. A job may come with a plan of what is to happen to it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Pool:
    """The tests' side: starts jobs and waits for them."""

    def __init__(self):
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.prepared"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, function: str, *arguments, log: Path, plan: dict | None = None, **env) -> int:
        """Fork, and there call function ("module:name") with the arguments; its result is the exit code. The pid."""
        job = {"function": function, "arguments": arguments, "log": str(log), "plan": plan, "env": env}
        return self._ask(job)

    def train(self, out: Path, *options, log: Path, plan: dict | None = None, **env) -> int:
        """Fork ``python -m ddpm_lib train mnist5k --out OUT ...``."""
        arguments = ["train", "mnist5k", "--out", out, "--device", "cpu", *options]
        return self.start("ddpm_lib.cli:main", [str(a) for a in arguments], log=log, plan=plan, **env)

    def wait(self, pid: int, seconds: float = 120) -> int | None:
        """The exit code of the process, minus the signal that ended it, or None if it still runs after the seconds."""
        return self._ask({"wait": pid, "seconds": seconds})

    def close(self) -> None:
        self.server.stdin.close()
        self.server.wait(60)

    def _ask(self, job: dict):
        print(json.dumps(job), file=self.server.stdin, flush=True)
        return json.loads(self.server.stdout.readline())


def serve() -> None:
    import torch
    import torch._dynamo  # which DistributedDataParallel imports

    from ddpm_lib import cli, data

    torch.set_num_threads(1)
    data.load("mnist5k")
    assert cli
    running = set()
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            answer = _wait(job["wait"], job["seconds"])
            running -= set() if answer is None else {job["wait"]}
        else:
            answer = _fork(job)
            running.add(answer)
        print(json.dumps(answer), flush=True)
    for pid in running:  # of a test that failed
        os.kill(pid, signal.SIGKILL)


def _fork(job: dict) -> int:
    if pid := os.fork():
        return pid
    code = 70
    try:
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.environ.update(job["env"])
        module, name = job["function"].split(":")
        with _doomed(**(job["plan"] or {})):
            code = getattr(import_module(module), name)(*job["arguments"]) or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pid: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


@contextmanager
def _doomed(
    die_in_save: int = 0,
    half_write: int = 0,
    die_at_step: int = 0,
    nan_at_step: int = 0,
    full_at_save: int = 0,
):
    """What happens to the process; each counts from 1, and 0 is never.

    die_in_save: SIGKILL at this call of any function within ``checkpoint.save``. half_write: SIGKILL when half of this
    file is written. die_at_step: SIGKILL in the middle of this training step. nan_at_step: the loss of this step is no
    number. full_at_save: from this checkpoint on the disk takes no file of more than 10,000 bytes.
    """
    from ddpm_lib import checkpoint, training

    counts = dict.fromkeys(("calls", "writes", "steps", "saves"), 0)
    real_save, real_write, real_loss = checkpoint.save, Path.write_bytes, training.simple_loss

    def watch(frame, event, argument):
        if event in ("call", "c_call"):
            counts["calls"] += 1
            if counts["calls"] == die_in_save:
                os.kill(os.getpid(), signal.SIGKILL)

    def save(*arguments, **options):
        counts["saves"] += 1
        if counts["saves"] == full_at_save:
            import resource  # which Windows lacks, where no test comes here

            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        if die_in_save:
            sys.setprofile(watch)
        try:
            return real_save(*arguments, **options)
        finally:
            sys.setprofile(None)

    def write_bytes(self, content):
        counts["writes"] += 1
        if counts["writes"] == half_write:
            real_write(self, content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return real_write(self, content)

    def loss(*arguments):
        counts["steps"] += 1
        if counts["steps"] == die_at_step:
            os.kill(os.getpid(), signal.SIGKILL)
        return real_loss(*arguments) * (float("nan") if counts["steps"] == nan_at_step else 1)

    checkpoint.save, Path.write_bytes, training.simple_loss = save, write_bytes, loss
    try:
        yield
    finally:
        if die_in_save or half_write:
            print(f"survived: {counts}")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        serve()
