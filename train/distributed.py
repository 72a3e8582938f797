"""Several processes that train one model on one or more machines, as torchrun starts them.

    torchrun --nproc-per-node 2 -m train train RECIPE --data FOLDER

Every process has a rank, computes its shard of each batch, and gets the gradient of the whole.
Rank 0, the main process, alone logs and writes files. Without torchrun, nothing here does anything.
"""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")

# The others wait while the main process looks through the data and saves, however long that takes.
# That a process is dead, torchrun notices.
TIMEOUT = timedelta(days=7)


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started, for the length of a block; alone, do nothing.

    Ranks other than 0 print and log nothing meanwhile. Of several ranks that fail, the first raises
    its error; the others, which fail because of it or alike, exit in silence and with 0, so that
    torchrun waits for the message and reports the rank that it comes from.

    Raises:
        ValueError: torchrun's environment is not complete.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store, own_rank, size = next(dist.rendezvous("env://"))
    dist.init_process_group(backend, timeout=TIMEOUT, world_size=size, rank=own_rank, store=store)
    try:
        with nullcontext() if is_main_process() else _silence():
            yield
    except Exception:
        if not _is_first_to_fail(store):
            raise SystemExit(0) from None
        raise  # and leave the group open: to close it, the others would have to come
    dist.destroy_process_group()


@contextmanager
def _silence() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _is_first_to_fail(store: dist.Store) -> bool:
    try:
        return store.add("failed", 1) == 1
    except RuntimeError:  # it went with the process that failed first
        return False


def rank() -> int:
    """Which of the processes this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_world_size() -> int:
    """How many of them run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if dist.is_initialized() else 1


def own_gpu() -> torch.device:
    """The GPU of this process: each has one of its machine, and torch uses it from here on.

    Raises:
        ValueError: the machine has fewer GPUs than processes.
    """
    number = int(os.environ.get("LOCAL_RANK", rank()))
    if number >= torch.cuda.device_count():
        raise ValueError(
            f"process {number} of this machine finds {torch.cuda.device_count()} GPUs, but each "
            "process needs its own; give torchrun a smaller --nproc-per-node"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def is_main_process() -> bool:
    """Whether this is the one process that logs and writes files."""
    return rank() == 0


def barrier() -> None:
    """Wait until all processes are here."""
    gather(None)


def gather(value: T) -> list[T]:
    """The values of all processes in the order of their ranks, in every process."""
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of all processes' tensors, in every process; alone, the tensor itself."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def on_main_process(work: Callable[[], T]) -> T:
    """What `work` returns or raises in rank 0, in every process; the others wait for it."""
    if world_size() == 1:
        return work()
    outcome: list[tuple[T | None, Exception | None]] = [(None, None)]
    if is_main_process():
        try:
            outcome = [(work(), None)]
        except Exception as error:
            outcome = [(None, error)]
    dist.broadcast_object_list(outcome)
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


@contextmanager
def main_process_first() -> Iterator[None]:
    """Rank 0 runs the block before the others do, so that they find what it fetched or made."""
    if not is_main_process():
        barrier()
    try:
        yield
    finally:
        if is_main_process():
            barrier()


def shard(count: int) -> range:
    """This process's contiguous share of `count` things; shares differ in size by at most one."""
    return range(count * rank() // world_size(), count * (rank() + 1) // world_size())


def wrap_ddp(model: nn.Module) -> nn.Module:
    """The model behind torch's wrapper that averages gradients over processes; alone, itself."""
    if world_size() == 1:
        return model
    device = next(model.parameters()).device
    # of the class tokens, whose first axes have length 1, so that their strides mean nothing
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return DistributedDataParallel(model, [device] if device.type == "cuda" else None)


def gradient_sync(ddp_model: nn.Module, enabled: bool) -> AbstractContextManager[None]:
    """Around a backward pass: whether it averages the gradients over the processes."""
    if enabled or not isinstance(ddp_model, DistributedDataParallel):
        return nullcontext()
    return ddp_model.no_sync()


def broadcast_buffers(model: nn.Module) -> None:
    """Give every process the main process's buffers (a batch norm's running statistics)."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
