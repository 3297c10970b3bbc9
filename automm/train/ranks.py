"""The processes of one job: who writes, what is agreed on, and what is broadcast.

Processes are launched from outside (torchrun, Slurm, Kubernetes). Decisions travel as plain JSON over a gloo control
group of their own, so a failed trial on one rank never desynchronises the gradients' group.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import automm.errors
from automm.errors import AutommError, RankLostError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

TIMEOUT = datetime.timedelta(seconds=float(os.environ.get("AUTOMM_TIMEOUT", "1800")))
"""How long a rank waits for the others before the job ends with an error."""


@dataclass
class Ranks:
    """This process among the processes of the job.

    Attributes:
        rank: 0 for the process that asks, decides and writes.
        world: Number of processes.
        nodes: Number of nodes.
        control: The gloo group for decisions; None with one process.
    """

    rank: int = 0
    world: int = 1
    nodes: int = 1
    control: Any = None

    @property
    def main(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def broadcast(self, value: Any) -> Any:
        """Rank 0's JSON value, on every rank."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        box = [json.dumps(value) if self.main else None]
        with _others_needed():
            dist.broadcast_object_list(box, src=0, group=self.control)
        return json.loads(str(box[0]))

    def gather(self, value: Any) -> list[Any]:
        """Every rank's JSON value, on every rank, by rank."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        box: list[Any] = [None] * self.world
        with _others_needed():
            dist.all_gather_object(box, json.dumps(value), group=self.control)
        return [json.loads(item) for item in box]

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Gives every rank rank 0's numbers, in place: running statistics differ by the rows of a rank's last step."""
        if self.world == 1:
            return
        import torch.distributed as dist

        for tensor in tensors:
            if tensor.is_floating_point():
                dist.broadcast(tensor, src=0)

    def first(self, work: Callable[[], Any]) -> Any:
        """Runs `work` on rank 0 while the others wait; its JSON result, or its error, reaches every rank.

        Raises:
            Exception: On rank 0 what `work` raised; elsewhere the same error class with the same message.
        """
        if self.world == 1:
            return work()
        result, raised = None, None
        if self.main:
            try:
                result = work()
            except Exception as problem:
                raised = problem
        result, failure = self.broadcast([result, _told(raised)])
        _raise(raised, failure)
        return result

    def keep(self, work: Callable[[], T]) -> T | None:
        """Runs `work` on rank 0, where its result stays; None elsewhere. Errors as in `first`."""
        made: list[T] = []
        self.first(lambda: made.append(work()))
        return made[0] if made else None

    def every(self, work: Callable[[], Any]) -> list[Any]:
        """Runs `work` on every rank; the JSON results of all, by rank.

        Raises:
            Exception: On every rank, if it failed on any.
        """
        result, raised = None, None
        try:
            result = work()
        except Exception as problem:
            raised = problem
        told = self.gather([result, _told(raised)])
        failures = [failure for _, failure in told if failure]
        _raise(raised, failures[0] if failures else None)
        return [result for result, _ in told]

    def first_then_all(self, work: Callable[[], T]) -> T:
        """Runs `work` on rank 0, then on the others, which find on disk what rank 0 wrote.

        Raises:
            Exception: On every rank, if it failed on any.
        """
        made: list[T] = []
        raised = None
        self.first(lambda: made.append(work()))
        try:
            made = made or [work()]
        except Exception as problem:
            raised = problem
        failures = [failure for failure in self.gather(_told(raised)) if failure]
        _raise(raised, failures[0] if failures else None)
        return made[0]


def _told(problem: Exception | None) -> list[str] | None:
    """An error as it travels."""
    return None if problem is None else [type(problem).__name__, str(problem)]


def _raise(own: Exception | None, told: list[str] | None) -> None:
    """Raises this rank's own error, else the one that another rank told of."""
    if own is not None:
        raise own
    if told is not None:
        raise getattr(automm.errors, told[0], AutommError)(told[1])


@contextmanager
def _others_needed() -> Iterator[None]:
    """Says in plain words that a process of the job is gone, or did not answer within `TIMEOUT`."""
    try:
        yield
    except RuntimeError as problem:
        reason = str(problem).partition("\n")[0].partition(". ")[0]
        raise RankLostError(
            f"another process of the job is gone, or did not answer for {TIMEOUT.total_seconds():.0f} s "
            "(AUTOMM_TIMEOUT). torchrun --max-restarts starts the job again; so does the same command. It goes on "
            f"where it stood ({reason})"
        ) from problem


@contextmanager
def joined() -> Iterator[Ranks]:
    """Joins the process group that the launcher's environment describes, and leaves it at the end."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks()
        return
    import torch
    import torch.distributed as dist

    local_rank, local_world = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_world))
    # More processes than devices (two ranks on one GPU, say) works with gloo only.
    nccl = torch.cuda.is_available() and torch.cuda.device_count() >= local_world
    with _others_needed():
        dist.init_process_group("cpu:gloo,cuda:nccl" if nccl else "gloo", timeout=TIMEOUT)
        control = dist.new_group(backend="gloo", timeout=TIMEOUT)
    world = dist.get_world_size()
    ranks = Ranks(dist.get_rank(), world, world // local_world, control)
    try:
        yield ranks
    except BaseException:
        # The others may wait in a collective that this rank will never join; leaving without the hand-shake lets the
        # launcher stop them.
        raise
    else:
        with _others_needed():
            dist.barrier(group=ranks.control)
        dist.destroy_process_group()
