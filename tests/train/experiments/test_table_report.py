"""A table's report: from finished runs alone, and no claim that the runs do not support."""

import csv
from dataclasses import asdict, replace

import pytest
from matplotlib.image import imread
from scipy import stats

from data.files import write_json
from train.experiments import table_report as module
from train.experiments.cost import Cost
from train.experiments.table import Row, Table
from train.experiments.table_report import write_report

TABLE = Table(
    "rate",
    "Learning rate",
    (
        Row("low", {"learning_rate": 1e-4}, balanced=0.1, full=0.2),
        Row("middle", {"learning_rate": 1e-3}, balanced=0.3),
        Row("high", {"learning_rate": 1e-2}),
    ),
    "low",
)
SCORES = {"low": (0.50, 0.52, 0.51), "middle": (0.50, 0.53, 0.50), "high": (0.60, 0.63, 0.60)}
COST = Cost(12, 5_000_000, 2_500_000_000, "a chip", "fp32", 8, 10.0, 10**9, 30.0, 5 * 10**8)


@pytest.fixture
def recipes(recipe):
    return TABLE.recipes(recipe)


@pytest.fixture
def measured(monkeypatch):
    """The calls of `measure`, which measures nothing."""
    calls = []

    def measure(recipe, num_classes, batch_size, device):
        calls.append((recipe.learning_rate, num_classes, batch_size))
        return replace(COST, batch_size=batch_size)

    monkeypatch.setattr(module, "measure", measure)
    return calls


@pytest.fixture
def out(recipes, fake_run, tmp_path, measured):
    """Three rows of three seeds."""
    for name, scores in SCORES.items():
        for seed, score in enumerate(scores):
            run = tmp_path / name / f"seed{seed}" / "fold1"
            fake_run(run, score, replace(recipes[name], seed=seed))
    return tmp_path


def rows(text):
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    header, _, *body = lines
    # the two columns of one name: the score's interval, then the difference's
    header = [f"{name} 2" if name in header[:i] else name for i, name in enumerate(header)]
    return {row[0]: dict(zip(header, row, strict=True)) for row in body}


def test_rows_have_scores_differences_costs_and_the_papers_figures(recipes, out):
    table = rows(write_report(TABLE, recipes, out))
    low, middle, high = table["low"], table["middle"], table["high"]
    assert (low["accuracy (%)"], low["difference"], low["runs"]) == (
        "51.00 ± 1.00",
        "reference",
        "3",
    )
    assert low["95 % interval"] == "48.52 to 53.48"  # 51 ± 4.3027 * 1 / sqrt(3)
    assert (middle["difference"], high["difference"]) == ("+0.00", "+10.00")
    assert high["95 % interval 2"] == "+7.52 to +12.48"
    assert (high["p"], high["corrected p"], middle["corrected p"]) == ("0.003", "0.007", "1.000")
    assert high["corrected"] == "+6.42 to +13.58"  # 97.5 %: 10 ± 6.2053 * 1 / sqrt(3)
    assert (low["patches"], low["GFLOPs"], low["training GB"]) == ("12", "2.50", "1.00")
    assert low["paper: AudioSet balanced mAP"] == "0.100"
    assert (middle["paper: AudioSet full mAP"], high["paper: AudioSet full mAP"]) == ("-", "-")


def test_it_says_where_no_difference_was_shown(recipes, out):
    text = write_report(TABLE, recipes, out)
    assert "what the data chose" not in text
    assert (
        "- middle against low: the corrected interval covers zero: no difference was shown; its "
        "variance is of the seeds alone, as that of the clips is not known; 100 times as many "
        "would not show one as small as this."
    ) in text
    assert "- high against low: the corrected interval does not cover zero: higher; its" in text
    assert "of the chance of the seeds alone: the clips scored are taken as they are." in text
    assert "paired by fold, seed and clip; corrected: for 2 comparisons, after Holm." in text
    assert "over fold 1 and seeds 0, 1, 2." in text
    assert "accuracy on the validation split, final checkpoint" in text


