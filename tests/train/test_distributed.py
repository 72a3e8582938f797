"""Several processes: they end where one would, one of them writes, and none waits for ever.

This file is also the program that the tests start in two processes:
python -m torch.distributed.run --nproc-per-node 2 test_distributed.py CASES
"""

import logging
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import soundfile
import torch

import weights
from data.sampling import epoch_batches
from train import distributed, loop
from train.cli import main
from train.device import choose_device
from train.evaluation import default_workers
from train.loop import step_seed, train
from train.pretraining.clips import unlabelled
from train.recipes.pretraining import SSAST

REPOSITORY = Path(__file__).resolve().parents[2]


class Interruption(BaseException):
    """Stands for the process dying: no handler of ours may catch it."""


def train_until(steps, recipe, manifest, folder):
    """A run's rows; the error that ended it; None of one that dies before step number `steps`."""
    original, taken = loop.train_step, iter(range(10**6))

    def train_step(*arguments):
        if next(taken) == steps:
            raise Interruption
        return original(*arguments)

    fold = 1 if manifest.folds else None
    options = {"fold": fold, "device": "cpu", "checkpoint_minutes": 0.0 if steps else 10.0}
    no_plots = {name: lambda *_: None for name in ("learning_curves", "confusion")}  # a third of it
    with patch.object(loop, "train_step", train_step), patch.multiple("train.run.log", **no_plots):
        try:
            return train(recipe, manifest, folder, **options)
        except Interruption:
            return None
        except ValueError as error:
            return str(error)


def in_two_processes(cases):
    """Every case's run, its end beside its folder; then rank 1 fails, and rank 0 waits for it."""
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with distributed.process_group():
        for name, *case, folder in torch.load(cases, weights_only=False):
            end = train_until(*case, folder / name)
            torch.save(end, folder / f"{name}.end{distributed.rank()}")
        if distributed.rank() == 1:
            raise ValueError("this went wrong here alone")
        distributed.barrier()


