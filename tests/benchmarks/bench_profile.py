"""What bounds the speed of inference and of a training step, and where does their time go?

    python tests/benchmarks/bench_profile.py

Of each case, on a CPU: the rate of large square matrix products, measured just before; the share
of it that the whole reaches; the share that the case's own matrix products and attention reach
alone, each in its own shape, repeated. What the latter lacks of 100 % is lost to the shapes; what
the whole lacks of the latter, to everything else. Then PyTorch's profiler: the share of the time
that each kind of operation takes. The fastest rounds count, since the rate is that of the fastest.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import networks
import torch
from measuring import matrix_rate, race, slow_precisions, write
from torch.profiler import ProfilerActivity, profile
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from train.process import set_up

CPU = torch.device("cpu")
REPEATED, PROFILED = 10, 2  # times: each product alone; the whole
CASES = (  # preset, frames, batch of inference, batch of training
    ("tiny224", 1024, 4, 4),
    ("tiny224", 512, 8, 8),
    ("tiny224", 128, 32, 32),
    ("base384", 1024, 2, 1),
    ("base384", 512, 4, 2),
    ("base384", 128, 16, 8),
)
FUSED = "_scaled_dot_product_flash_attention_for_cpu"
COPY = "aten::copy_"
KINDS = {  # the first that names an operation, or one that it is part of, has its own time
    "optimiser": ("Optimizer.step#AdamW.step", "Optimizer.zero_grad#AdamW.zero_grad"),
    "attention": (f"aten::{FUSED}", f"aten::{FUSED}_backward", "aten::bmm"),
    "casts": ("aten::_to_copy",),
    "products": ("aten::addmm", "aten::mm"),
    "GELU": ("aten::gelu", "aten::gelu_backward"),
    "norms": ("aten::native_layer_norm", "aten::native_layer_norm_backward"),
    "softmax": ("aten::_softmax", "aten::_softmax_backward_data"),
    "copies, layout": (COPY, "aten::cat", "aten::stack", "aten::fill_"),
}
BIAS, OTHER = "bias", "other"  # a bias is copied into the output, to which the product is added
COLUMNS = ("products", BIAS, *(kind for kind in KINDS if kind != "products"), OTHER)
REACHED, ALONE = "reached, %", "alone, %"
MEANING = {
    REACHED: "the share of the rate of large square matrix products, which is measured before each "
    "case",
    ALONE: "the share of it that the case's products and attention reach by themselves, each in "
    "its own shape, repeated, so that it finds its operands in the cache, where it can be faster "
    "than the large ones: what is lacking is lost to shapes, the rest to everything else",
    "other columns": "% of the time of all operations; bias is its copy into a product's output",
}


class Products(TorchDispatchMode):
    """The matrix products and attentions of what runs inside: how often each, and its FLOPs."""

    def __init__(self) -> None:
        super().__init__()
        self.times: Counter[str] = Counter()  # by operation, and shapes, strides and types
        self.calls: dict[str, Callable[[], object]] = {}
        self.flops: dict[str, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        call = partial(func, *args, **(kwargs or {}))
        out, name = call(), func.overloadpacket.__name__
        if count := _flops(name):
            key = f"{name} {tree_map(_signature, args)}"
            self.times[key] += 1
            if key not in self.calls:
                self.calls[key], self.flops[key] = call, count(*args, out_val=out)
        return out

    def seconds(self) -> float:
        """Of all of them, each repeated by itself."""
        with torch.no_grad():
            return sum(
                count * min(race([self.calls[key]], REPEATED, CPU)[0])
                for key, count in self.times.items()
            )

    def total_flops(self) -> int:
        return sum(count * self.flops[key] for key, count in self.times.items())


def _flops(name: str) -> Callable[..., int] | None:
    """What counts an operation's FLOPs; PyTorch's counter does not know a CPU's attention."""
    if name == FUSED:
        return lambda query, key, value, *_, **__: flop_counter.sdpa_flop_count(
            query.shape, key.shape, value.shape
        )
    if name == f"{FUSED}_backward":
        return lambda grad, query, key, value, *_, **__: flop_counter.sdpa_backward_flop_count(
            grad.shape, query.shape, key.shape, value.shape
        )
    return flop_counter.flop_registry.get(getattr(torch.ops.aten, name, None))


def _signature(argument: object) -> object:
    if not isinstance(argument, torch.Tensor):
        return argument
    return tuple(argument.shape), argument.stride(), argument.dtype


def kind_of(event: Any) -> str:
    """Which of `COLUMNS` an operation's own time belongs to."""
    names, around = set(), event
    while around is not None:
        names.add(around.name)
        around = around.cpu_parent
    found = next((kind for kind, of_kind in KINDS.items() if names & {*of_kind}), OTHER)
    return BIAS if found == "products" and event.name == COPY else found


def shares(work: Callable[[], object]) -> dict[str, float]:
    """The share of the time that each kind of operation takes."""
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        for _ in range(PROFILED):
            work()
    spent: Counter[str] = Counter()
    for event in profiler.events():
        spent[kind_of(event)] += event.self_cpu_time_total
    return {kind: spent[kind] / spent.total() for kind in COLUMNS}


def row(training: bool, preset: str, frames: int, batch: int, precision: str, rounds: int) -> dict:
    """One case's line of the table; shares in %."""
    make = networks.our_training if training else networks.our_inference
    work = make(preset, frames, batch, CPU.type, precision)
    rate = matrix_rate(precision, CPU)
    seconds = min(race([work], rounds, CPU)[0])
    with Products() as products:
        work()
    ideal = products.total_flops() / rate  # s
    name = f"{'training' if training else 'inference'}, {preset}, {frames} frames, {batch} clips"
    return {
        "work": f"{name}, {precision}",
        "clips/s": batch / seconds,
        "matrix rate, GFLOP/s": rate / 1e9,
        REACHED: 100 * ideal / seconds,
        ALONE: 100 * ideal / products.seconds(),
        **{kind: 100 * share for kind, share in shares(work).items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4, help="that count (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (%(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    set_up()
    torch.set_num_threads(arguments.threads)
    slow, rows = slow_precisions(CPU), []
    for preset, frames, *batches in CASES:
        for training, batch in enumerate(batches):
            for precision in (name for name in ("fp32", "bf16") if name not in slow):
                case = bool(training), preset, frames, batch, precision
                rows.append(row(*case, arguments.rounds))
                values = (f"{k} {v:.1f}" for k, v in rows[-1].items() if k != "work")
                print(f"{rows[-1]['work']}: {', '.join(values)}", flush=True)
    if arguments.out:
        write(arguments.out, "profile", CPU, rows=rows, figures=MEANING, left_out=slow)


if __name__ == "__main__":
    main()
