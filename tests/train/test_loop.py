"""The loop: what a run leaves behind, and that an interruption changes nothing."""

import csv
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import weights
from ast_model import AST
from data.cache import ClipCache
from data.corpora import open_corpus
from train import loop
from train.loop import TrainState, train
from train.recipes.esc10 import ESC10_SCRATCH
from train.run import log as run_log
from train.run.folder import load_state, read_predictions, read_results, read_run
from train.run.lock import RunInUse, claim
from train.tasks import classification
from train.tasks.classification import Classification


class Interruption(BaseException):
    """Stands for the process dying: no handler of ours may catch it."""


def interrupt(*arguments):
    raise Interruption


def run(recipe, manifest, folder, **options):
    return train(recipe, manifest, folder, fold=1, device="cpu", **options)


def results(folder):
    """Everything that an interruption could change."""
    return (
        {
            name: t.numpy().tobytes()
            for name, t in load_file(folder / "last/model.safetensors").items()
        },
        {
            name: t.numpy().tobytes()
            for name, t in load_file(folder / "best/model.safetensors").items()
        },
        (folder / "metrics.csv").read_bytes(),
        (folder / "predictions.csv").read_bytes(),
    )


@pytest.fixture(scope="module")
def straight(recipe, manifest, tmp_path_factory):
    """What the run leaves that nothing interrupts."""
    folder = tmp_path_factory.mktemp("straight")
    run(recipe, manifest, folder)
    return results(folder)


def test_a_run_leaves_what_the_design_says(recipe, manifest, tmp_path, with_plots):
    rows = run(recipe, manifest, tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "recipe.json", "environment.json", "metrics.csv", "results.json", "predictions.csv", "best",
        "last", "state", "plots", "tensorboard",
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "run/plots").iterdir()} == {
        "learning_curves.png", "confusion.png",
    }  # fmt: skip
    assert read_results(tmp_path / "run")["clips"] == {"validation": 8}
    assert [row["epoch"] for row in rows] == [1, 2]
    with (tmp_path / "run/metrics.csv").open() as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == [r["loss"] for r in rows]
    predictions = read_predictions(tmp_path / "run/predictions.csv")
    hits = [manifest.classes[int(np.argmax(scores))] == target for target, scores in predictions]
    assert np.mean(hits) == pytest.approx(rows[-1]["accuracy"])
    classifier = weights.load(tmp_path / "run/last")
    assert classifier.classes == manifest.classes
    assert classifier.frontend.config == recipe.frontend_config()


def test_the_same_seed_gives_the_same_run_and_another_one_another(
    recipe, manifest, tmp_path, straight
):
    run(recipe, manifest, tmp_path / "again")
    assert results(tmp_path / "again") == straight
    run(replace(recipe, seed=1), manifest, tmp_path / "other")
    assert results(tmp_path / "other")[0] != straight[0]


def test_a_run_on_few_clips_of_each_class_validates_on_all_and_is_a_run_of_its_own(
    recipe, manifest, tmp_path, caplog
):
    caplog.set_level("INFO")
    few = replace(recipe, clips_per_class=2, epochs=1)
    run(few, manifest, tmp_path / "run")
    assert "16 training clips, 8 validation" in caplog.text
    assert read_results(tmp_path / "run")["clips"] == {"validation": 8}
    with pytest.raises(ValueError, match=r"different recipe \(clips_per_class 2 -> 3\)"):
        run(replace(few, clips_per_class=3), manifest, tmp_path / "run")


@pytest.mark.parametrize("step", [0, 1, 2, 3])
@pytest.mark.parametrize("minutes", [0.0, 10.0])
def test_interrupted_at_any_step_ends_the_same(
    recipe, manifest, tmp_path, straight, monkeypatch, step, minutes
):
    """Two steps an epoch; with 0 minutes every step is a checkpoint, with 10 every epoch."""
    steps = iter(range(100))
    original = loop.train_step

    def dying(*arguments):
        if next(steps) == step:
            raise Interruption
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", dying)
        with pytest.raises(Interruption):
            run(recipe, manifest, tmp_path / "run", checkpoint_minutes=minutes)
    run(recipe, manifest, tmp_path / "run", checkpoint_minutes=minutes)
    assert results(tmp_path / "run") == straight


