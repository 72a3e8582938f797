"""The options of every command: what `--help` says of them, and how wrong ones are refused."""

import re
from dataclasses import fields, replace

import pytest
import tyro

from train.cli import COMMANDS
from train.cli.cost import CostOptions
from train.cli.options import Reading, RecipeOptions, parse
from train.cli.parsing import documented
from train.cli.train import TrainOptions
from train.recipe import Recipe
from train.recipes import RECIPES

OF_A_RECIPE = ("train", "crossval", "audit", "stats", "cost")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, run_command):
    words = (command, "demo") if command in OF_A_RECIPE else (command,)
    words = ("ablate", "overlap", "demo") if command == "ablate" else words
    code, out, err = run_command(*words, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: ast-audio {' '.join(words)} ")
    assert "None" not in out  # a default that says nothing
    assert not re.search(r"\[default", out)


@pytest.mark.parametrize("command", OF_A_RECIPE)
def test_without_a_recipe_every_recipe_is_listed_with_its_purpose(command, run_command):
    code, out, _ = run_command(command, "--help")
    assert code == 0
    assert f"usage: ast-audio {command} RECIPE [OPTIONS]" in out
    for name, recipe in RECIPES.items():
        assert re.search(rf"^  {name} +{re.escape(recipe.summary)}$", out, re.MULTILINE)
    assert ("that of a run, with its fold" in out) == (command in ("train", "audit", "stats"))
    assert run_command(command)[0] == 2


def test_ablate_lists_its_tables_and_then_the_recipes(run_command):
    code, out, _ = run_command("ablate", "--help")
    assert (code, "patch-shape" in out) == (0, True)
    assert '[Row("a", {"learning_rate": 1e-4}), …]' in out
    code, out, _ = run_command("ablate", "overlap", "--help")
    assert (code, "esc50_imagenet" in out) == (0, True)


def test_a_recipes_fields_are_shown_by_subject_with_its_values(run_command):
    _, out, _ = run_command("train", "esc50", "--help")
    titles = re.findall(r"^\W*([a-z-]+) options ", out, re.MULTILINE)
    assert titles == [
        "data", "initial-weights", "network", "front-end", "optimisation", "loss", "averaging",
        "augmentation", "execution", "reading", "other",
    ]  # fmt: skip
    for field in fields(Recipe):
        if field.name not in ("summary", "from_data"):
            assert f"--{field.name.replace('_', '-')}" in out, field.name
    assert "1e-05" in out


@pytest.mark.parametrize("name", RECIPES)
def test_options_hold_a_whole_recipe(name):
    recipe = RECIPES[name]
    assert RecipeOptions.of(recipe).change(RECIPES["demo"]) == recipe


@pytest.mark.parametrize("command", ["train", "crossval", "audit", "stats"])
def test_help_says_what_the_data_decide(command, run_command):
    out = " ".join(run_command(command, "from_scratch", "--help")[1].split())
    assert "Passes over the training clips. (default: chosen by the data)" in out
    assert "chosen by the data" not in run_command(command, "esc50", "--help")[1]


def test_an_option_that_is_named_is_not_left_to_the_data():
    recipe = replace(
        RECIPES["from_scratch"], from_data=frozenset({"epochs", "noise", "mean", "learning_rate"})
    )
    words = ["--data", "x", "--epoch", "40", "--no-noise", "--batch_size=8", "--lr", "1e-3"]
    default = TrainOptions(tyro.MISSING, RecipeOptions.of(recipe), Reading())
    options = parse(TrainOptions, words, "train from_scratch", default).recipe
    assert options.change(recipe).from_data == {"mean"}
    assert RecipeOptions.of(recipe).change(recipe).from_data == recipe.from_data


def test_audit_has_no_options_that_it_does_not_use(run_command):
    out = run_command("audit", "demo", "--help")[1]
    assert "--cache" in out
    assert "--workers" not in out and "--device" not in out


@pytest.mark.parametrize(
    ("words", "least"),
    [
        (("train", "demo", "--data", "x", "--workers", "-1"), 0),
        (("train", "demo", "--data", "x", "--checkpoint-minutes", "-3"), 0),
        (("cost", "demo", "--classes", "0"), 1),
    ],
)
def test_numbers_out_of_range_are_refused(fails, words, least):
    message = fails(*words)
    assert f"{words[-1]} is too small; use at least {least}" in message
    assert words[-2] in message


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "run", "--data", "x", "--out"),
        ("ensemble", "a", "b", "--data", "x", "--out"),
        ("predict", "run", "a.wav", "--timeline", "--out"),
        ("train", "demo", "--data", "x", "--out"),
        ("crossval", "demo", "--data", "x", "--out"),
        ("ablate", "overlap", "demo", "--data", "x", "--out"),
    ],
)
def test_a_file_in_place_of_the_folder_to_write_is_refused_before_the_work(fails, tmp_path, words):
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file'} is a file; give a folder" in fails(*words, tmp_path / "file")
    assert f"{tmp_path / 'file'} is a file" in fails(*words, tmp_path / "file" / "new")


