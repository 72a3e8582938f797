"""`convert` and its command: every kind of source, what is written and said, what is refused."""

import re
import shutil
import sys

import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

import weights
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from data.files import read_json, write_json
from train.cli import main
from train.inference import convert as convert_model
from train.inference.export import read_class_names
from train.run.folder import read_metrics, write_table
from weights.folder import read_epoch, write_folder

transformers = pytest.importorskip("transformers", reason="pip install ast-audio[hf]")
huggingface_hub = pytest.importorskip("huggingface_hub", reason="pip install ast-audio[hf]")

WIDTH, FRAMES = 24, 64
CLASSES = ("dog", "rain", "sea waves")
FILES = ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]
BLOCK = {
    "norm1": (WIDTH,),
    "attn.qkv": (3 * WIDTH, WIDTH),
    "attn.proj": (WIDTH, WIDTH),
    "norm2": (WIDTH,),
    "mlp.fc1": (4 * WIDTH, WIDTH),
    "mlp.fc2": (WIDTH, 4 * WIDTH),
}


@pytest.fixture
def theirs(tmp_path):
    """A folder that transformers wrote."""
    torch.manual_seed(0)
    config = transformers.ASTConfig(
        hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=3, intermediate_size=4 * WIDTH,
        max_length=FRAMES, num_labels=3,
    )  # fmt: skip
    model = randomised(transformers.ASTForAudioClassification(config))
    model.save_pretrained(tmp_path / "theirs")
    transformers.ASTFeatureExtractor(max_length=FRAMES).save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


@pytest.fixture
def authors(tmp_path):
    """A .pth of the authors' names: 12 x 5 patches, 24 numbers and 3 heads a token."""
    modules = {
        "v.patch_embed.proj": (WIDTH, 1, 16, 16),
        **{f"v.blocks.{n}.{name}": shape for n in range(2) for name, shape in BLOCK.items()},
        "v.norm": (WIDTH,),
        "mlp_head.0": (WIDTH,),
        "mlp_head.1": (3, WIDTH),
    }
    shapes = {"v.cls_token": (1, 1, WIDTH), "v.dist_token": (1, 1, WIDTH)}
    shapes["v.pos_embed"] = (1, 2 + 12 * 5, WIDTH)
    for name, shape in modules.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    generator = torch.Generator().manual_seed(0)
    state = {f"module.{k}": 0.3 * torch.randn(s, generator=generator) for k, s in shapes.items()}
    torch.save(state, tmp_path / "ast.pth")
    return tmp_path / "ast.pth"


@pytest.fixture
def run(tmp_path):
    """A run folder of three epochs, the second the best, started from a private path."""
    folder = tmp_path / "run"
    recipe = {"name": "mine", "corpus": "esc50", "init_from": "/home/me/private/start.pth"}
    write_json(folder / "recipe.json", {"recipe": recipe, "fold": 2, "clips": "0" * 64})
    rows = [
        {"epoch": n, "learning_rate": 1e-4, "train_loss": 1.0, "accuracy": value, "mAP": 0.5}
        for n, value in ((1, 0.25), (2, 0.75), (3, 0.5))
    ]
    write_table(folder / "metrics.csv", rows)
    (folder / "predictions.csv").write_text("clip,target,dog\na.wav,dog,1\nb.wav,dog,0.5\n")
    for seed, name in enumerate(("best", "last")):
        write_model(folder / name, seed)
    return folder


@pytest.fixture
def clip(tmp_path):
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(0)) / 10
    soundfile.write(tmp_path / "clip.wav", noise.numpy(), 22_050)
    return tmp_path / "clip.wav"


