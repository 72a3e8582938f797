"""`report` and its command: one file that is whole, safe to open, and says what the run does."""

import base64
import hashlib
import io
import json
import shutil
from pathlib import Path

import pytest
import soundfile
from PIL import Image

from data import load_audio
from tests.train.report.conftest import decoded
from train.experiments import tables
from train.pretraining.recipe import PretrainingRecipe
from train.report import write_report
from train.report.mistakes import mp3
from train.report.tables import _parse

RESULTS = Path(tables.__file__).parent / "results"
SECTIONS = ["curves", "scores", "confusions", "classes", "calibration", "mistakes", "repeat"]
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><b>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "\u202eevil\u0000",
]


def assert_whole_and_harmless(page, most=10_000_000):
    """Nothing runs, nothing is asked of another host, and every picture is described."""
    assert not page.all("script", "iframe", "object", "embed", "link", "base", "form")
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on") or name == "style"], (
            tag,
            attrs,
        )
        for name in ("src", "href", "srcset", "action", "data", "xlink:href"):
            value = attrs.get(name, "#")
            assert value.startswith(("#", "data:")), (tag, value[:60])
    assert "url(" not in page.style
    assert "@import" not in page.style
    assert all(attrs.get("alt") for attrs in page.all("img"))
    assert all("aria-label" in a or a.get("aria-hidden") == "true" for a in page.all("svg"))
    assert all(attrs["aria-label"] for attrs in page.all("audio"))
    assert len(page.ids) == len({*page.ids})
    links = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    assert {*links} <= {*page.ids}
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert not page.open


def test_a_run_with_its_data_is_a_whole_page(
    run_command, run_folder, corpus_folder, tmp_path, read_page
):
    out = tmp_path / "report.html"
    words = ("report", run_folder, "--out", out, "--data", corpus_folder, "--mistakes", "3")
    code, said, err = run_command(*words, "--device", "cpu")
    assert code == 0, err
    assert said.endswith(f"wrote {out}: {out.stat().st_size / 1e6:.1f} MB\n")
    page = read_page(out)
    assert_whole_and_harmless(page)
    assert [*SECTIONS, "environment"] == page.ids
    results = json.loads((run_folder / "results.json").read_text())
    score = results["validation"]["last"]["accuracy"]
    assert (
        f"{100 * score:.1f}\xa0% accuracy on fold 2 (8 clips), model: last (epoch 1)" in page.text
    )
    assert "torch" in page.text
    assert "ast-audio train recipe.json --data FOLDER --out NEW" in page.text
    assert "epochs: 40 → 1" in page.text
    link = next(attrs for attrs in page.all("a") if attrs.get("download") == "recipe.json")
    stored = json.loads((run_folder / "recipe.json").read_text())
    assert json.loads(decoded(link["href"], "application/json")) == stored
    images = [attrs for attrs in page.all("img") if attrs["alt"].startswith("Spectrogram and, ")]
    assert len(images) == len(page.all("audio")) == 3
    for sound, image in zip(page.all("audio"), images, strict=True):
        samples, rate = soundfile.read(io.BytesIO(decoded(sound["src"], "audio/mpeg")))
        assert (samples.ndim, rate) == (1, 16_000)
        assert len(samples) / rate == pytest.approx(0.65, abs=0.15)  # the model's window
        picture = Image.open(io.BytesIO(decoded(image["src"], "image/png")))
        assert picture.width > 500


def test_without_data_a_page_has_no_sounds_and_says_so(run_folder, tmp_path, read_page):
    out = tmp_path / "new" / "report.html"
    (note,) = write_report(run_folder, out)
    assert "without --data" in note
    page = read_page(out)
    assert note in page.text
    assert not page.all("audio", "img")
    assert "mistakes" in page.ids
    write_report(run_folder, out, mistakes=0)  # our own page is replaced


def test_a_clip_that_is_gone_is_named_and_the_page_comes(
    run_folder, corpus_folder, tmp_path, read_page
):
    data = tmp_path / "data"
    shutil.copytree(corpus_folder, data)
    out = tmp_path / "report.html"
    write_report(run_folder, out, data=data, mistakes=2, device="cpu")
    shown = {a["aria-label"].removeprefix("Recording ") for a in read_page(out).all("audio")}
    lost = next(file for file in sorted(data.rglob("*.wav")) if file.name in shown)
    lost.write_bytes(b"no sound")
    (note,) = write_report(run_folder, out, data=data, mistakes=2, device="cpu")
    assert note.startswith(f"1 of {len(shown)} mistakes")
    page = read_page(out)
    assert len(page.all("audio")) == len(shown) - 1
    assert "Its file is gone or cannot be read." in page.text


