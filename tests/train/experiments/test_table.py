"""Tables: rows become recipes, and tables that compare nothing or the wrong thing are refused."""

from dataclasses import replace

import pytest

from train.experiments.table import Row, Table, named_checkpoints
from train.experiments.tables import TABLES, load_table
from train.recipes.audioset import AUDIOSET_BALANCED
from train.recipes.esc10 import ESC10_SCRATCH

ROWS = (Row("low", {"learning_rate": 1e-4}), Row("high", {"learning_rate": 1e-3}))


def test_rows_change_their_fields_and_no_other(recipe):
    recipes = Table("rate", "Rate", ROWS, "low").recipes(recipe)
    assert recipes == {
        "low": replace(recipe, learning_rate=1e-4),
        "high": replace(recipe, learning_rate=1e-3),
    }


@pytest.mark.parametrize("name", TABLES)
def test_the_papers_tables_fit_its_recipe_and_a_small_one(name):
    table = TABLES[name].select([], None)
    assert len(table.recipes(AUDIOSET_BALANCED)) >= 2
    recipe = replace(ESC10_SCRATCH, init_from="somewhere") if name == "positions" else ESC10_SCRATCH
    recipes = table.recipes(recipe)
    assert {changed.corpus for changed in recipes.values()} == {"esc10"}


def test_overlap_has_the_papers_patches():
    recipes = TABLES["overlap"].recipes(AUDIOSET_BALANCED).values()
    tokens = [recipe.model_config(527).num_tokens for recipe in recipes]
    assert [count - 2 for count in tokens] == [512, 657, 850, 1212]


def test_a_checkpoint_takes_its_row():
    table = TABLES["pretraining"]
    assert [row.name for row in table.select([], None).rows] == ["none", "imagenet"]
    checkpoints = named_checkpoints(["runs/digits/last"])
    recipes = table.with_checkpoints(checkpoints).recipes(ESC10_SCRATCH)
    assert recipes["checkpoint"].init_from == "runs/digits/last"


def test_several_checkpoints_are_rows_of_their_names():
    checkpoints = named_checkpoints(["supervised=runs/digits", "mae=runs/lr=1e-3/last"])
    table = TABLES["pretraining"].with_checkpoints(checkpoints)
    recipes = table.select(["none", "supervised", "mae"], None).recipes(ESC10_SCRATCH)
    assert {name: recipe.init_from for name, recipe in recipes.items()} == {
        "none": "scratch",
        "supervised": "runs/digits",
        "mae": "runs/lr=1e-3/last",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["=model"], "--checkpoint '=model': give MODEL, or NAME=MODEL"),
        (["mae="], "--checkpoint 'mae=': give MODEL, or NAME=MODEL"),
        (["mae=a", "mae=b"], "'mae=b': there is one called 'mae' already"),
        (["a", "b"], "'b': there is one called '' already"),
    ],
)
def test_checkpoints_that_cannot_be_rows_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        named_checkpoints(words)


def test_a_path_with_the_sign_is_a_path():
    assert named_checkpoints(["runs/lr=1e-3/last"]) == {"": "runs/lr=1e-3/last"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda: TABLES["overlap"].with_checkpoints({"": "x"}),
            "no row of table overlap takes --checkpoint; --init-from x",
        ),
        (
            lambda: TABLES["pretraining"].select(["none", "checkpoint"], None),
            "row checkpoint of table pretraining needs --checkpoint",
        ),
        (
            lambda: TABLES["pretraining"].with_checkpoints({"None": "x"}),
            "table pretraining has two rows 'none'; rename one",
        ),
        (
            lambda: TABLES["overlap"].select(["overlap3"], None),
            "has no row 'overlap3'; its rows: ov",
        ),
        (
            lambda: TABLES["overlap"].select(["overlap0", "overlap2"], None),
            "no row 'overlap6' to compare with; make one of overlap0, overlap2",
        ),
        (lambda: Table("t", "T", ROWS, "middle"), "table t has no row 'middle' to compare with"),
        (lambda: Table("t", "T", ROWS[:1], "low"), "compares nothing: give it two rows"),
        (lambda: Table("t", "T", (*ROWS, Row("LOW", {})), "low"), "two rows 'low'; rename one"),
        (lambda: Row("../up", {}), "row '../up' cannot name a folder"),
    ],
)
def test_tables_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        change()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strides": (16, 16)}, "no recipe has a field 'strides'; did you mean 'stride'?"),
        ({"zebra": 1}, "no recipe has a field 'zebra'; `train RECIPE --help`"),
        (
            {"start_from": "imagenet"},
            "row odd of table t: the field start_from is called init_from",
        ),
        ({"decay": 0.5}, "the field decay is called lr_gamma now"),
        ({"seed": 1}, "changes seed, which all rows share"),
        ({"corpus": "esc10"}, "changes corpus, which all rows share"),
        ({"metric": "mAP"}, "changes metric, which all rows share"),
        ({"dropout": 2.0}, "row odd of table t: dropout 2.0 is not a number in"),
        ({"epochs": "ten"}, "row odd of table t: recipe demo: epochs is 'ten'"),
        ({}, "rows same and odd of table t are the same recipe; change or remove one"),
        ({"positions": "reinit"}, "from scratch, positions and rgb_kernel have no effect"),
    ],
)
def test_rows_that_cannot_be_trained_are_refused(recipe, changes, message):
    table = Table("t", "T", (Row("same", {}), Row("odd", changes)), "same")
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        table.recipes(recipe)
    assert message in str(refused.value)


def test_a_table_of_ones_own_is_a_python_file(recipe, tmp_path):
    file = tmp_path / "rate.py"
    file.write_text(
        "from train.experiments.table import Row, Table\n"
        "rows = [Row(f'rate{k}', {'learning_rate': 10.0**-k}) for k in (3, 4)]\n"
        "TABLE = Table('rate', 'Learning rate', rows, 'rate3')\n"
    )
    recipes = load_table(str(file)).recipes(recipe)
    assert {name: r.learning_rate for name, r in recipes.items()} == {"rate3": 1e-3, "rate4": 1e-4}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("TABLE = 1", "has no TABLE = Table"),
        ("TABLE = [", "SyntaxError"),
        (
            "from train.experiments.table import *\nTABLE = Table('t', 'T', [], 'a')",
            "t compares nothing",
        ),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, content, message):
    (tmp_path / "table.py").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_table(str(tmp_path / "table.py"))


def test_an_unknown_table_is_refused():
    with pytest.raises(ValueError, match="table 'overlp' is unknown; use one of overlap, pre"):
        load_table("overlp")
    with pytest.raises(FileNotFoundError, match=r"table mine\.py does not exist"):
        load_table("mine.py")