@pytest.fixture
def fails(capsys):
    """Runs a conversion that must fail with one line, which it returns."""

    def check(*words):
        capsys.readouterr()
        assert main(["convert", *map(str, words)]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert sum(line.startswith("ast-audio: ") for line in lines) == 1
        return lines[-1].removeprefix("ast-audio: ")

    return check


def randomised(model, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    return model.eval()


def write_model(folder, seed=0, epoch=None, **changes):
    sizes = {"num_classes": 3, "num_frames": FRAMES, "width": WIDTH, "heads": 3, "depth": 2}
    model = randomised(AST(ASTConfig(**sizes | changes)), seed)
    classifier = AudioClassifier(model, Frontend(FrontendConfig(FRAMES)), CLASSES)
    write_folder(folder, classifier, epoch=epoch)
    return folder


def convert(*words):
    assert main(["convert", *map(str, words)]) == 0


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def same_weights(one, other):
    one, other = (load_file(folder / "model.safetensors") for folder in (one, other))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_model_is_written_for_the_authors_code(tmp_path, theirs, capsys):
    out = tmp_path / "model.pth"
    assert main(["convert", str(theirs), str(out)]) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    stored = torch.load(out, weights_only=True)
    assert stored["module.mlp_head.1.weight"].shape == (3, WIDTH)
    assert main(["convert", str(theirs), str(out), "--verify", "a.wav"]) == 2
    assert "leave it out with a .pth" in capsys.readouterr().err


def test_a_folder_of_transformers_is_converted_and_verified(theirs, tmp_path, clip, capsys):
    convert(theirs, tmp_path / "new", "--verify", clip)
    assert sorted(content(tmp_path / "new")) == FILES
    assert same_weights(theirs, tmp_path / "new")
    out = capsys.readouterr().out
    count = sum(tensor.numel() for tensor in load_file(theirs / "model.safetensors").values())
    described = f"(0.1 MB): {count:,} parameters, 3 classes, 64 frames\n"
    assert out.startswith(f"wrote {tmp_path / 'new'} {described}")
    assert f"{clip} here and in transformers, which read {theirs}\n" in out
    assert "1e-03 absolute" in out and "1e-04 relative" in out


def test_what_transformers_cannot_do_with_it_is_said_and_in_the_card(tmp_path, capsys):
    source = write_model(tmp_path / "source", pooling="patches")
    capsys.readouterr()
    convert(source, tmp_path / "new")
    said = "transformers cannot run this model, which has a head on the mean of the patch tokens"
    assert capsys.readouterr().err.startswith(f"note: {tmp_path / 'new'}: {said}; ")
    card = " ".join((tmp_path / "new" / "README.md").read_text().split())
    assert said in card.replace("`", "")


def test_the_function_says_what_it_wrote(theirs, tmp_path, clip):
    found = convert_model(theirs, tmp_path / "new", classes=("a", "b", "c"), verify_with=clip)
    assert found.path == tmp_path / "new"
    assert found.classifier.classes == ("a", "b", "c")
    assert found.size == sum(map(len, content(tmp_path / "new").values()))
    assert (found.reference, found.agreement.holds) == (theirs, True)


def test_a_hub_id_is_fetched_and_named(theirs, tmp_path, clip, monkeypatch, capsys):
    monkeypatch.setattr("weights.loading.fetch", {"owner/model@v1": theirs}.get)
    convert("owner/model@v1", tmp_path / "new", "--verify", clip)
    assert f"which read {theirs}\n" in capsys.readouterr().out
    assert "Converted from owner/model@v1." in (tmp_path / "new" / "README.md").read_text()


def test_the_authors_file_is_converted_and_verified(authors, tmp_path, clip, capsys):
    words = ["--heads", "3", "--num-frames", "64", "--stride", "10", "10", "--verify", clip]
    convert(authors, tmp_path / "new", *words)
    assert f"which read {tmp_path / 'new'}\n" in capsys.readouterr().out
    ours, stored = weights.load(tmp_path / "new").model, torch.load(authors)
    assert torch.equal(
        ours.blocks[1].attention.qkv.weight, stored["module.v.blocks.1.attn.qkv.weight"]
    )
    card = (tmp_path / "new" / "README.md").read_text()
    assert "Converted from ast.pth." in card and str(tmp_path) not in card
    assert "num\\_frames 64, stride (10, 10)" in card


def test_a_copy_that_scores_otherwise_fails_after_its_table(
    theirs, tmp_path, clip, monkeypatch, fails
):
    """What is written is spoilt on its way: one weight of the head."""
    whole = weights.save

    def spoilt(folder, *arguments):
        whole(folder, *arguments)
        tensors = load_file(folder / "model.safetensors")
        tensors["classifier.dense.weight"][0, 0] += 1
        save_file(tensors, folder / "model.safetensors")

    monkeypatch.setattr(weights, "save", spoilt)
    message = fails(theirs, tmp_path / "new", "--verify", clip)
    assert "was written, but transformers does not agree with it" in message


def test_a_run_is_converted_with_its_recipe_and_last_score(run, tmp_path):
    convert(run, tmp_path / "new")
    assert same_weights(run / "last", tmp_path / "new")
    card = huggingface_hub.ModelCard.load(tmp_path / "new" / "README.md")
    scores = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert scores == {"accuracy": 0.5, "mAP": 0.5}
    assert "esc50, fold 2 (validation split), 2 clips. " in card.text
    assert "The figures are of the last epoch, 3." in card.text
    assert '"init_from": "start.pth"' in card.text and "private" not in card.text


@pytest.mark.parametrize(("kind", "accuracy"), [("best", 0.75), ("last", 0.5)])
def test_best_and_last_bring_the_score_of_their_own_epoch(run, tmp_path, kind, accuracy):
    convert(run / kind, tmp_path / "new")
    assert same_weights(run / kind, tmp_path / "new")
    card = huggingface_hub.ModelCard.load(tmp_path / "new" / "README.md")
    assert card.data.eval_results[0].metric_value == accuracy
    assert ("so they flatter" in card.text) == (kind == "best")


def test_a_run_that_goes_on_meanwhile_gives_the_score_of_the_model_that_was_read(run, tmp_path):
    write_model(run / "last", seed=1, epoch=2)  # metrics.csv has epoch 3 already
    convert(run, tmp_path / "new")
    card = huggingface_hub.ModelCard.load(tmp_path / "new" / "README.md")
    assert card.data.eval_results[0].metric_value == 0.75
    assert "The figures are of the last epoch, 2." in card.text
    row = {"epoch": 3, "accuracy": 0.5, "mAP": 0.5}
    results = {"last": row, "best": row | {"epoch": 2}}
    content = {"validation_split": "validation", "validation": results, "test": results}
    write_json(run / "results.json", content)  # the run ended as the model was read
    convert(run, tmp_path / "new")
    assert "The figures are of the last epoch, 2." in (tmp_path / "new" / "README.md").read_text()


def test_models_of_a_training_run_know_their_epoch(run_folder):
    rows = read_metrics(run_folder)
    best = max(rows, key=lambda row: row["accuracy"])["epoch"]
    assert [read_epoch(run_folder / name) for name in ("last", "best")] == [len(rows), best]


def test_a_model_that_is_replaced_as_it_is_read_is_read_again(run, tmp_path, monkeypatch):
    write_model(run / "last", seed=1, epoch=2)
    load, loaded = weights.load, []

    def slow(*arguments, **options):
        loaded.append(load(*arguments, **options))
        write_model(run / "last", seed=2, epoch=3)
        return loaded[-1]

    monkeypatch.setattr(weights, "load", slow)
    convert_model(run, tmp_path / "new")
    assert len(loaded) == 2
    assert same_weights(run / "last", tmp_path / "new")
    assert "The figures are of the last epoch, 3." in (tmp_path / "new" / "README.md").read_text()


def test_the_recipes_metric_says_which_epoch_best_is_of(run, tmp_path):
    record = read_json(run / "recipe.json")
    record["recipe"]["metric"] = "mAP"
    write_json(run / "recipe.json", record)
    convert(run / "best", tmp_path / "new")
    assert "epoch 1, chosen because its mAP" in (tmp_path / "new" / "README.md").read_text()


def test_the_score_on_the_test_split_goes_first(run, tmp_path):
    test = {"best": {"accuracy": 0.125, "mAP": 0.25}, "last": {"accuracy": 0.0625, "mAP": 0.5}}
    validation = {"last": {"accuracy": 0.5, "mAP": 1}, "best": {"accuracy": 0.75, "mAP": 1}}
    results = {"validation_split": "validation", "validation": validation, "test": test}
    write_json(run / "results.json", results)
    (run / "test_predictions.csv").write_text("clip,target,dog\na.wav,dog,1\n")
    convert(run / "best", tmp_path / "new")
    card = huggingface_hub.ModelCard.load(tmp_path / "new" / "README.md")
    assert [result.metric_value for result in card.data.eval_results] == [0.125, 0.25]
    assert "Measured on esc50, test, 1 clips. Neither training nor" in card.text


def test_a_model_of_averaged_weights_brings_its_own_score(run, tmp_path):
    write_model(run / "averaged", seed=2)
    scores = {name: {"accuracy": 0.625, "mAP": 0.25} for name in ("last", "averaged")}
    results = {"validation_split": "validation", "validation": scores}
    write_json(run / "results.json", results)
    convert(run / "averaged", tmp_path / "new")
    card = huggingface_hub.ModelCard.load(tmp_path / "new" / "README.md")
    assert [result.metric_value for result in card.data.eval_results] == [0.625, 0.25]
    assert "Measured on esc50, validation, 2 clips." in card.text
    assert "mean of several epochs' weights" in card.text


def test_a_run_without_folds_and_without_scores_claims_none(run, tmp_path):
    write_json(run / "recipe.json", read_json(run / "recipe.json") | {"fold": None})
    convert(run, tmp_path / "new")
    assert "Measured on esc50, validation, 2" in (tmp_path / "new" / "README.md").read_text()
    (run / "metrics.csv").unlink()
    convert(run, tmp_path / "new")
    assert "No score is recorded." in (tmp_path / "new" / "README.md").read_text()


def test_a_model_changed_by_the_conversion_has_no_score(run, tmp_path, capsys):
    convert(run, tmp_path / "new", "--num-classes", "5", "--stride", "16", "16")
    config = weights.load(tmp_path / "new").model.config
    assert (config.num_classes, config.stride) == (5, (16, 16))
    card = (tmp_path / "new" / "README.md").read_text()
    assert "No score is recorded." in card and "num\\_classes 5, stride (16, 16)" in card


def test_a_run_without_an_epoch_yet_is_named(run, tmp_path, fails):
    shutil.rmtree(run / "last")
    assert f"the run {run} has no last/ yet" in fails(run, tmp_path / "new")


@pytest.mark.parametrize(
    ("name", "text"),
    [("recipe.json", "[]"), ("recipe.json", "{"), ("metrics.csv", "epoch,accuracy\n1\n"),
     ("metrics.csv", "epoch,accuracy\n1,high\n"), ("results.json", "[]"),
     ("results.json", '{"test": {}}')],
)  # fmt: skip
def test_a_damaged_run_is_refused_in_one_line(run, tmp_path, fails, name, text):
    (run / name).write_text(text)
    assert str(run) in fails(run, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_onnx_is_written_with_and_without_the_front_end(run, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install ast-audio[onnx]")
    for flag, name in (("--frontend", "waveform"), ("--no-frontend", "fbank")):
        convert(run, tmp_path / "m.onnx", flag)
        assert f"64 frames; {name} in, logits out" in capsys.readouterr().out
        session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
        assert [argument.name for argument in session.get_inputs()] == [name]


def test_onnx_in_8_bits_is_calibrated_and_says_how_near_it_is(run, tmp_path, clip, capsys):
    pytest.importorskip("onnxruntime", reason="pip install ast-audio[onnx]")
    (tmp_path / "clips").mkdir()
    clip.rename(tmp_path / "clips" / "clip.wav")
    convert(run, tmp_path / "out" / "m.onnx", "--int8", "--calibrate", tmp_path / "clips")
    out = capsys.readouterr().out
    assert "64 frames; waveform in, logits out\n8 linear layers in 8-bit integers; on " in out
    found = re.search(r"within (0\.\d{4}) of PyTorch's, (0\.\d{4}) on average, and the same", out)
    assert 0 < float(found[2]) <= float(found[1]) < 0.05
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("m.onnx", "--int8"), "with --calibrate FILE|FOLDER"),
        (("folder", "--int8", "--calibrate", "clip.wav"), "--int8 is for a DESTINATION that ends"),
        (("m.onnx", "--calibrate", "clip.wav"), "--calibrate is for --int8"),
        (("m.onnx", "--int8", "--calibrate", "none.wav"), "none.wav does not exist"),
        (("m.onnx", "--int8", "--calibrate", "text.wav"), "text.wav cannot be decoded"),
        (("m.onnx", "--int8", "--calibrate", "short.wav"), "short.wav lasts 10.0 ms"),
    ],
)
def test_what_cannot_be_in_8_bits_is_refused(
    run, tmp_path, clip, fails, monkeypatch, words, message
):
    pytest.importorskip("onnxruntime", reason="pip install ast-audio[onnx]")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "short.wav", torch.zeros(160).numpy(), 16_000)
    assert message in fails(run, *words)
    assert not list(tmp_path.glob("*.onnx")) and not (tmp_path / "folder").exists()