@pytest.mark.parametrize(
    ("owner", "name"),
    [(run_log.Run, "save_models"), (Classification, "save_results"), (run_log, "save_state")],
    ids=["models", "results", "state"],
)
def test_interrupted_while_saving_ends_the_same(
    recipe, manifest, tmp_path, straight, monkeypatch, owner, name
):
    original = getattr(owner, name)

    def dying(*arguments):
        if name != "save_state":  # its own file is replaced in one move
            original(*arguments)
        raise Interruption

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying)
        with pytest.raises(Interruption):
            run(recipe, manifest, tmp_path / "run")
    run(recipe, manifest, tmp_path / "run")
    assert results(tmp_path / "run") == straight


@pytest.mark.parametrize("seconds_into_training", [0.0, pytest.param(0.25, marks=pytest.mark.slow)])
def test_sigkill_then_the_same_command_ends_the_same(
    recipe, corpus_folder, tmp_path, seconds_into_training
):
    """The real thing: the command line, killed by the operating system, started again."""
    options = [
        "--data", str(corpus_folder), "--corpus", "esc50", "--no-use-cache", "--device", "cpu",
        "--num-frames", "64", "--frequency-mask", "8", "--time-mask", "16", "--depth", "1",
        "--epochs", "2", "--mixup-rate", "0.5", "--dropout", "0.1", "--checkpoint-minutes", "0",
    ]  # fmt: skip

    def command(folder):
        return [sys.executable, "-m", "train", "train", "demo", *options, "--out", str(folder)]

    quiet = {"stderr": subprocess.DEVNULL}
    subprocess.run(command(tmp_path / "straight"), check=True, **quiet)
    victim = subprocess.Popen(command(tmp_path / "run"), stdout=subprocess.PIPE, text=True, **quiet)
    victim.stdout.readline()  # the run is announced: the first step is next
    try:
        victim.wait(seconds_into_training)
    except subprocess.TimeoutExpired:
        victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    subprocess.run(command(tmp_path / "run"), check=True, **quiet)
    assert results(tmp_path / "run") == results(tmp_path / "straight")


def test_a_finished_run_is_not_run_again(recipe, manifest, tmp_path, monkeypatch):
    rows = run(recipe, manifest, tmp_path / "run")
    monkeypatch.setattr(loop, "train_step", None)
    assert run(recipe, manifest, tmp_path / "run") == rows


def test_the_recipe_is_compared_before_any_state_is_read(recipe, manifest, tmp_path):
    """A moving average that the stored state lacks is another recipe, not a missing key."""
    run(recipe, manifest, tmp_path / "run")
    with pytest.raises(ValueError, match=r"different recipe \(ema_decay 0\.0 -> 0\.9\)"):
        run(replace(recipe, ema_decay=0.9), manifest, tmp_path / "run")


def test_a_folder_that_another_process_trains_in_is_refused(recipe, manifest, tmp_path):
    with claim(tmp_path / "run"), pytest.raises(RunInUse, match="is in use by process"):
        run(recipe, manifest, tmp_path / "run")
    run(recipe, manifest, tmp_path / "run")


