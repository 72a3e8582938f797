"""From predict's table over verdicts to training and thresholds, by the commands alone."""

import csv

import pytest

from train.inference.detections import detect


@pytest.fixture(scope="module")
def detected(model_folder, sounds, tmp_path_factory):
    table = tmp_path_factory.mktemp("detected") / "all.csv"
    detect(model_folder, sounds, table, top_k=3, device="cpu")
    return table


@pytest.fixture
def heard(detected, tmp_path, run_command):
    code, out, _ = run_command("segments", detected, "--out", tmp_path / "heard", "--pad", "0.1")
    assert code == 0 and "segments of 3 classes; fill in the column verdict" in out
    return tmp_path / "heard"


def judge(folder, verdict_of):
    with (folder / "segments.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        scores = sorted(float(each["score"]) for each in rows if each["label"] == row["label"])
        row["verdict"] = verdict_of(number, float(row["score"]) >= scores[len(scores) // 2])
    with (folder / "segments.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_verdicts_become_thresholds_that_predict_takes(
    heard, model_folder, sounds, tmp_path, run_command
):
    rows = judge(heard, lambda n, is_high: "yes" if is_high != (n % 7 == 0) else "no")
    code, out, _ = run_command(
        *("review", heard, "--precision", "0.6", "--thresholds-out", tmp_path / "t.csv")
    )
    assert code == 0 and "precision is that of the segments drawn" in out, out
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        classes = [row["class"] for row in csv.DictReader(file)]
    assert classes and set(classes) <= {row["label"] for row in rows}
    words = ("--format", "csv", "--threshold", tmp_path / "t.csv", "--classes", *classes)
    code, out, _ = run_command("predict", model_folder, sounds, *words, "--out", tmp_path / "o.csv")
    assert code == 0 and "detections" in out


def test_the_table_trains_as_it_is(model_folder, corpus_folder, tiny, tmp_path, run_command):
    detect(model_folder, corpus_folder, tmp_path / "all.csv", top_k=1, device="cpu")
    assert run_command("segments", tmp_path / "all.csv", "--out", tmp_path / "heard")[0] == 0
    judge(tmp_path / "heard", lambda n, is_high: ("yes", "yes", "yes", "dog", "no")[n % 5])
    words = ["--data", tmp_path / "heard" / "segments.csv", "--out", tmp_path / "run", *tiny]
    code, out, err = run_command("train", "demo", *words, "--corpus", "table")
    assert code == 0, err
    assert "segments with verdict yes," in out and (tmp_path / "run" / "results.json").is_file()


def test_bad_options_are_one_line(heard, detected, tmp_path, fails):
    out = ("--out", tmp_path / "new")
    assert "--per-class" in fails("segments", detected, *out, "--per-class", "0")
    assert "--pad" in fails("segments", detected, *out, "--pad", "-1")
    assert "no detection of 'cat'" in fails("segments", detected, *out, "--classes", "cat")
    assert "does not exist" in fails("segments", tmp_path / "none.csv", *out)
    assert "fill in the column verdict" in fails("review", heard)
    judge(heard, lambda n, is_high: "maybe")
    assert "line 2: verdict 'maybe'" in fails("review", heard)
    judge(heard, lambda n, is_high: "yes")
    wanted = fails("review", heard, "--thresholds-out", tmp_path / "t.csv")
    assert wanted == "--thresholds-out needs a wanted precision; add --precision 0.9"
    words = ("--precision", "0.9", "--thresholds-out", tmp_path / "t.csv")
    assert "no class has a threshold" in fails("review", heard, *words)
    assert not (tmp_path / "t.csv").exists()
    table = heard / "segments.csv"
    before = table.read_bytes()
    said = fails("review", heard, "--precision", "0.6", "--thresholds-out", table)
    assert "was not written by this command" in said
    assert table.read_bytes() == before