def test_without_onnxruntime_it_says_so_before_it_reads_the_model(tmp_path, fails, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    words = (tmp_path / "m.onnx", "--int8", "--calibrate", tmp_path / "clip.wav")
    assert "needs the package onnxruntime" in fails(tmp_path / "none", *words)


def test_classes_are_named_by_lines(theirs, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("Hund\nMale speech, man\n\nMöwe\n", encoding="utf-8")
    convert(theirs, tmp_path / "new", "--classes", names)
    assert weights.load(tmp_path / "new").classes == ("Hund", "Male speech, man", "Möwe")
    assert same_weights(theirs, tmp_path / "new")


def test_classes_are_named_by_a_table_in_the_order_of_its_index(tmp_path):
    names = tmp_path / "names.csv"
    names.write_text('index,mid,display_name\n2,/m/c,c\n0,/m/a,"a, b"\n1,/m/b,b\n')
    assert read_class_names(names) == ["a, b", "b", "c"]


def test_audiosets_table_of_classes_is_read(recordings):
    names = read_class_names(recordings / "audioset" / "class_labels_indices.csv")
    assert len(names) == 527 and names[1] == "Male speech, man speaking"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a\nb\n", "2 class names for the 3 classes of"),
        (b"a\nb\nb\n", "twice"),
        (b"a\n\xff\xfe\n", "names, line 2 is not UTF-8"),
        (b"index,display_name\n0,a\n2,b\n3,c\n", "names: expected the indices 0, 1, 2"),
        (b"index,display_name\n0,a\n1,b\n1,c\n", "names: expected the indices 0, 1, 2"),
        (b"index,display_name\n0,a\n1,b\n2,\n", "a display_name for each"),
        (b"index,display_name\n0,a\n1,b\n2\n", "names, line 4: 1 cells: expected 2"),
        (b"index,display_name\n0,a\n1,b\nx,c\n", "names: expected the indices 0, 1, 2"),
        (b"mid,display_name\n0,a\n1,b\n2,c\n", "names lacks the columns index"),
        (b'index,display_name\n0,a\n1,"b\n', "names, line 3: no row of a table"),
        (b"", "0 class names for the 3 classes of"),
    ],
)
def test_bad_class_names_are_refused(theirs, tmp_path, fails, text, message):
    (tmp_path / "names").write_bytes(text)
    assert message in fails(theirs, tmp_path / "new", "--classes", tmp_path / "names")
    assert not (tmp_path / "new").exists()