def test_a_run_of_auto_precision_goes_on_in_the_one_it_began_in(
    recipe, manifest, tmp_path, monkeypatch, caplog
):
    """On another machine, whose own choice would be another one, and which says so."""
    recipe = replace(recipe, precision="auto")
    monkeypatch.setattr("train.device.bf16_is_faster", lambda device: True)
    with monkeypatch.context() as patch:
        patch.setattr(Classification, "save_results", interrupt)
        with pytest.raises(Interruption):
            run(recipe, manifest, tmp_path / "run")
    assert read_run(tmp_path / "run").precision == "bf16"
    monkeypatch.setattr("train.device.bf16_is_faster", lambda device: False)
    monkeypatch.setattr("train.device._multiply", lambda dtype: 4.0 / dtype.itemsize)
    seen, original = [], loop.train_step
    monkeypatch.setattr(loop, "train_step", lambda *a: seen.append(a[1].precision) or original(*a))
    run(recipe, manifest, tmp_path / "run")
    assert set(seen) == {"bf16"}
    assert "--precision fp32 is faster" in caplog.text
    run(recipe, manifest, tmp_path / "new")
    assert seen[-1] == "fp32"


def test_speed_and_curves_of_a_resumed_run_are_its_own(recipe, manifest, tmp_path, monkeypatch):
    """No point of TensorBoard is lost, and clips of before the interruption are not counted."""
    steps, original = iter(range(100)), loop.train_step

    def dying(*arguments):
        if next(steps) == 3:  # the second step of the second epoch
            raise Interruption
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", dying)
        with pytest.raises(Interruption):
            run(recipe, manifest, tmp_path / "run", checkpoint_minutes=0.0)
    clock = iter(np.arange(0.0, 1e6, 1.0))
    monkeypatch.setattr("train.run.log.time.monotonic", lambda: next(clock))
    speeds, log_epoch = [], run_log.Run.log_epoch
    monkeypatch.setattr(
        run_log.Run,
        "log_epoch",
        lambda self, state: speeds.append(self.speed) or log_epoch(self, state),
    )
    run(recipe, manifest, tmp_path / "run")
    assert speeds == [16 / 1.0]  # one step of 16 clips, one tick of the clock
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("accuracy")] == [1, 2]