def test_it_leaves_markdown_csv_and_a_plot(recipes, out):
    text = write_report(TABLE, recipes, out)
    assert (out / "table.md").read_text(encoding="utf-8") == text
    with (out / "table.csv").open() as file:
        low, _, high = csv.DictReader(file)
    assert (low["row"], low["difference"], low["runs"]) == ("low", "", "3")
    assert float(high["difference"]) == pytest.approx(0.1)
    assert float(high["corrected_p"]) == pytest.approx(2 * float(high["p"]))
    assert float(high["corrected_low"]) < float(high["difference_low"]) < 0.1
    assert float(high["score_sd"]) == pytest.approx(0.0173, abs=1e-4)
    assert float(high["flops"]) == COST.flops
    assert imread(out / "table.png").shape[0] > 300


@pytest.fixture
def predicted(recipes, fake_run, tmp_path, measured):
    """Two rows of three seeds whose clips are known: what b lacks, it lacks with each seed."""
    for name, wrong in {"low": (), "high": ("s0-0", "s0-1", "s1-0", "s3-0", "s3-1")}.items():
        for seed in range(3):
            run, lines = tmp_path / name / f"seed{seed}" / "fold1", []
            for clip in (f"s{speaker}-{number}" for speaker in range(6) for number in range(4)):
                is_wrong = clip in wrong or clip == f"s5-{seed}"
                lines.append(f"{clip}.wav,a,{'0.1,0.9' if is_wrong else '0.9,0.1'},0")
            score = sum(",a,0.9" in line for line in lines) / len(lines)
            fake_run(run, score, replace(recipes[name], seed=seed, group_column="speaker"))
            (run / "predictions.csv").write_text("\n".join(["clip,target,a,b,c", *lines, ""]))
    clips = [f"s{speaker}-{number}.wav" for speaker in range(6) for number in range(4)]
    rows = "".join(f"{clip},{clip.partition('-')[0]}\n" for clip in clips)
    (tmp_path / "groups.csv").write_text(f"clip,group\n{rows}")
    return tmp_path


def test_the_clips_scored_are_a_chance_of_their_own(recipes, predicted):
    table = TABLE.select(["low", "high"], None)
    of_speakers = {n: replace(recipe, group_column="speaker") for n, recipe in recipes.items()}
    text = write_report(table, of_speakers, predicted)
    assert "chance of the seeds and of the 6 speakers scored (jackknife over the speakers" in text
    assert "; its variance is 100% of the speakers, 0% of " in text
    assert "times the speakers would show one as large as this in 4 of 5 tables." in text
    with (predicted / "table.csv").open() as file:
        _, high = csv.DictReader(file)
    means = [-0.5, -0.25, 0, -0.5, 0, 0]  # of the speakers: the seeds' differences are all equal
    expected = stats.ttest_1samp(means, 0)
    interval = tuple(expected.confidence_interval())
    assert (float(high["difference_low"]), float(high["difference_high"])) == pytest.approx(
        interval
    )
    assert float(high["p"]) == pytest.approx(expected.pvalue)
    assert (high["groups_of_clips"], float(high["variance_of_runs"])) == ("6", pytest.approx(0))

    (predicted / "groups.csv").unlink()
    text = write_report(table, of_speakers, predicted)
    assert "of the seeds and of the clips scored (jackknife over the clips" in text
    assert rows(text)["high"]["95 % interval 2"] != "-"


def test_costs_are_measured_once_and_again_for_another_batch(recipes, out, measured):
    write_report(TABLE, recipes, out)
    assert measured == [(rate, 3, 8) for rate in (1e-4, 1e-3, 1e-2)]
    write_report(TABLE, recipes, out)
    write_report(TABLE, recipes, out, cost_batch=8)
    assert len(measured) == 3
    assert "batches of 4 on a chip, fp32" in write_report(TABLE, recipes, out, cost_batch=4)
    assert len(measured) == 6
    (out / "low" / "cost.json").write_text("{}")
    with pytest.raises(ValueError, match=r"cost\.json holds no measured cost"):
        write_report(TABLE, recipes, out)


