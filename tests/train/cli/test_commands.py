"""Commands on real files: training ones, those that look at data, and what they refuse."""

import json
import resource
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from ast_model import Frontend
from data import esc50, load_audio
from data.files import cache_folder, read_json, write_json
from train.cli import main
from train.cli.options import open_or_make_corpus
from train.cli.train import describe_results
from train.recipes import RECIPES
from train.recipes.demo import DEMO
from train.run.folder import load_state, read_run, save_state


def test_train_says_scores_and_where_everything_is(run_folder, corpus_folder, run_command, tiny):
    words = ("train", "demo", "--data", corpus_folder, "--fold", "2", "--out", run_folder, *tiny)
    code, out, _ = run_command(*words)  # the run is finished: nothing is trained
    assert code == 0
    row = read_json(run_folder / "results.json")["validation"]["last"]
    line = (
        f"fold 2 (8 clips): last (epoch 1): accuracy {row['accuracy']:.4f}, mAP {row['mAP']:.4f}\n"
    )
    assert line in out
    assert out.endswith(
        "best is chosen on fold 2, so it flatters; quote the last\n"
        f"model {run_folder / 'last'}\nplots {run_folder / 'plots'}\n"
    )
    assert (run_folder / "last" / "model.safetensors").is_file()


def test_a_run_says_to_quote_its_averaged_weights_where_it_has_them(fake_run, tmp_path):
    run = fake_run(tmp_path / "run", 0.5)
    results = read_json(run / "results.json")
    results["validation"]["averaged"] = {"accuracy": 0.6, "mAP": 0.3}
    write_json(run / "results.json", results)
    assert "so it flatters; quote the averaged weights\n" in describe_results(run)
    assert read_run(run).quoted.model == "averaged"


def test_overrides_reach_the_run(run_folder):
    recipe = read_json(run_folder / "recipe.json")["recipe"]
    assert (recipe["corpus"], recipe["epochs"], recipe["num_frames"]) == ("esc50", 1, 64)