def test_a_model_is_replaced_and_anything_else_is_kept(theirs, tmp_path, fails):
    write_model(tmp_path / "old")
    convert(theirs, tmp_path / "old")
    assert same_weights(theirs, tmp_path / "old")
    (tmp_path / "empty").mkdir()
    convert(theirs, tmp_path / "empty")
    (tmp_path / "old" / "notes.txt").write_text("mine")
    before = content(tmp_path / "old")
    assert "something else than a model (notes.txt)" in fails(theirs, tmp_path / "old")
    assert content(tmp_path / "old") == before
    (tmp_path / "readme").mkdir()
    (tmp_path / "readme" / "README.md").touch()
    assert "something else than a model (README.md)" in fails(theirs, tmp_path / "readme")
    (tmp_path / "file").touch()
    assert "is a file" in fails(theirs, tmp_path / "file")
    (tmp_path / "folder.onnx").mkdir()
    assert "is a folder" in fails(theirs, tmp_path / "folder.onnx")
    (tmp_path / "empty" / "pytorch_model.bin").touch()  # of the hub; we write none
    assert "else than a model (pytorch_model.bin)" in fails(theirs, tmp_path / "empty")


def test_source_and_destination_must_lie_apart(theirs, run, tmp_path, fails):
    for source, destination in (
        (theirs, theirs),
        (theirs, theirs / "new"),
        (theirs, tmp_path),
        (theirs, theirs / ".." / "theirs"),
        (run, run / "hub"),
        (run / "best", run / "last"),
    ):
        assert "lie in one another" in fails(source, destination)
    assert "belongs to a run" in fails(theirs, run / "last")
    assert same_weights(run / "last", write_model(tmp_path / "same", seed=1))