def test_a_cpu_asks_for_no_pinned_memory(recipe, manifest, monkeypatch):
    """Also on a machine that has a GPU."""
    model = AST(recipe.model_config(len(manifest.classes)))
    state = TrainState.before_training(recipe, "fp32", torch.device("cpu"), model, 1)
    asked = []
    monkeypatch.setattr(loop, "load_batches", lambda *a, **o: asked.append(o["pin_memory"]) or [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not list(loop.train_batches(state, manifest.clips, None, 0))
    assert asked == [False]


def test_one_class_a_clip_is_saved_so_whatever_the_loss(recipe, manifest, tmp_path):
    """Speech Commands and AudioSet are both trained with binary cross-entropy."""
    run(replace(recipe, loss="bce", epochs=1), manifest, tmp_path / "run")
    assert not weights.load(tmp_path / "run" / "last").multi_label


def test_workers_change_nothing(recipe, manifest, tmp_path, straight):
    run(recipe, manifest, tmp_path / "run", workers=2)
    assert results(tmp_path / "run") == straight


def test_accumulation_takes_the_same_step(recipe, manifest, tmp_path):
    recipe = replace(recipe, dropout=0.0, drop_path=0.0, epochs=1)
    whole = run(recipe, manifest, tmp_path / "whole")
    parts = run(replace(recipe, grad_accumulation_steps=3), manifest, tmp_path / "parts")
    assert parts[0]["train_loss"] == pytest.approx(whole[0]["train_loss"], rel=1e-5)
    assert parts[0]["loss"] == pytest.approx(whole[0]["loss"], rel=1e-3)


def test_clipping_limits_the_gradient(recipe, manifest, tmp_path, monkeypatch):
    norms = []
    original = torch.optim.AdamW.step

    def watched(self, *arguments, **options):
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())
        return original(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    run(replace(recipe, max_grad_norm=0.01), manifest, tmp_path / "run")
    assert norms == pytest.approx([0.01] * 4, rel=1e-3)


@pytest.fixture
def poison(monkeypatch):
    """`poison(step)`: from this step on, the head's bias is NaN."""

    def begin(poisoned_step):
        original = loop.train_step

        def train_step(ddp_model, state, *arguments):
            if state.step == poisoned_step:
                with torch.no_grad():
                    state.model.head.bias.fill_(float("nan"))
            original(ddp_model, state, *arguments)

        monkeypatch.setattr(loop, "train_step", train_step)

    return begin


def test_non_finite_loss_stops_with_its_step_and_what_to_try(recipe, manifest, tmp_path, poison):
    """Read at the end of the epoch, of two steps; named is the first of them that went wrong."""
    poison(3)
    with pytest.raises(
        ValueError, match=r"run: the loss is nan at step 3 \(epoch 2\); try --learning-rate"
    ):
        run(recipe, manifest, tmp_path / "run")
    assert load_state(tmp_path / "run")["epoch"] == 1


def test_a_checkpoint_never_holds_weights_that_are_not_finite(
    recipe, manifest, tmp_path, monkeypatch
):
    """The loss of a step is finite, and its update is what ruins the weights."""
    original = loop.train_step

    def train_step(ddp_model, state, *arguments):
        original(ddp_model, state, *arguments)
        if state.step == 2:
            with torch.no_grad():
                state.model.head.bias.fill_(float("inf"))

    monkeypatch.setattr(loop, "train_step", train_step)
    with pytest.raises(ValueError, match=r"moments are no longer finite after step 2 \(epoch 2\)"):
        run(recipe, manifest, tmp_path / "run", checkpoint_minutes=0.0)
    assert load_state(tmp_path / "run")["batch"] == 0


def test_a_model_that_scores_nan_is_named(recipe, manifest, tmp_path, monkeypatch):
    original = classification.predict_logits

    def predict_logits(*arguments):
        logits, targets = original(*arguments)
        return logits * float("nan"), targets

    monkeypatch.setattr(classification, "predict_logits", predict_logits)
    with pytest.raises(ValueError, match=r"run/last in epoch 1: logits of 8 of 8 clips are NaN"):
        run(recipe, manifest, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_a_checkpoint_never_holds_moments_that_are_not_finite(
    recipe, manifest, tmp_path, monkeypatch
):
    """A square that is infinite in float32 leaves its weight finite, and still for ever."""
    original = loop.train_step

    def train_step(ddp_model, state, *arguments):
        original(ddp_model, state, *arguments)
        state.optimizer.state[state.model.head.bias]["exp_avg_sq"].fill_(float("inf"))

    monkeypatch.setattr(loop, "train_step", train_step)
    with pytest.raises(ValueError, match="moments are no longer finite"):
        run(recipe, manifest, tmp_path / "run")
    assert load_state(tmp_path / "run") is None


def test_a_finished_run_without_its_state_is_not_trained_again(recipe, manifest, tmp_path):
    run(recipe, manifest, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "state")
    before = results(tmp_path / "run")
    with pytest.raises(ValueError, match=r"is finished, and state\.pt, without which it cannot go"):
        run(recipe, manifest, tmp_path / "run")
    assert results(tmp_path / "run") == before


def test_a_path_that_tensorboard_cannot_write_to_is_refused(recipe, manifest, tmp_path):
    with pytest.raises(ValueError, match=r"is not a path in UTF-8; give another --out"):
        run(recipe, manifest, tmp_path / "\udcff")
    assert not list(tmp_path.iterdir())


def test_a_step_does_not_wait_for_the_loss(recipe, manifest, tmp_path, monkeypatch):
    """Eleven steps an epoch, a look at the loss after the first and every third: 5 and not 11."""
    looks, original = [], TrainState.read_losses
    monkeypatch.setattr(run_log, "LOSS_STEPS", 3)
    monkeypatch.setattr(
        TrainState, "read_losses", lambda self: looks.append(self.batch) or original(self)
    )
    recipe = replace(recipe, batch_size=3, epochs=1)  # 32 clips: 11 steps
    rows = run(recipe, manifest, tmp_path / "run")
    assert looks == [1, 3, 6, 9, 11]
    monkeypatch.setattr(run_log, "LOSS_STEPS", 1)
    assert run(recipe, manifest, tmp_path / "each")[0] == rows[0]


def test_real_recordings_train(recordings, tmp_path):
    """Every tenth clip of ESC-10, decoded from Ogg and resampled, for one epoch of its recipe."""
    manifest = open_corpus("esc10", recordings / "esc10")
    manifest = replace(manifest, clips=manifest.clips[::10])
    recipe = replace(ESC10_SCRATCH, epochs=1, precision="fp32")
    rows = run(recipe, manifest, tmp_path / "run", cache=ClipCache(tmp_path / "cache"))
    assert 0 < rows[0]["train_loss"] < 5
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == len(manifest.clips)


def test_a_start_that_cannot_be_had_leaves_no_run_behind(recipe, manifest, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file or folder youtube"):
        run(replace(recipe, init_from="youtube"), manifest, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_resumes_without_the_weights_that_it_started_from(
    recipe, manifest, tmp_path, monkeypatch
):
    run(replace(recipe, epochs=1), manifest, tmp_path / "start")
    recipe = replace(recipe, init_from=str(tmp_path / "start" / "last"))

    with monkeypatch.context() as patch:
        # after the first of two epochs is saved
        patch.setattr(Classification, "save_results", interrupt)
        with pytest.raises(Interruption):
            run(recipe, manifest, tmp_path / "run")
    shutil.rmtree(tmp_path / "start")
    assert len(run(recipe, manifest, tmp_path / "run")) == 2


def test_a_missing_fold_is_refused_before_anything_is_written(recipe, manifest, tmp_path):
    with pytest.raises(ValueError, match=r"fold 9 does not exist in synthetic"):
        train(recipe, manifest, tmp_path / "run", fold=9, device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", [{"workers": -1}, {"checkpoint_minutes": -3.0}])
def test_impossible_options_are_refused_before_anything_is_written(
    recipe, manifest, tmp_path, option
):
    with pytest.raises(ValueError, match="use 0 or more"):
        run(recipe, manifest, tmp_path / "run", **option)
    assert not (tmp_path / "run").exists()


@pytest.mark.precision
def test_bf16_trains_on_the_cpu(recipe, manifest, tmp_path):
    rows = run(replace(recipe, precision="bf16", epochs=1), manifest, tmp_path / "run")
    assert np.isfinite(rows[0]["train_loss"])


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_trains_on_the_gpu(recipe, manifest, tmp_path, precision):
    recipe = replace(recipe, precision=precision)
    rows = train(recipe, manifest, tmp_path / "run", fold=1, device="cuda")
    assert np.isfinite(rows[-1]["train_loss"])


@pytest.mark.parametrize(
    "change",
    [
        {"cutmix_rate": 1.0},
        {"frequency_warp": 0.2},
        {"time_warp": 0.2},
        {"balanced_sampling": True},
        {"patchout": (0, 1)},
        {"gaussian_snr_prob": 1.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_option_of_training_has_its_effect_and_can_be_interrupted(
    recipe, manifest, tmp_path, straight, monkeypatch, change
):
    if "gaussian_snr_prob" in change:
        pytest.importorskip("audiomentations")
    recipe = replace(recipe, stride=(16, 16), **change)
    plain = replace(recipe, **{name: getattr(ESC10_SCRATCH, name) for name in change})
    run(recipe, manifest, tmp_path / "with")
    run(plain, manifest, tmp_path / "without")
    assert results(tmp_path / "with")[0] != results(tmp_path / "without")[0]
    steps, original = iter(range(100)), loop.train_step

    def dying(*arguments):
        if next(steps) == 3:
            raise Interruption
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", dying)
        with pytest.raises(Interruption):
            run(recipe, manifest, tmp_path / "resumed")
    run(recipe, manifest, tmp_path / "resumed")
    assert results(tmp_path / "resumed") == results(tmp_path / "with")


@pytest.fixture
def damaged(manifest, tmp_path):
    """The corpus; of fold 2, one file is damaged behind a sound header, one is no audio."""
    victims = [clip for clip in manifest.clips if clip.fold == 2][:2]
    broken = []
    for clip in victims:
        copy = tmp_path / clip.path.name
        copy.write_bytes(clip.path.read_bytes())
        broken.append(replace(clip, path=copy))
    flac = tmp_path / "broken.flac"
    waveform, rate = soundfile.read(broken[0].path)
    soundfile.write(flac, waveform, rate)
    content = bytearray(flac.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = bytes(2000)
    flac.write_bytes(content)
    broken[0] = replace(broken[0], path=flac)
    broken[1].path.write_bytes(b"no audio")
    swap = dict(zip((clip.path for clip in victims), broken, strict=True))
    clips = tuple(swap.get(clip.path, clip) for clip in manifest.clips)
    return replace(manifest, clips=clips), broken


def test_an_unreadable_file_stops_a_run_before_it_begins(recipe, damaged, tmp_path):
    corpus, broken = damaged
    with pytest.raises(ValueError, match=f"{broken[1].path.name}.*--skip-unreadable"):
        run(recipe, corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unreadable_file_in_the_middle_of_an_epoch_stops_and_is_named(
    recipe, manifest, damaged, tmp_path, monkeypatch
):
    corpus, broken = damaged
    sound = next(clip for clip in manifest.clips if clip.path.name == broken[1].path.name)
    clips = tuple(sound if clip.path == broken[1].path else clip for clip in corpus.clips)
    monkeypatch.setattr("train.preparation.measure.SAMPLED_CLIPS", 1)
    monkeypatch.setattr("data.audit.LISTENED", 1)
    with pytest.raises(ValueError, match=r"broken\.flac"):
        run(recipe, replace(corpus, clips=clips), tmp_path / "run")


@pytest.mark.parametrize("fold", [1, 2], ids=["in training", "in validation"])
def test_skipped_files_are_counted_and_listed(recipe, damaged, tmp_path, caplog, fold):
    corpus, _ = damaged
    recipe = replace(recipe, skip_unreadable=True)
    caplog.set_level("INFO")
    train(recipe, corpus, tmp_path / "run", fold=fold, device="cpu")
    said = caplog.text
    assert "unreadable: " in said and "no audio" not in said
    assert "broken.flac" in said or "broken.flac" in (tmp_path / "run/skipped.txt").read_text()
    if fold == 1:
        assert "1 unreadable files left out so far" in said
        assert (tmp_path / "run/skipped.txt").read_text().endswith("broken.flac\n")
    else:
        predictions = read_predictions(tmp_path / "run/predictions.csv")
        assert len(predictions) == len([c for c in corpus.clips if c.fold == 2]) - 2


def test_a_file_that_was_restored_since_is_told_and_not_trained_on(
    recipe, manifest, damaged, tmp_path, monkeypatch
):
    corpus, broken = damaged
    recipe = replace(recipe, skip_unreadable=True)
    with monkeypatch.context() as patch:
        patch.setattr(Classification, "save_results", interrupt)
        with pytest.raises(Interruption):
            train(recipe, corpus, tmp_path / "run", fold=2, device="cpu")
    lost = broken[1].path.read_bytes()
    original = next(clip for clip in manifest.clips if clip.path.name == broken[1].path.name)
    broken[1].path.write_bytes(original.path.read_bytes())
    with pytest.raises(ValueError, match=r"other files are readable than when .*run began"):
        train(recipe, corpus, tmp_path / "run", fold=2, device="cpu")
    broken[1].path.write_bytes(lost)
    assert len(train(recipe, corpus, tmp_path / "run", fold=2, device="cpu")) == 2