def test_a_run_is_repeated_from_its_recipe_file(run_folder, corpus_folder, tmp_path, run_command):
    words = ("train", run_folder / "recipe.json", "--data", corpus_folder)
    words += ("--out", tmp_path / "again", "--device", "cpu", "--no-use-cache")
    code, out, err = run_command(*words)
    assert code == 0, err
    assert "fold 2 (8 clips): last (epoch 1)" in out
    for name in ("metrics.csv", "predictions.csv", "last/model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (run_folder / name).read_bytes()


def test_crossval_prints_the_table(corpus_folder, tmp_path, run_command, tiny):
    words = ("crossval", "demo", "--data", corpus_folder, "--out", tmp_path / "cv", *tiny)
    code, out, err = run_command(*words, "--folds", "1", "2", "--no-use-cache")
    assert code == 0, err
    assert (tmp_path / "cv" / "crossval.md").read_text() in out
    assert f"models {tmp_path / 'cv'}/fold*/last" in out


def test_stats_are_those_of_the_training_split(corpus_folder, manifest, run_command):
    words = ("demo", "--data", corpus_folder, "--corpus", "esc50", "--no-use-cache")
    code, out, err = run_command("stats", *words, "--fold", "1", "--device", "cpu")
    assert code == 0, err
    mean, std = map(float, out.split("--mean ")[1].split(" --std "))
    frontend = Frontend(DEMO.frontend_config())
    clips = [load_audio(clip.path) for clip in manifest.clips if clip.fold != 1]
    fbanks = torch.cat([frontend.fbank((clip - clip.mean())[None])[0][0, :192] for clip in clips])
    assert mean == pytest.approx(fbanks.mean().item(), abs=1e-4)
    assert std == pytest.approx(fbanks.std(correction=0).item(), abs=1e-4)
    audited = run_command("audit", *words, "--fold", "1")[1]
    assert f"mean {mean:.4f}, std {std:.4f} (padding included" in audited


OWN = ["--corpus", "esc50", "--device", "cpu", "--precision", "fp32", "--depth", "1"]
OWN += ["--epochs", "1", "--patch", "64", "16", "--stride", "64", "16"]


@pytest.fixture(scope="module")
def own_run(corpus_folder, tmp_path_factory):
    """A run from scratch that chose by the data, but for the options given in OWN."""
    folder = tmp_path_factory.mktemp("own") / "run"
    cache = ["--cache", str(folder.parent / "cache")]
    words = ["train", "from_scratch", "--data", str(corpus_folder), "--out", str(folder)]
    assert main([*words, *OWN, *cache]) == 0
    return folder


def test_a_run_on_own_data_stores_what_was_chosen_and_what_was_given(
    own_run, corpus_folder, run_command
):
    stored = read_json(own_run / "recipe.json")["recipe"]
    assert (stored["epochs"], stored["patch"], stored["depth"]) == (1, [64, 16], 1)  # given
    assert (stored["preset"], stored["batch_size"], stored["mixup_rate"]) == ("tiny224", 8, 0.0)
    assert stored["num_frames"] % 16 == 0
    assert stored["num_frames"] != RECIPES["from_scratch"].num_frames
    words = ("from_scratch", "--data", corpus_folder, *OWN, "--no-use-cache")
    same = f"mean {stored['mean']:.4f}, std {stored['std']:.4f}"
    assert same in run_command("stats", *words)[1]
    audited = run_command("audit", *words[:5], "--patch", "64", "16", "--no-use-cache")[1]
    assert f"mean {stored['mean']}, std {stored['std']}: measured on 32" in audited
    assert f"{same} (padding included" in audited


def test_a_run_that_goes_on_does_not_choose_anew(own_run, corpus_folder, fails, run_command):
    file = own_run / "recipe.json"
    content = read_json(file)
    changed = content | {"recipe": content["recipe"] | {"mean": -3.25}}
    write_json(file, changed)  # other than the data would say
    state = load_state(own_run)
    save_state(own_run, state | {"run": changed})
    words = ("train", "from_scratch", "--data", corpus_folder, "--out", own_run, *OWN)
    code, out, err = run_command(*words, "--no-use-cache")
    assert code == 0, err
    assert "measured on" not in out
    assert "mean -3.25 -> -4.0" in fails(*words, "--mean", "-4", "--no-use-cache")
    write_json(file, content)
    save_state(own_run, state)


def test_folds_of_own_data_share_one_choice(corpus_folder, tmp_path, run_command):
    words = ("crossval", "from_scratch", "--data", corpus_folder, "--out", tmp_path / "cv", *OWN)
    words += ("--no-use-cache", "--folds")
    code, out, err = run_command(*words, "2")
    assert code == 0, err
    assert out.count("measured on") == 1
    assert "transformers" not in out + err  # what it cannot do is for who saves or converts
    code, out, err = run_command(*words, "1", "2")
    assert code == 0, err
    assert "measured on" not in out
    one, two = (read_json(tmp_path / f"cv/fold{n}/recipe.json")["recipe"] for n in (1, 2))
    assert one == two


def test_a_recipe_that_does_not_fit_is_warned_about(corpus_folder, run_command):
    words = ("audit", "demo", "--data", corpus_folder, "--corpus", "esc50", "--no-use-cache")
    code, _, err = run_command(*words, "--num-frames", "1024", "--layer-decay", "0.75")
    assert code == 0
    assert "note: layer_decay 0.75" in err
    assert "of the input is padding: use --num-frames" in err


def test_audit_finds_what_would_spoil_a_run(fails, corpus_folder, tmp_path, run_command):
    caches = cache_folder("clips").parent
    before = set(caches.rglob("*"))
    words = ("--corpus", "esc50", "--cache", tmp_path / "cache")
    assert run_command("audit", "demo", "--data", corpus_folder, *words)[0] == 0
    assert (tmp_path / "cache" / "digests").is_file()
    words = ("--corpus", "esc50", "--no-use-cache")
    code, out, _ = run_command("audit", "demo", "--data", corpus_folder, *words)
    assert code == 0
    assert set(caches.rglob("*")) == before
    assert "32 training clips" in out
    assert out.endswith("nothing stands in the way of training demo on these data\n")
    shutil.copytree(corpus_folder, tmp_path / "copy")
    missing = min((tmp_path / "copy" / "audio").iterdir())
    missing.unlink()
    code, _, err = run_command("audit", "demo", "--data", tmp_path / "copy", *words)
    assert (code, missing.name in err) == (2, True)


def test_prepare_makes_flac_that_the_corpus_reads(corpus_folder, tmp_path, run_command):
    code, _, err = run_command("prepare", corpus_folder, tmp_path / "flac", "--processes", "1")
    assert code == 0, err
    clips = esc50(tmp_path / "flac").clips
    assert len(clips) == 40
    assert {clip.path.suffix for clip in clips} == {".flac"}


def test_download_knows_its_data_sets(fails, run_command, tmp_path, monkeypatch):
    asked = []
    for name in ("esc50", "speech_commands"):
        target = f"train.cli.download.download_{name}"
        monkeypatch.setattr(target, lambda *words, name=name: asked.append((name, *words)))
    assert run_command("download", "esc50", tmp_path)[0] == 0
    assert run_command("download", "speech_commands", tmp_path, "--version", "v1")[0] == 0
    assert asked == [("esc50", tmp_path), ("speech_commands", tmp_path, "v1")]
    assert "speech_commands" in fails("download", "imagenet", tmp_path)
    assert "leave it out" in fails("download", "esc50", tmp_path, "--version", "v1")


def test_runs_lists_runs_and_compares_two(fake_run, run_command, tmp_path, recipe):
    fake_run(tmp_path / "a", 0.5)
    fake_run(tmp_path / "b", fold=2)
    code, out, _ = run_command("runs", tmp_path)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["run", "recipe", "corpus"]
    assert "finished" in lines[1] and "accuracy 0.5000" in lines[1]
    code, out, _ = run_command("runs", "--diff", tmp_path / "a", tmp_path / "b")
    assert (code, out) == (0, "fold 1 -> 2\n")
    code, out, _ = run_command("runs", "--diff", tmp_path / "a", tmp_path / "a")
    assert (code, out) == (0, "the same recipe, fold and clips\n")


def test_cost_is_printed_and_written(run_command, tmp_path, monkeypatch):
    from train.experiments.cost import Cost

    cost = Cost(18, 5_443_016, 2, "CPU", "fp32", 3, 4.0, 5, 6.0, 7)
    asked = []
    monkeypatch.setattr("train.cli.cost.measure", lambda *words: asked.append(words) or cost)
    words = ["--classes", "50", "--device", "cpu", "--out", tmp_path / "c.json"]
    code, out, err = run_command("cost", "demo", *words)
    assert code == 0, err
    code, out, err = run_command("cost", "demo", *words, "--batch-size", "3", "--num-frames", "100")
    assert code == 0, err
    assert asked == [
        (replace(DEMO, batch_size=12), 50, 12, "cpu"),
        (replace(DEMO, batch_size=3, num_frames=100), 50, 3, "cpu"),
    ]
    assert "5,443,016" in out
    assert read_json(tmp_path / "c.json") == vars(cost)


def test_what_a_command_did_not_write_is_not_replaced(
    fails, run_command, run_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("train.cli.cost.measure", lambda *words: pytest.fail("was measured"))
    soundfile.write(tmp_path / "a.wav", np.zeros(8_000), 16_000)
    mine = tmp_path / "labels.csv"
    mine.write_text("file,label\na.wav,owl\n")
    predict = ("predict", run_folder, tmp_path / "a.wav", "--device", "cpu", "--csv")
    for words in (predict, ("cost", "demo", "--out"), ("ledger", "--runs", tmp_path, "--out")):
        assert fails(*words, mine) == (
            f"{mine} exists and was not written by this command: move it away, or give another name"
        )
    assert mine.read_text() == "file,label\na.wav,owl\n"
    (tmp_path / "own.csv").touch()  # as mktemp does
    for words in (predict, (*predict[:-1], "--timeline", "--csv"), predict):
        assert run_command(*words, tmp_path / "own.csv")[0] == 0
    for _ in range(2):
        assert run_command("ledger", "--runs", tmp_path, "--out", tmp_path / "l.md")[0] == 0


def test_a_cost_that_cannot_be_measured_is_refused_in_one_line(fails):
    assert "device 'gpu' is unknown" in fails("cost", "demo", "--device", "gpu")
    assert "--batch-size is 0" in fails("cost", "demo", "--batch-size", "0")


def test_bad_data_are_named(fails, corpus_folder, tmp_path):
    assert "nowhere" in fails("train", "esc10_scratch", "--data", tmp_path / "nowhere")
    words = ("train", "demo", "--data", corpus_folder, "--corpus", "esc50", "--fold", "9")
    assert "fold 9 does not exist" in fails(*words, "--out", tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_what_needs_no_recording_is_told_before_any_is_opened(
    fails, corpus_folder, tmp_path, monkeypatch
):
    for name in ("train", "audit"):
        monkeypatch.setattr(f"train.cli.{name}.choose", lambda *given: pytest.fail("was looked at"))
    for name in "ab":
        (tmp_path / f"{name}.wav").touch()
    table = tmp_path / "clips.csv"
    table.write_text("path,label,split\na.wav,owl;wren,train\nb.wav,owl,validation\n")
    several = ("from_scratch", "--corpus", "table", "--data", table, "--label-separator", ";")
    typo = ("keyword_spotting", "--corpus", "esc50", "--data", corpus_folder, "--init-from", "/a/b")
    for command in ("train", "audit"):
        assert "use --loss bce" in fails(command, *several)
        assert "there is no model /a/b to start from" in fails(command, *typo)


def test_only_training_makes_the_synthetic_data(fails, run_folder, tmp_path):
    typo = tmp_path / "typo"
    for words in (("audit", "demo"), ("stats", "demo"), ("evaluate", run_folder)):
        corpus = ("--corpus", "synthetic", "--data", typo)
        assert "`ast-audio train demo --data" in fails(*words, *corpus)
    assert not typo.exists()
    assert len(open_or_make_corpus(DEMO, typo).clips) == 240


def test_a_run_folder_of_another_recipe_is_refused(run_command, run_folder, corpus_folder):
    words = ("train", "demo", "--data", corpus_folder, "--fold", "2", "--out", run_folder)
    code, _, err = run_command(*words, "--corpus", "esc50", "--device", "cpu")
    assert (code, err.count("\n"), "different recipe" in err) == (2, 1, True)


def test_predict_names_classes_of_any_file(run_folder, tmp_path, run_command):
    file = tmp_path / "stereo 44100.flac"
    soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, (20_000, 2)), 44_100)
    words = ("predict", run_folder, file, "--top-k", "3", "--device", "cpu")
    code, out, err = run_command(*words)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith(f"model {run_folder / 'last'}: ")
    assert "epoch 1 of 1, the last; CPU, fp32" in lines[0]
    assert [len(lines), lines[1], lines[2]] == [8, "1 recording, 0.45 s of sound", str(file)]
    assert lines[-2].startswith("1 recording, 0.45 s of sound in ")
    assert lines[-1] == (
        "1 of 1 recordings are at other rates (44100 Hz) than the model, and resampled to its "
        "16000 Hz"
    )
    (result,) = json.loads(run_command(*words, "--json")[1])
    probabilities = [entry["probability"] for entry in result["classes"]]
    assert probabilities == sorted(probabilities, reverse=True)


def test_bad_models_and_files_are_named(fails, run_folder, corpus_folder, tmp_path):
    assert "no file or folder" in fails("predict", tmp_path / "none", __file__)
    assert "none.wav does not exist" in fails("predict", run_folder, tmp_path / "none.wav")
    assert "holds no audio files" in fails("predict", run_folder, tmp_path)
    assert "no recording was given" in fails("predict", run_folder)
    empty = tmp_path / "empty.wav"
    empty.touch()
    assert "empty.wav" in fails("predict", run_folder, empty)
    short = tmp_path / "short.wav"
    soundfile.write(short, np.zeros(100), 16_000)
    assert "short.wav lasts 6.2 ms; a model needs at least 25 ms" in fails(
        "predict", run_folder, short
    )
    words = ("evaluate", run_folder / "last", "--data", corpus_folder, "--fold", "9")
    assert "fold 9 does not exist" in fails(*words)


def test_evaluate_and_ensemble_hand_on_the_columns_of_a_table(monkeypatch, run_command):
    asked = []

    def note(*models, columns, **others):
        asked.append(columns)
        raise ValueError("noted")

    for name in ("evaluate", "ensemble"):
        monkeypatch.setattr(f"train.cli.{name}.{name}", note)
    monkeypatch.setattr("train.cli.evaluate.joined_scores", note)
    columns = ("--path-column", "recording", "--label-column", "bird")
    for words in (("evaluate", "a"), ("ensemble", "a", "b"), ("evaluate", "a", "--joined", "1")):
        for given in (columns, ()):
            with pytest.raises(ValueError, match="noted"):
                run_command(*words, "--corpus", "table", "--data", "t.csv", *given)
    assert asked == 3 * [{"path_column": "recording", "label_column": "bird"}, {}]


def test_evaluate_refuses_data_of_other_classes(fails, run_folder, tmp_path):
    for name in ("meta", "audio"):
        (tmp_path / name).mkdir()
    soundfile.write(tmp_path / "audio" / "a.wav", np.zeros(16_000), 16_000)
    table = "filename,fold,target,category,esc10\na.wav,2,0,dog,True\n"
    (tmp_path / "meta" / "esc50.csv").write_text(table)
    message = fails("evaluate", run_folder, "--data", tmp_path, "--corpus", "esc50")
    assert message.endswith(f"{tmp_path} has dog; give the data it was trained for")


@contextmanager
def largest_file(size):
    """A limit on the size of files, which stands for a full disk."""
    old, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (old, hard))


@pytest.mark.parametrize("megabytes", [0.001, 1, 5])
def test_a_full_disk_stops_in_one_line_and_the_same_command_goes_on(
    run_command, corpus_folder, tmp_path, tiny, megabytes
):
    """Recipe, model or state fail."""
    words = ("train", "demo", "--data", corpus_folder, *tiny, "--no-use-cache")
    words += ("--out", tmp_path / "run")
    with largest_file(int(megabytes * 2**20)):
        code, _, err = run_command(*words)
    assert code == 2, err
    *notes, error = err.splitlines()
    assert all(note.startswith("note: ") for note in notes), err
    assert "File too large; free space there" in error
    assert not list(tmp_path.glob("run/**/.*"))
    assert not (tmp_path / "run" / "state" / "state.pt").exists()
    code, _, err = run_command(*words)
    assert code == 0, err