def torchrun(*words):
    """Two processes on this machine; what they and torchrun say."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", "--local-addr", "127.0.0.1", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **streams) as process:
        try:
            said = process.communicate(timeout=200)
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun, which ends the two
            raise
    return subprocess.CompletedProcess(command, process.returncode, *said)


@pytest.fixture(scope="module")
def several(recipe, manifest, tmp_path_factory):
    """The corpus in parts; a training file that is rank 1's is damaged behind a sound header."""
    parts = {1: "test", 2: "validation"}
    clips = [replace(c, fold=None, split=parts.get(c.fold, "train")) for c in manifest.clips]
    training = [index for index, clip in enumerate(clips) if clip.split == "train"]
    order = [epoch_batches(len(training), 13, recipe.seed, e, None, 1, 2) for e in (0, 1)]
    victim = training[min(set.intersection(*(set(chain(*batches)) for batches in order)))]
    flac = tmp_path_factory.mktemp("damaged") / "broken.flac"
    soundfile.write(flac, *soundfile.read(clips[victim].path))
    content = bytearray(flac.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = bytes(2000)
    flac.write_bytes(content)
    clips[victim] = replace(clips[victim], path=flac)
    return replace(manifest, clips=clips)


@pytest.fixture(scope="module")
def runs(recipe, manifest, several, tmp_path_factory):
    """Runs in one process and the same in two: (one's folder, two's folder, torchrun's result).

    Of 32 clips in batches of 31, the second batch leaves rank 0 without a clip.
    """
    recipe = replace(recipe, dropout=0.0, drop_path=0.0)
    # With smoothed labels, the loss of clips that weigh nothing is not 0 by itself.
    uneven = replace(recipe, batch_size=31, ema_decay=0.5, label_smoothing=0.1)
    parts = replace(recipe, batch_size=13, grad_accumulation_steps=2, average_epochs=(1, 2))
    parts = replace(parts, skip_unreadable=True, mixup_rate=0.0, checkpoint_ensemble=True)
    balanced = replace(recipe, balanced_sampling=True, loss="bce", gradient_checkpointing=True)
    # Adam with weight decay in the gradient: without it, it takes no notice of a gradient's scale.
    balanced = replace(balanced, epochs=1, optimizer="adam", weight_decay=1.0, max_grad_norm=0.0)
    wild = replace(recipe, learning_rate=1e9, max_grad_norm=0.0)
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    pretext = replace(SSAST, depth=1, num_frames=64, batch_size=31, clusters=False)
    pretext = replace(pretext, epochs=2, precision="fp32", weight_decay=1.0)  # as for balanced
    cases = [
        ("pretrain", None, pretext, unlabelled(manifest, 0)),
        ("uneven", None, uneven, manifest),
        ("parts", None, parts, several),
        ("balanced", None, balanced, manifest),
    ]
    for name, *case in cases:
        train_until(*case, one / name)
    train_until(3, uneven, manifest, two / "grown")
    cases += [("grown", None, uneven, manifest), ("shrunk", 3, uneven, manifest)]
    cases += [("wild", None, wild, manifest)]
    file = two / "cases"
    torch.save([(*case, two) for case in cases], file)
    result = torchrun(__file__, file)
    assert (two / "shrunk.end1").is_file(), result.stderr
    train_until(None, uneven, manifest, two / "shrunk")
    return one, two, result


def parameters(folder):
    """Of a model, without the biases of the keys: a softmax takes no notice of them, so their
    gradient is rounding noise, which Adam blows up to whole steps."""
    state = weights.load(folder).model.state_dict()
    for name in filter(lambda name: name.endswith("qkv.bias"), list(state)):
        query, _, value = state[name].chunk(3)
        state[name] = torch.cat([query, value])
    return state


def assert_same_run(one, two, models=("last", "best")):
    for model in models:
        theirs = parameters(two / model)
        for name, tensor in parameters(one / model).items():
            assert torch.allclose(tensor, theirs[name], rtol=0, atol=1e-5), name
    tables = [np.genfromtxt(f / "metrics.csv", delimiter=",", names=True) for f in (one, two)]
    for name in tables[0].dtype.names:
        assert tables[0][name] == pytest.approx(tables[1][name], abs=1e-4), name


@pytest.mark.parametrize("name", ["uneven", "parts", "balanced", "pretrain"])
def test_two_processes_end_as_one(runs, name):
    """Uneven and idle parts of a batch, also without labels; accumulation and unreadable files;
    balanced sampling."""
    one, two, _ = runs
    models = {"last", "best", "averaged"} & {path.name for path in (one / name).iterdir()}
    assert_same_run(one / name, two / name, models)


@pytest.mark.parametrize("name", ["grown", "shrunk"])
def test_a_run_is_resumed_by_another_number_of_processes(runs, name):
    one, two, _ = runs
    assert_same_run(one / "uneven", two / name)


@pytest.mark.parametrize("name", ["uneven", "parts", "balanced", "pretrain"])
def test_all_processes_have_the_same_rows(runs, name):
    _, two, _ = runs
    ends = [torch.load(two / f"{name}.end{rank}") for rank in (0, 1)]
    assert ends[0] == ends[1] and ends[0][-1]["epoch"] == len(ends[0])


def test_a_loss_that_is_not_finite_stops_all_at_the_same_step(runs):
    _, two, _ = runs
    ends = [torch.load(two / f"wild.end{rank}") for rank in (0, 1)]
    assert ends[0] == ends[1]
    assert re.search(r"wild: the loss is \w+ at step 1 \(epoch 1\); try", ends[0])


def test_one_process_logs_and_writes(runs):
    one, two, result = runs
    assert (
        result.stdout.count("32 training clips, 8 validation (fold 1)") == 6
    )  # the runs with folds
    assert result.stdout.count("epoch   2/2") == 4  # pretrain, uneven, parts, grown
    for folder in ("uneven", "parts"):
        files = {path.relative_to(one) for path in (one / folder).rglob("*")}
        theirs = {path.relative_to(two) for path in (two / folder).rglob("*")}
        assert len(files) == len(theirs)
        assert {f for f in files if "tensorboard" not in f.parts} <= theirs


def test_files_that_one_process_could_not_read_are_listed(runs):
    one, two, _ = runs
    listed = (two / "parts" / "skipped.txt").read_text()
    assert listed == (one / "parts" / "skipped.txt").read_text()
    assert listed.endswith("broken.flac\n")


def test_an_error_of_one_process_ends_all_with_its_message_alone(runs):
    *_, result = runs
    assert result.returncode != 0
    assert result.stderr.count("ValueError: this went wrong here alone") == 1
    assert result.stderr.count("Traceback") == 2  # its own, and torchrun's, of a child that failed


OPTIONS = [
    "--corpus", "esc50", "--num-frames", "64", "--frequency-mask", "8", "--time-mask", "16",
    "--epochs", "1", "--depth", "1", "--device", "cpu", "--no-use-cache",
]  # fmt: skip


@pytest.mark.slow
def test_torchrun_cross_validates(corpus_folder, tmp_path):
    words = ["crossval", "demo", "--data", corpus_folder, "--folds", "2", "--out", tmp_path]
    result = torchrun("-m", "train", *words, *OPTIONS)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("### demo") == 1
    assert result.stdout.count("epoch   1/1") == 1
    assert (tmp_path / "crossval.md").read_text() in result.stdout


def test_an_error_of_all_processes_is_one_line(corpus_folder, tmp_path):
    words = ["train", "demo", "--data", corpus_folder, "--out", tmp_path / "run", *OPTIONS]
    result = torchrun("-m", "train", *words, "--fold", "9")
    assert result.returncode != 0
    assert result.stderr.count("ast-audio: fold 9 does not exist") == 1
    assert result.stderr.count("Traceback") == 1  # torchrun's


def test_processes_at_different_places_are_refused(recipe, manifest, tmp_path, monkeypatch):
    """As where machines do not share the run folder."""
    monkeypatch.setattr(loop, "gather", lambda position: [position, (1, 0)])
    with pytest.raises(ValueError, match=r"\(0, 0\), \(1, 0\)\); give an --out that all machines"):
        train(recipe, manifest, tmp_path / "run", fold=1, device="cpu")
    assert not (tmp_path / "run").exists()


def test_every_rank_draws_its_own_numbers_and_rank_0_those_of_a_single_process():
    assert step_seed(3, 5, 0) == 9791734468858838757  # of runs before there were ranks
    assert len({step_seed(3, step, rank) for step in (5, 6) for rank in range(4)}) == 8


def test_processes_of_one_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    monkeypatch.setattr("train.evaluation.local_world_size", lambda: 4)
    assert default_workers(torch.device("cuda")) == 4


def test_other_commands_refuse_several_processes_before_any_work(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert main(["evaluate", "no such model"]) == 2
    assert capsys.readouterr().err == (
        "ast-audio: evaluate runs in one process, but torchrun started 2; start it without "
        "torchrun, which is for train, pretrain, crossval, predict and embed\n"
    )
    monkeypatch.setenv("RANK", "1")
    assert main(["evaluate", "no such model"]) == 0
    assert capsys.readouterr().err == ""


def test_one_gpu_for_several_processes_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("train.device.world_size", lambda: 2)
    with pytest.raises(ValueError, match="device 'cuda:1' is one GPU, but 2 processes run"):
        choose_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ValueError, match="finds 1 GPUs, but each process needs its own"):
        choose_device("cuda")


if __name__ == "__main__":
    in_two_processes(sys.argv[1])
