"""Device and precision: what exists here, and one line where it does not."""

import shutil
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

import weights
from ast_model import AST, ASTConfig
from ast_model.baseline import Baseline, BaselineConfig
from train import loop
from train.device import (
    autocast,
    choose_device,
    choose_precision,
    compile_in_place,
    round_weights,
    warn_of_slow_bf16,
)
from train.evaluation import predict_logits
from train.loop import train
from train.tasks import classification

CPU = torch.device("cpu")


def test_auto_device_is_the_gpu_where_there_is_one():
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x"])
def test_unknown_device_is_refused(name):
    with pytest.raises(ValueError, match="is unknown; use auto, cpu or cuda"):
        choose_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_refused():
    with pytest.raises(ValueError, match="sees no GPU; use cpu"):
        choose_device("cuda")


@pytest.mark.precision
@pytest.mark.parametrize(("amx", "precision"), [(True, "bf16"), (False, "fp32")])
def test_cpu_multiplies_in_bf16_only_with_amx(monkeypatch, amx, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
    assert choose_precision("auto", CPU) == precision


@pytest.mark.parametrize(("seconds", "said"), [(0.5, ["20.0 times as long"]), (0.025, [])])
def test_a_cpu_that_multiplies_slower_in_bf16_is_told(monkeypatch, caplog, seconds, said):
    """A run that is named bf16, or that goes on in it after a machine with AMX, would crawl."""
    taken = {torch.bfloat16: seconds, torch.float32: 0.025}
    monkeypatch.setattr("train.device._multiply", taken.__getitem__)
    monkeypatch.setattr("train.device.bf16_is_faster", lambda device: False)
    for precision in ("bf16", "fp32", "int8"):
        warn_of_slow_bf16(CPU, precision)
    assert len(caplog.messages) == len(said)
    assert all(text in caplog.text for text in said)


def test_fp16_needs_a_gpu():
    with pytest.raises(ValueError, match="fp16 needs a GPU; on a CPU use bf16 or fp32"):
        choose_precision("fp16", CPU)


def test_int8_needs_a_cpu():
    assert choose_precision("int8", CPU) == "int8"
    with pytest.raises(ValueError, match="int8 is for inference on a CPU; on a GPU use bf16"):
        choose_precision("int8", torch.device("cuda"))


@pytest.mark.precision
@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("int8", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16)],
)
def test_autocast_computes_in_the_precision(precision, dtype):
    with autocast(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


needs_compiler = pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")


@pytest.fixture(autouse=True)
def no_graphs():
    """None from another test, and none left for the next."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def traced(monkeypatch):
    """Graphs are captured as always, and then run as they are, which spares the C++ compiler."""
    original = nn.Module.compile

    def compile(self, dynamic, options):
        original(self, dynamic=dynamic, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", compile)


@pytest.fixture
def graphs(monkeypatch):
    """A model of one narrow block is trained; the graphs that there are after each epoch."""
    config = {"width": 16, "depth": 1, "heads": 2}
    monkeypatch.setattr(
        classification,
        "initial_model",
        lambda recipe, classes: AST(replace(recipe.model_config(len(classes)), **config)),
    )
    counted, original = [], loop.TrainState.end_epoch

    def end_epoch(*arguments):
        original(*arguments)
        counted.append(counters["stats"]["unique_graphs"])

    monkeypatch.setattr(loop.TrainState, "end_epoch", end_epoch)
    return counted


def assert_compiled_is_plain(recipe, manifest, folder):
    recipe = replace(recipe, epochs=3, batch_size=13)  # 13, 13, 6 clips; validation 8
    plain = train(recipe, manifest, folder / "plain", fold=1, device="cpu")
    compiled = train(recipe, manifest, folder / "compiled", fold=1, device="cpu", compile=True)
    for ours, theirs in zip(compiled, plain, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"grad_accumulation_steps": 2, "patchout": (0, 4)},
        {"gradient_checkpointing": True, "ema_decay": 0.5, "average_epochs": (1, 2)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_no_graph_is_made_after_the_first_epoch(recipe, manifest, tmp_path, graphs, traced, change):
    """Uneven batches; dropout, drop path and patchout draw what they draw without compiling."""
    assert_compiled_is_plain(replace(recipe, **change), manifest, tmp_path)
    assert graphs == [0, 0, 0, *[graphs[3]] * 3]
    assert graphs[3] in (2, 3)  # to train and to evaluate; a moving average is one more model
    assert isinstance(weights.load(tmp_path / "compiled" / "last").model, AST)


def test_batches_of_every_size_share_a_graph_but_for_a_single_clip(classifier, manifest, traced):
    model, frontend = classifier.model, classifier.frontend
    plain = predict_logits(model, frontend, manifest.clips[:9], "fp32", 4)[0]  # 4, 4, 1
    model = deepcopy(model)
    compile_in_place(model)
    counted = []
    for size in (5, 4, 3, 7, 9):
        logits = predict_logits(model, frontend, manifest.clips[:9], "fp32", size)[0]
        assert torch.allclose(logits, plain, atol=1e-5)
        counted.append(counters["stats"]["unique_graphs"])
    assert counted == [1, 2, 2, 2, 2]


@needs_compiler
@pytest.mark.slow
def test_kernels_of_the_compiler_compute_the_same(recipe, manifest, tmp_path, graphs):
    assert_compiled_is_plain(recipe, manifest, tmp_path)
    assert graphs == [0, 0, 0, 2, 2, 2]


@pytest.mark.slow
def test_evaluate_and_predict_say_the_same_compiled(
    run_folder, corpus_folder, sounds, run_command, tmp_path, traced
):
    score = ["evaluate", run_folder, "--data", corpus_folder, "--no-use-cache", "--json"]
    name = ["predict", run_folder, sounds, "--device", "cpu", "--json"]
    for words in ([*score, "--device", "cpu", "--out", tmp_path], name):
        code, plain, _ = run_command(*words)
        assert code == 0
        assert run_command(*words, "--compile")[:2] == (0, plain)
    assert counters["stats"]["unique_graphs"] > 1


@pytest.mark.parametrize("command", ["train", "crossval", "ablate", "evaluate", "predict"])
def test_without_a_compiler_nothing_begins(command, monkeypatch, tmp_path, run_command):
    monkeypatch.setenv("CXX", "no-such-compiler")
    words = {
        "train": ["demo", "--data", tmp_path / "data", "--out", tmp_path / "run"],
        "crossval": ["demo", "--data", tmp_path / "data", "--out", tmp_path / "run"],
        "ablate": ["overlap", "demo", "--data", tmp_path / "data", "--out", tmp_path / "run"],
        "evaluate": [tmp_path / "no model", "--data", tmp_path],
        "predict": [tmp_path / "no model", tmp_path],
    }
    code, _, said = run_command(command, *words[command], "--compile")
    assert code == 2
    assert "--compile needs a C++ compiler, and there is no no-such-compiler" in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_eight_bit_integers_are_not_compiled(run_command):
    code, _, err = run_command("predict", "model", "a.wav", "--compile", "--precision", "int8")
    assert (code, err.count("\n")) == (2, 1)
    assert "leave out --compile, or --precision int8" in err


@torch.no_grad()
def test_rounded_weights_give_the_numbers_of_autocast_and_half_the_bytes():
    config = ASTConfig(num_classes=3, num_frames=64, width=24, heads=3, depth=2)
    models = [AST(config).eval(), Baseline(BaselineConfig("efficientnet_lite0", 3, 64, 128)).eval()]
    fbank = torch.randn(2, 64, 128, generator=torch.Generator().manual_seed(0))
    for model in models:
        with autocast(CPU, "bf16"):
            expected = model(fbank)
        before = sum(tensor.nbytes for tensor in model.parameters())
        round_weights(model, "fp32")
        assert sum(tensor.nbytes for tensor in model.parameters()) == before
        round_weights(model, "bf16")
        assert sum(tensor.nbytes for tensor in model.parameters()) < 0.7 * before
        with autocast(CPU, "bf16"):
            assert torch.equal(model(fbank), expected)