def test_media_beyond_the_budget_are_left_out(
    run_folder, corpus_folder, tmp_path, read_page, monkeypatch
):
    monkeypatch.setattr("train.report.write.MOST_MEDIA", 60_000)
    out = tmp_path / "report.html"
    (note,) = write_report(run_folder, out, data=corpus_folder, mistakes=4, device="cpu")
    assert "cannot be heard" in note
    assert "too large" in read_page(out).text
    assert len(read_page(out).all("audio")) < 4
    monkeypatch.setattr("train.report.write.MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="show fewer mistakes"):
        write_report(run_folder, out)


def test_other_data_is_refused(fails, run_folder, corpus_folder, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(corpus_folder, data)
    table = next(data.rglob("*.csv"))
    first, *rows = table.read_text().splitlines()
    table.write_text("\n".join([first, *rows[1:], ""]))
    out = tmp_path / "report.html"
    assert "other clips" in fails("report", run_folder, "--out", out, "--data", data)
    assert not out.exists()


def test_names_of_others_are_text(scored_run, tmp_path, read_page):
    classes = [name.replace("\0", "") for name in HOSTILE]
    rows = [
        [f"{HOSTILE[0]}{n}.wav", classes[n], *(0.9 if n + 1 == m else 0.02 for m in range(6))]
        for n in range(5)
    ]
    run = scored_run(tmp_path / "run", classes, rows, name=HOSTILE[1])
    write_report(run, tmp_path / "report.html")
    page = read_page(tmp_path / "report.html")
    assert_whole_and_harmless(page)
    for name in classes:
        assert name in page.text
    assert "49" not in page.text.partition("Repeat it")[0]


def test_an_unfinished_run_says_how_far_it_is(scored_run, tmp_path, read_page):
    run = scored_run(tmp_path / "run", ["a", "b"], [["1.wav", "a", 1, 0]])
    (run / "results.json").unlink()
    (note,) = write_report(run, tmp_path / "report.html")
    assert note.startswith("This run is not finished: 2 of 2 epochs")
    page = read_page(tmp_path / "report.html")
    assert_whole_and_harmless(page)
    assert page.ids == ["curves", "repeat", "environment"]


def test_a_run_of_several_classes_a_clip_has_no_confusions(scored_run, tmp_path, read_page):
    rows = [["1.wav", "a|b", 0.9, 0.8, 0.1], ["2.wav", "c", 0.7, 0.1, 0.2], ["3.wav", "", 0, 0, 0]]
    write_report(scored_run(tmp_path / "run", list("abc"), rows), tmp_path / "report.html")
    page = read_page(tmp_path / "report.html")
    assert "confusions" not in page.ids
    assert "every class above one half" in page.text
    assert "c taken for a" in page.text
    assert "no class taken for a" in page.text


def test_a_cross_validation_shows_its_folds(scored_run, tmp_path, read_page):
    for fold in (1, 2, 10):
        rows = [[f"{fold}.wav", "a", 0.9, 0.1], ["x.wav", "b", 0.8, 0.2]]
        scored_run(tmp_path / "cv" / f"fold{fold}", ["a", "b"], rows, fold)
    (tmp_path / "cv" / "fold10" / "results.json").unlink()
    notes = write_report(tmp_path / "cv", tmp_path / "report.html")
    assert notes[0].startswith("fold 10 is not finished")
    page = read_page(tmp_path / "report.html")
    assert_whole_and_harmless(page)
    assert "50.0\xa0% ± 0.0 accuracy, mean ± standard deviation over 2 folds" in page.text
    assert "4 clips (folds 1, 2)" in page.text
    assert "--folds 1 2 10" in page.text
    assert "2 of 2 clips" in page.text  # the mistakes of both folds
    other = json.loads((tmp_path / "cv/fold1/recipe.json").read_text())
    other["recipe"]["epochs"] = 3
    (tmp_path / "cv/fold1/recipe.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="not folds of one"):
        write_report(tmp_path / "cv", tmp_path / "report.html")


def test_runs_that_are_no_folds_are_no_cross_validation(scored_run, tmp_path):
    rows = [["1.wav", "a", 0.9, 0.1], ["x.wav", "b", 0.8, 0.2]]
    for name in ("fold1", "fold1-again"):
        scored_run(tmp_path / "cv" / name, ["a", "b"], rows, 1)
    with pytest.raises(ValueError, match=r"cv/fold1 and .*cv/fold1-again are both of fold 1; move"):
        write_report(tmp_path / "cv", tmp_path / "report.html")
    scored_run(tmp_path / "runs" / "from_scratch", ["a", "b"], rows, None)
    with pytest.raises(
        ValueError, match=r"has no fold, so .*runs is no cross-validation; give the"
    ):
        write_report(tmp_path / "runs", tmp_path / "report.html")
    write_report(tmp_path / "runs" / "from_scratch", tmp_path / "report.html")


@pytest.fixture
def ablation(tmp_path, recipe, scored_run):
    """A table of two rows, tabulated."""
    from data.files import write_json

    folder = tmp_path / "ablation"
    for name in ("one", "two"):
        write_json(folder / name / "row.json", {"recipe": recipe.to_json(), "fold": None})
        scored_run(folder / name / "seed0" / "fold1", ["a", "b"], [["1.wav", "a", 1, 0]])
    text = ["### Sizes: demo, esc50", "", "| row | mAP (%) |", "| --- | --- |", "| one | 50.00 |"]
    text += ["| two | 40.00 |", "", "- two against one: lower.", "", "Intervals: 95 %. GFLOPs.", ""]
    (folder / "table.md").write_text("\n".join(text))
    Image.new("RGB", (8, 8)).save(folder / "table.png")
    return folder


def test_an_ablation_shows_its_table_plot_and_runs(ablation, tmp_path, read_page):
    assert write_report(ablation, tmp_path / "report.html") == []
    page = read_page(tmp_path / "report.html")
    assert_whole_and_harmless(page)
    for text in ("Sizes: demo, esc50", "50.00", "two against one: lower.", "one/seed0/fold1"):
        assert text in page.text
    assert "GFLOPs." in page.text
    (plot,) = page.all("img")
    assert decoded(plot["src"], "image/png").startswith(b"\x89PNG")
    assert plot["alt"].endswith(": one, 50.00 %; two, 40.00 %")
    names = [attrs["download"] for attrs in page.all("a") if "download" in attrs]
    assert names == ["one.json", "two.json"]
    (ablation / "table.png").write_bytes(b"<svg onload=alert(1)>")
    (note,) = write_report(ablation, tmp_path / "report.html")
    assert "Without the plot" in note


@pytest.mark.parametrize("damage", ["", "### only", "### a\n| a | b |\n| - | - |\n| c |\n", "\xff"])
def test_a_damaged_table_is_one_line(fails, ablation, tmp_path, damage):
    (ablation / "table.md").write_bytes(damage.encode("latin-1"))
    assert "table.md is not the table" in fails("report", ablation, "--out", tmp_path / "a.html")
    (ablation / "table.md").unlink()
    assert "tabulate the finished runs" in fails("report", ablation, "--out", tmp_path / "a.html")


def test_bad_input_is_one_line(fails, scored_run, run_folder, tmp_path, recipe):
    out = tmp_path / "report.html"

    def refusal(source, out=out, *words):
        return fails("report", source, "--out", out, *words)

    assert "does not exist" in refusal(tmp_path / "none")
    assert "is no run, cross-validation or ablation" in refusal(tmp_path)
    assert "is a folder" in refusal(run_folder, tmp_path)
    assert "ends in .html" in refusal(run_folder, tmp_path / "report.pdf")
    assert "use 0 to 50" in refusal(run_folder, out, "--mistakes", "51")
    out.write_text("<html>mine</html>")
    assert "exists and is no page of `report`" in refusal(run_folder)
    assert out.read_text() == "<html>mine</html>"
    out.unlink()
    run = scored_run(tmp_path / "run", ["a", "b"], [["1.wav", "a", 1, 0]])
    assert "nowhere" in refusal(run, out, "--data", tmp_path / "nowhere")
    (run / "predictions.csv").write_text("clip,target,a,b\n1.wav,c,1,0\n")
    assert "which is no class of the table" in refusal(run)
    (run / "predictions.csv").write_text("clip,target,a,b\n1.wav,a,1\n")
    assert "is damaged" in refusal(run)
    (run / "predictions.csv").unlink()
    assert "predictions.csv does not exist" in refusal(run)
    (run / "metrics.csv").unlink()
    assert "no finished epoch" in refusal(run)
    content = {"recipe": PretrainingRecipe(name="ssast", summary="").to_json(), "fold": None}
    (run / "recipe.json").write_text(json.dumps(content))
    assert "pretrained without labels" in refusal(run)
    assert not out.exists()


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 10_000, 96_000])
def test_sounds_of_any_rate_become_mp3(sounds, rate):
    waveform = 3 * load_audio(sounds / "a.wav", rate)  # louder than a file may be
    samples, found = soundfile.read(io.BytesIO(decoded(mp3(waveform, rate), "audio/mpeg")))
    assert found == {10_000: 11_025, 96_000: 48_000}.get(rate, rate)
    assert len(samples) / found == pytest.approx(10_000 / 16_000, abs=0.15)


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.md")), ids=lambda file: file.stem)
def test_tables_of_the_program_are_read_whole(file):
    title, cells, verdicts, reading = _parse(file)
    text = file.read_text(encoding="utf-8")
    assert text.startswith(f"### {title}\n")
    assert cells[0][0] == "row"
    assert len(cells) == text.count("\n| ") - 1
    assert len(verdicts) == text.count("\n- ") == len(cells) - 2  # but for the reference
    assert reading.startswith("Score: ")