def test_options_that_would_do_nothing_are_refused(theirs, tmp_path, clip, fails):
    assert "heads is for a .pth" in fails(theirs, tmp_path / "new", "--heads", "3")
    assert "--no-frontend is for" in fails(theirs, tmp_path / "new", "--no-frontend")
    assert "--verify compares" in fails(theirs, tmp_path / "m.onnx", "--verify", clip)


def test_what_cannot_be_verified_is_not_written(theirs, tmp_path, clip, fails):
    bare = write_model(tmp_path / "bare", distilled=False)
    new = tmp_path / "new"
    assert "cannot be compared with transformers" in fails(bare, new, "--verify", clip)
    assert "nowhere.wav" in fails(theirs, new, "--verify", tmp_path / "nowhere.wav")
    assert not new.exists()


def test_a_backbone_without_a_head_is_verified_by_its_copy(theirs, tmp_path, clip, capsys):
    transformers.ASTModel.from_pretrained(theirs).save_pretrained(tmp_path / "backbone")
    convert(tmp_path / "backbone", tmp_path / "new", "--verify", clip)
    assert f"which read {tmp_path / 'new'}\n" in capsys.readouterr().out


def test_behind_a_hamming_window_the_table_says_why_features_differ(run, tmp_path, clip, capsys):
    convert(run, tmp_path / "new", "--verify", clip)
    out = capsys.readouterr().out
    assert "any: transformers has no hamming window; both logits are of ours" in out