def test_a_run_without_predictions_is_tabulated(recipes, out, measured):
    text = write_report(TABLE, recipes, out)
    for file in out.rglob("predictions.csv"):
        file.unlink()
    assert rows(write_report(TABLE, recipes, out)).keys() == rows(text).keys()


def test_an_interval_is_drawn_around_the_difference_of_the_same_seeds(
    recipes, fake_run, out, monkeypatch
):
    """A row that lacks a seed in which the reference is poor is not drawn above it."""
    drawn = []
    monkeypatch.setattr(module, "score_against_cost", lambda points, *_: drawn.append(points))
    for seed, (low, high) in enumerate([(0.80, 0.805), (0.81, 0.812), (0.82, 0.827), (0.5, None)]):
        for name, score in (("low", low), ("high", high)):
            run = out / name / f"seed{seed}" / "fold1"
            fake_run(run, score, replace(recipes[name], seed=seed))
    write_report(TABLE.select(["low", "high"], None), recipes, out)
    _, line, _ = drawn[0]["low (reference)"]
    _, middle, half = drawn[0]["high"]
    assert middle - half < line < middle + half
    assert middle - line == pytest.approx(100 * (0.005 + 0.002 + 0.007) / 3)


def test_what_makes_rows_hard_to_compare_is_said(recipes, fake_run, out):
    write_json(out / "low" / "cost.json", asdict(replace(COST, device="another chip")))
    bf16 = replace(recipes["high"], seed=3, precision="bf16")
    auto = {name: replace(recipe, precision="auto") for name, recipe in recipes.items()}
    fake_run(out / "high" / "seed3" / "fold1", 0.6, bf16)
    fake_run(out / "middle" / "seed3" / "fold1", None, replace(recipes["middle"], seed=3))
    text = write_report(TABLE, auto, out)
    assert "measured on different devices" in text
    assert "Runs differ in precision (bf16, fp32)." in text
    assert "not finished, so not counted: 1 of middle." in text


def test_what_was_chosen_otherwise_for_a_row_is_said(recipes, fake_run, out):
    chosen = replace(recipes["high"], num_frames=60)
    for seed in range(3):
        run = out / "high" / f"seed{seed}" / "fold1"
        fake_run(run, 0.6, replace(chosen, seed=seed))
    text = write_report(TABLE, recipes | {"high": chosen}, out)
    assert "otherwise than for low: high (num_frames 60)." in text


def test_a_row_that_was_not_run_is_no_claim(recipes, out):
    for run in (out / "high").glob("seed*/fold1/results.json"):
        run.unlink()
    text = write_report(TABLE, recipes, out)
    assert "- high: not run." in text
    assert rows(text)["high"]["accuracy (%)"] == "not run"


def test_without_the_reference_nothing_is_compared(recipes, out):
    for run in (out / "low").glob("seed*/fold1/results.json"):
        run.unlink()
    text = write_report(TABLE, recipes, out)
    assert "- high against low: 0 pairs of runs, too few to tell." in text
    assert rows(text)["high"]["difference"] == "-"


def test_runs_that_are_not_of_the_table_are_refused(recipe, recipes, fake_run, out):
    with pytest.raises(ValueError, match="has no finished run of table rate; run it first"):
        write_report(TABLE, recipes, out / "elsewhere")
    run = out / "low" / "seed0" / "fold1"
    fake_run(run, 0.5, recipes["low"], clips="others")
    with pytest.raises(ValueError, match="not of the same data"):
        write_report(TABLE, recipes, out)
    fake_run(run, 0.5, replace(recipes["low"], epochs=9))
    with pytest.raises(ValueError, match=r"holds a run of another recipe \(epochs 9 -> 2\)"):
        write_report(TABLE, recipes, out)
    (run / "recipe.json").write_text('{"recipe": {"epochs": 2}, "fold": 1}')
    with pytest.raises(ValueError, match=r"recipe\.json is not a recipe"):
        write_report(TABLE, recipes, out)