@pytest.mark.parametrize("words", [("evaluate", "run"), ("ensemble", "a", "b")])
def test_a_report_is_not_written_into_a_run(fails, tmp_path, words):
    (tmp_path / "recipe.json").write_text("{}")
    said = fails(*words, "--data", "x", "--out", tmp_path)
    assert f"{tmp_path} is a run folder, whose predictions stay; give another folder" in said


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "run", "a.wav", "--csv"),
        ("embed", "run", "a.wav", "--out"),
        ("attention", "run", "a.wav", "--out"),
        ("cost", "demo", "--out"),
        ("ledger", "--out"),
    ],
)
def test_a_folder_in_place_of_the_file_to_write_is_refused_before_the_work(fails, tmp_path, words):
    assert f"{tmp_path} is a folder; give a file" in fails(*words, tmp_path)


def test_the_choices_of_an_option_without_a_default_are_its_words(fails):
    message = fails("evaluate", "run", "--data", "x", "--split", "foo")
    assert message == "--split 'foo' is unknown; use one of validation, train, test, all"
    assert "None" not in message


def test_bad_words_are_named(fails, corpus_folder):
    assert "the recipe comes first" in fails("train", "--data", "x")
    assert fails("train", "esc51", "--data", "x").endswith("unknown; did you mean esc50?")
    assert "use one of demo, " in fails("train", "nothing", "--data", "x")
    assert "the recipe comes first" in fails("audit", corpus_folder)
    assert "recipe file no.json does not exist" in fails("train", "no.json", "--data", "x")
    message = fails("train", "demo", "--data", corpus_folder, "--epochs", "many")
    assert message == "--epochs: 'many' is not a whole number"
    assert "preset 'huge' is unknown" in fails("train", "demo", "--data", "x", "--preset", "huge")


OF_DEMO = ("train", "demo", "--data", "x")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--batchsize", "8"), "no option --batchsize; did you mean --batch-size?"),
        (("-epochs", "8"), "no option -epochs; did you mean --epochs?"),
        (("—epochs", "8"), "no option —epochs; did you mean --epochs?"),
        (("epochs=8",), "'epochs=8' belongs to no option; did you mean --epochs?"),
        (("--lr-decay", "8"), "did you mean --lr-decay-from, --lr-decay-every or --layer-decay?"),
        (("--top-k", "8"), "no option --top-k; `ast-audio train demo --help` explains the options"),
        (("--noise", "yes"), "--noise takes no value: give --noise or --no-noise alone"),
        (("--epochs",), "--epochs needs a value"),
        (("--patch", "16"), "--patch needs 2 values"),
        (("--patch", "16", "a"), "--patch: 'a' is not a whole number"),
        (("--mean", "1,5"), "--mean: '1,5' is not a number"),
        (("--lr", "nan"), "--learning-rate: 'nan' is not a number"),
        (("--precision", "fp23"), "--precision 'fp23' is unknown; use one of fp32, "),
        (("--device", "gpu"), "--device: device 'gpu' is unknown; use auto, cpu or cuda"),
        (("--corpus", "tables"), "--corpus 'tables' is unknown; use one of table, "),
    ],
)
def test_a_word_that_is_wrong_is_named_with_what_is_near(fails, words, said):
    assert said in fails(*OF_DEMO, *words)


def test_an_option_that_is_missing_is_named(fails, tmp_path):
    assert fails("train", "demo").startswith("--data PATH is missing")
    message = fails("evaluate", "run", tmp_path)
    assert message == f"--data PATH is missing; did you mean --data {tmp_path}?"
    assert fails("convert").startswith("MODEL and DESTINATION are missing")
    assert "--model is no option: give its value alone" in fails("predict", "--model", "run")


def test_what_begins_one_option_is_taken_as_it_and_said(run_command, tmp_path):
    code, _, err = run_command("runs", tmp_path / "none", "--dif=a")
    assert code == 2
    assert err.startswith("note: --dif is taken as --diff\n")
    options = parse(CostOptions, ["--classe", "8", "--lr=0.5"], "cost", of_demo(CostOptions))
    assert (options.classes, options.recipe.change(RECIPES["demo"]).learning_rate) == (8, 0.5)


def of_demo(kind):
    return kind(RecipeOptions.of(RECIPES["demo"]))


def test_help_of_a_recipe_begins_with_what_is_used_most(run_command):
    _, out, _ = run_command("train", "finetune", "--help")
    first = out.partition("data options")[0]
    assert re.findall(r"^\W*(--[a-z][a-z-]+)", first, re.MULTILINE) == [
        "--data", "--corpus", "--out", "--fold", "--init-from", "--preset", "--epochs",
        "--batch-size", "--learning-rate", "--num-frames", "--seed", "--device",
    ]  # fmt: skip
    assert "Or --lr." in first
    assert out.count("--epochs INT") == 1


def test_help_is_not_broken_where_the_source_is_and_names_options(run_command):
    assert "There is one after every epoch, too." in documented(TrainOptions)["checkpoint_minutes"]
    words = " ".join(run_command("train", "finetune", "--help")[1].replace("│", " ").split())
    assert "after epoch --lr-decay-from and after every --lr-decay-every further ones" in words