def test_an_image_model_of_timm_becomes_an_untrained_ast(tmp_path, capsys):
    timm = pytest.importorskip("timm")
    name = "deit_tiny_distilled_patch16_224"
    theirs = timm.create_model(name)
    torch.save(theirs.state_dict(), tmp_path / "deit.pth")
    words = ["convert", name, str(tmp_path / "ast"), "--file", str(tmp_path / "deit.pth")]
    assert main(words) == 2
    assert "knows images: give --num-classes" in capsys.readouterr().err
    assert main([*words, "--num-classes", "3", "--heads", "5"]) == 2
    assert "--heads is for a .pth" in capsys.readouterr().err
    words += ["--num-classes", "3", "--num-frames", "128", "--rgb-kernel", "sum"]
    assert main(words) == 0
    model = weights.load(tmp_path / "ast").model
    assert (model.config.num_frames, model.config.num_classes) == (128, 3)
    assert torch.equal(model.blocks[3].mlp.expand.weight, theirs.blocks[3].mlp.fc1.weight)
    kernel = theirs.patch_embed.proj.weight
    assert torch.equal(model.patch_embedding.projection.weight, kernel.sum(1, keepdim=True))
    assert f"Converted from {name}".replace("_", "\\_") in (tmp_path / "ast/README.md").read_text()


def test_options_of_image_models_are_refused_for_others(tmp_path, capsys):
    (tmp_path / "ast.pth").touch()
    words = ["convert", str(tmp_path / "ast.pth"), str(tmp_path / "out"), "--rgb-kernel", "sum"]
    assert main(words) == 2
    assert "--file and --rgb-kernel are for models of timm" in capsys.readouterr().err
