"""Several processes that train one model: each runs the model on its part of a step, and all take the same step.

They use `torch.distributed` over loopback and meet through a file. The store that torchrun would open listens on every
interface of the machine, and its rendezvous reads pickles from there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

Rows = npt.NDArray[np.int64]
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
_TIMEOUT = timedelta(minutes=30)
_LOOK_SECONDS, _LEAVE_SECONDS = 0.5, 30.0


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them: its own number and how many there are.

    Every method but `main` synchronises them: all must call it, in the same order.
    """

    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this one writes: progress, checkpoints, the model, the report."""
        return self.rank == 0

    def spread(self, forward: Callable[[Rows], torch.Tensor], rows: Rows) -> torch.Tensor:
        """`forward(rows)`, (n, d), of which this process computes its part; its gradients reach only that part.

        When every process computes the whole loss from it, `add_up` sums their parts to the whole gradient.
        """
        if self.count == 1:
            return forward(rows)
        parts = np.array_split(rows, self.count)
        mine = parts[self.rank]
        # without a part of its own a process runs one row, for the vectors' shape
        own = forward(mine if len(mine) else rows[:1])[: len(mine)]
        padded = own.new_zeros((max(len(part) for part in parts), own.shape[1]))
        padded[: len(own)] = own.detach()
        others = [torch.empty_like(padded) for _ in parts]
        dist.all_gather(others, padded)
        return torch.cat([own if rank == self.rank else others[rank][: len(part)] for rank, part in enumerate(parts)])

    def add_up(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every process the sum of all their gradients."""
        if self.count == 1:
            return
        trained = list(parameters)
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in trained]
        together = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(together)
        for parameter, total in zip(trained, torch.split(together, [one.numel() for one in trained]), strict=True):
            parameter.grad = total.view_as(parameter)

    def agree(self, value: bool) -> bool:
        """The main process's value, because only its clock counts."""
        if self.count == 1:
            return value
        said = torch.tensor(int(value), device=_device())
        dist.broadcast(said, src=0)
        return bool(said.item())

    def check_same(self, arrays: Iterable[Rows]) -> None:
        """Raises RuntimeError where these differ between the processes, which would compute different steps."""
        if self.count == 1:
            return
        mine = torch.tensor([hash(tuple(array.ravel().tolist())) for array in arrays], device=_device())
        first = mine.clone()
        dist.broadcast(first, src=0)
        if not torch.equal(mine, first):
            raise RuntimeError("the processes of this run planned different steps; set limits.train_processes to 1")


ALONE = Processes()


@contextmanager
def joined(meeting: Path, rank: int, count: int, *, device: str) -> Iterator[Processes]:
    """This process as one of `count` that meet through the file `meeting`; on CUDA each has a device of its own."""
    os.environ |= {"GLOO_SOCKET_IFNAME": _LOOPBACK, "NCCL_SOCKET_IFNAME": _LOOPBACK}
    if device == "cuda":
        torch.cuda.set_device(rank)
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=count, timeout=_TIMEOUT)
    try:
        yield Processes(rank, count)
    finally:
        dist.destroy_process_group()


@contextmanager
def led(
    command: list[str], out: Path, count: int, *, device: str, failed: Callable[[str], None]
) -> Iterator[Processes]:
    """This process as the main one of `count`, which starts the others with `command` and their own numbers.

    They end with it. Where one of them fails before this process is done, `failed` is called and this process ends with
    exit code 1: it would wait forever for the other's gradients.
    """
    meeting = out.with_name(f"{out.name}.{os.getpid()}.meeting")
    for left in out.parent.glob(f"{out.name}.*.meeting"):  # left by a run that was killed
        left.unlink(missing_ok=True)
    own = ["--count", str(count), "--meeting", str(meeting), "--parent", str(os.getpid())]
    others = {
        rank: subprocess.Popen([*command, *own, "--rank", str(rank)], stdin=subprocess.DEVNULL)  # noqa: S603 - our own
        for rank in range(1, count)
    }
    done = threading.Event()
    threading.Thread(target=_watch, args=(others, done, failed), name="processes", daemon=True).start()
    try:
        with joined(meeting, 0, count, device=device) as processes:
            yield processes
            done.set()
        for other in others.values():
            with suppress(subprocess.TimeoutExpired):  # the model is saved, so the process may be killed
                other.wait(_LEAVE_SECONDS)
    except RuntimeError as error:
        gone = [(rank, code) for rank, other in others.items() if (code := other.poll())]
        if gone:
            raise RuntimeError(_ended(gone[0][0], count, gone[0][1])) from error
        raise
    finally:
        done.set()
        for other in others.values():
            other.kill()
            other.wait()
        meeting.unlink(missing_ok=True)


def count_of(asked: int, *, tier: str, device: str) -> int:
    """How many processes a run gets: `asked`, else one for each CUDA device; 1 in tiers that take seconds."""
    if tier != "full":
        return 1
    return asked or (max(1, torch.cuda.device_count()) if device == "cuda" else 1)


def _watch(others: Mapping[int, subprocess.Popen[bytes]], done: threading.Event, failed: Callable[[str], None]) -> None:
    while not done.wait(_LOOK_SECONDS):
        for rank, other in others.items():
            code = other.poll()
            if code:
                failed(_ended(rank, len(others) + 1, code))
                os._exit(1)


def _ended(rank: int, count: int, code: int) -> str:
    return f"process {rank + 1} of {count} ended with code {code}; what it said is in the run's log"


def _device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
