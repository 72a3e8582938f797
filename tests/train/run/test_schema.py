"""Files of a run folder that are damaged or foreign: one error, with the file and where in it."""

import json

import pytest

from data.files import write_json
from train.run.folder import (
    count_classes,
    folder_name,
    read_metrics,
    read_predictions,
    read_recipe,
    read_results,
)

HEADER = "epoch,train_loss,accuracy,mAP,loss\n"
PREDICTIONS = "clip,target,dog,rain\n"
SCORES = {"accuracy": 0.5, "mAP": 0.25}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "metrics.csv is empty"),
        ("epoch,loss\n1,2\n", "line 1: expected a line of headings, but accuracy"),
        (HEADER + "1,2,0.5,0.5\n", "line 2 is damaged: 4 cells, expected 5"),
        (HEADER + "1,2,0.5,0.5,1\n2,2,0.5,0.5,1.", "line 3 is damaged: its end is missing"),
        (HEADER + "1,2,0.5,0.5,1\n3,2,0.5,0.5,1\n", "line 3: epoch is 3.0"),
        (HEADER + "1,2,0.5,nan,1\n", "line 2: mAP is nan"),
        (HEADER + "1,inf,0.5,0.5,1\n", "line 2: train_loss is inf"),
        (HEADER + "1,2,high,0.5,1\n", "line 2: accuracy is 'high', expected a number"),
        (HEADER + "1,2,1.5,0.5,1\n", "line 2: accuracy is 1.5"),
        (HEADER + '1,2,"0.5"x,0.5,1\n', "line 2 is damaged"),
        (HEADER + "1,2," + "9" * 200_000 + ",0.5,1\n", "line 2 is damaged: field larger"),
        ("\x89PNG\r\n\x1a\n\0\0", "metrics.csv, line "),
    ],
)
def test_metrics_of_something_else(tmp_path, text, message):
    (tmp_path / "metrics.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message) as caught:
        read_metrics(tmp_path)
    assert "metrics.csv" in str(caught.value)


def test_metrics_before_the_first_epoch_and_with_other_columns(tmp_path):
    assert read_metrics(tmp_path) == []
    (tmp_path / "metrics.csv").write_text(HEADER.replace("loss", "of_the_future"))
    assert read_metrics(tmp_path) == []
    (tmp_path / "metrics.csv").write_text(HEADER + "1,2,0.5,1.0000000000000002,1\n")
    (row,) = read_metrics(tmp_path)  # as scikit-learn may round a perfect mAP
    assert row["epoch"] == 1 and row["mAP"] > 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "predictions.csv is empty"),
        ("epoch,loss\n1,2\n", "line 1: the columns are epoch, loss, expected clip, target"),
        ("clip,target,dog,dog\n", "line 1: the columns"),
        (PREDICTIONS + "a.wav,dog,0.5\n", "line 2 is damaged: 3 cells, expected 4"),
        (PREDICTIONS + "a.wav,dog,0.5,0.", "line 2 is damaged: its end"),
        (PREDICTIONS + "a.wav,dog,nan,0.5\n", "line 2: dog is nan"),
        (PREDICTIONS + "a.wav,dog,0.5,2\n", "line 2: rain is 2.0"),
        (PREDICTIONS + "a.wav,cat,0.5,0.5\n", "line 2: target is 'cat'"),
    ],
)
def test_predictions_of_something_else(tmp_path, text, message):
    (tmp_path / "predictions.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_predictions(tmp_path / "predictions.csv")


def test_predictions_of_given_classes_have_one_a_clip(tmp_path):
    file = tmp_path / "predictions.csv"
    file.write_text(PREDICTIONS + "a.wav,dog,0.5,0.5\nb.wav,dog|rain,1,1\n")
    assert count_classes(tmp_path) == 2
    assert len(read_predictions(file)) == 2
    with pytest.raises(ValueError, match=r"line 3: target is 'dog\|rain'"):
        read_predictions(file, ("dog", "rain"))
    with pytest.raises(ValueError, match="line 1: the columns are not of the classes dog, cat"):
        read_predictions(file, ("dog", "cat"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "is of version 2, and this program reads up to 1"),
        ({"version": "1"}, "version is '1'"),
        ({"validation_split": None}, "validation_split is None"),
        ({"clips": {"validation": 0}}, "clips: validation is 0"),
        ({"chance": 7}, "chance is 7"),
        ({"validation": {}}, "validation lacks the field last"),
        ({"validation": {"last": {"accuracy": 0.5}}}, "validation, last lacks the field mAP"),
        ({"validation": {"last": {**SCORES, "f1": None}}}, "validation, last: f1 is None"),
        ({"validation": {"last": {**SCORES, "AUC": -1}}}, "validation, last: AUC is -1"),
        ({"validation": {"last": SCORES, "best": []}}, r"validation: best is \[\]"),
        ({"test": {"last": SCORES}}, "test lacks the field best"),
        ({"test": None}, "test is None"),
    ],
)
def test_results_of_something_else(tmp_path, change, message):
    content = {"version": 1, "validation_split": "fold 1", "validation": {"last": SCORES}}
    write_json(tmp_path / "results.json", content)
    assert read_results(tmp_path) == content
    write_json(tmp_path / "results.json", content | change)
    with pytest.raises(ValueError, match=rf"results\.json.*{message}"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 9}, "is of version 9"),
        ({"fold": "1"}, "fold is '1'"),
        ({"fold": True}, "fold is True"),
        ({"clips": 3}, "clips is 3"),
        ({"precision": "fp8"}, "precision is 'fp8', expected one of auto, fp32"),
    ],
)
def test_a_record_of_something_else(tmp_path, recipe, change, message):
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps({"recipe": recipe.to_json(), "fold": 1} | change))
    with pytest.raises(ValueError, match=rf"recipe\.json.*{message}"):
        read_recipe(file)


@pytest.mark.parametrize("name", ["esc50", "my run", "Übung+x-1_2.0", "a" * 100])
def test_names_that_a_folder_can_have(name):
    assert folder_name(name, "recipe") == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "..", "../x", "/x", "a/b", "a\\b", "C:x", "CON", "nul.txt", "a" * 101, "ü" * 51),
        *("a\0b", "\ud800", "a\nb", "\x1b[2J", "-x", ".hidden", "a.", "a ", "a?", "a*b"),
    ],
)
def test_names_that_lead_elsewhere_or_cannot_be(name):
    with pytest.raises(ValueError, match=r"recipe '.* cannot name a folder: use up to 100"):
        folder_name(name, "recipe")
