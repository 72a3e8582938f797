"""The model card: what it claims, what it must not tell, and that names cannot break it."""

import json
import re

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import weights
from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig
from ast_model.baseline import Baseline, BaselineConfig
from weights.card import UNTRAINED, Score, model_card

huggingface_hub = pytest.importorskip("huggingface_hub", reason="pip install ast-audio[hf]")

CLASSES = ("dog", "rain", "sea waves")
RECIPE = {"name": "mine", "corpus": "esc50", "init_from": "scratch", "stride": [10, 10]}
SCORE = Score(
    {"accuracy": 0.95, "loss": 1e-5}, "esc50", "fold 2 (validation split)", 400, "Last epoch."
)


@pytest.fixture
def classifier(tiny):
    """`classifier(classes, window, multi_label, padding, hearing, **changes of the network)`."""

    def make(
        classes=CLASSES,
        window="hanning",
        multi_label=False,
        padding="zeros",
        hearing=None,
        **changes,
    ):
        fields = {"window": window, "mean": -5.5, "std": 3.0, "padding": padding}
        config = FrontendConfig(64, **fields, **hearing or {})
        frontend = Frontend(config)
        return AudioClassifier(tiny(**changes), frontend, classes, multi_label).eval()

    return make


def metadata(card, tmp_path):
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    return huggingface_hub.metadata_load(tmp_path / "README.md")


def test_the_hub_reads_task_library_and_score(classifier, tmp_path):
    content = metadata(model_card(classifier(), "mine", recipe=RECIPE, score=SCORE), tmp_path)
    assert content["library_name"] == "transformers"
    assert content["pipeline_tag"] == "audio-classification"
    assert content["tags"] == ["audio-spectrogram-transformer"]
    results = huggingface_hub.ModelCard.load(tmp_path / "README.md").data.eval_results
    assert [(r.metric_type, r.metric_value) for r in results] == [
        ("accuracy", 0.95),
        ("loss", 1e-5),
    ]
    for result in results:
        assert (result.dataset_name, result.dataset_type) == ("esc50", "esc50")
        assert result.dataset_split == "fold 2 (validation split)"
        assert result.task_type == "audio-classification"


def test_the_text_tells_architecture_recipe_and_score(classifier):
    card = model_card(classifier(), "mine", recipe=RECIPE, score=SCORE)
    for row in (
        "| size | width 24, 2 blocks of 3 heads |",
        "| frames | 64 = 0.64 s |",
        "| stride (frequency x time) | 10 x 10 |",
        "| patches (frequency x time) | 12 x 5 |",
        "| sample rate | 16000 Hz |",
        "| mel edges | 20, 8000 Hz |",
        "| window | hanning |",
        "| mean, std | -5.5, 3.0 |",
        "| classes | 3, one a clip: dog; rain; sea waves |",
        "| accuracy | 0.9500 |",
    ):
        assert row in card
    assert "esc50, fold 2 (validation split), 400 clips. Last epoch." in card
    assert "Trained on esc50, starting from scratch." in card
    assert json.loads(re.search(r"```json\n(.*?)\n```", card, re.DOTALL)[1]) == RECIPE


def test_an_encoder_that_was_pretrained_without_labels_is_no_classifier(classifier, tmp_path):
    encoder = classifier(UNTRAINED, num_classes=1)
    card = model_card(encoder, "mine", recipe=RECIPE | {"method": "mae"}, score=SCORE)
    assert metadata(card, tmp_path)["pipeline_tag"] == "feature-extraction"
    assert "pretrained without labels. Its head is not trained" in " ".join(card.split())
    assert "| classes | none: the head is not trained |" in card
    assert "--init-from FOLDER" in card
    assert "classify(" not in card
    assert "logits" not in card
    waveform = torch.randn(16_000)
    assert f"({len(encoder.embed(waveform))},)" in card


def test_a_classifier_of_one_class_is_no_pretrained_encoder(classifier):
    assert "pretrained without labels" not in model_card(classifier(("a",), num_classes=1), "mine")


def test_a_published_size_is_named_and_many_classes_are_cut(classifier):
    names = [f"class {index}" for index in range(20)]
    sizes = {"width": 192, "depth": 12, "heads": 3, "num_classes": 20}
    card = model_card(classifier(names, multi_label=True, **sizes), "mine")
    assert "| size | tiny (width 192, 12 blocks of 3 heads) |" in card
    assert "| classes | 20, several a clip: class 0; " in card and "class 9; … |" in card


def test_what_is_not_known_is_not_claimed(classifier, tmp_path):
    card = model_card(classifier(), "mine")
    assert "No score is recorded." in card and "How it was trained is not recorded." in card
    assert "model-index" not in metadata(card, tmp_path)


def test_requests_of_the_conversion_are_told(classifier):
    card = model_card(classifier(), "mine", "owner/model@v1", {"num_classes": 3, "stride": (8, 9)})
    assert "Converted from owner/model@v1." in card
    assert "num\\_classes 3, stride (8, 9). Where the original had another" in card


@pytest.mark.parametrize(
    "path", ["/home/me/secret/x.pth", "~/secret/x.pth", "../secret/a/x.pth", "C:\\secret\\x.pth"]
)
def test_of_a_local_path_only_the_last_part_is_told(classifier, path):
    recipe = {**RECIPE, "init_from": path, "files": [path]}
    card = model_card(classifier(), "mine", path, recipe=recipe)
    assert "Converted from x.pth." in card and "starting from x.pth." in card
    assert "secret" not in card


def test_a_hub_id_is_told_whole(classifier):
    card = model_card(classifier(), "mine", recipe={**RECIPE, "init_from": "MIT/ast-10"})
    assert "starting from MIT/ast-10." in card and '"init_from": "MIT/ast-10"' in card


def test_a_model_that_transformers_cannot_run_is_not_offered_to_it(classifier, tmp_path):
    card = model_card(classifier(distilled=False), "mine")
    assert metadata(card, tmp_path)["library_name"] == "ast-audio"
    assert "import AST" not in card
    assert "cannot run this model, which has no DIST token: its AST has square patches" in card


@pytest.mark.parametrize(
    ("window", "hearing", "differ"),
    [
        ("hanning", {}, False),
        ("hamming", {}, True),
        ("hanning", {"sample_rate": 32_000}, False),
        ("hanning", {"sample_rate": 32_000, "low_freq": 50.0, "high_freq": 14e3}, True),
    ],
)
def test_the_lines_of_use_run_and_both_give_the_same_logits(
    classifier, tmp_path, window, hearing, differ
):
    pytest.importorskip("transformers", reason="pip install ast-audio[hf]")
    ours = classifier(window=window, hearing=hearing)
    card = model_card(ours, "mine")
    weights.save(tmp_path / "model", ours, card)
    waveform = torch.randn(24_000, generator=torch.Generator().manual_seed(0)) / 10
    scope = {"waveform": waveform}
    lines = re.findall(r"```python\n(.*?)\n```", card, re.DOTALL)
    assert len(lines) == 2
    for text in lines:
        text = text.replace("FOLDER", str(tmp_path / "model"))
        text = text.replace('"clip.wav"', "waveform")
        exec(text, scope)
    with torch.no_grad():
        assert torch.allclose(scope["logits"], ours(waveform[None]), rtol=1e-4, atol=1e-4)
    assert ("differ" in card) == differ


def test_the_card_says_what_their_extractor_lacks_of_the_front_end(classifier):
    hearing = {"sample_rate": 32_000, "low_freq": 50.0, "high_freq": 14e3}
    card = " ".join(model_card(classifier(window="hamming", hearing=hearing), "mine").split())
    assert "| mel bins | 128 | | mel edges | 50, 14000 Hz |" in card
    assert (
        "`ASTFeatureExtractor` has no hamming window and no lower mel edge of 50 Hz and no upper "
        "mel edge of 14000 Hz, which this model was trained with" in card
    )
    assert "torchaudio" not in card
    card = model_card(classifier(hearing={"sample_rate": 8_000}), "mine")
    assert "This needs `torchaudio` beside `transformers`" in card
    assert "torchaudio" not in model_card(classifier(), "mine")


names = st.text(min_size=1) | st.sampled_from(
    [
        "```",
        "---",
        "a\n---\nb: c",
        "x | y",
        "<script>",
        "[a](b)",
        '"quoted" \\',
        "{}",
        "😀",
        "\ud800",
    ]
)


@given(names, names, names, names)
def test_no_name_breaks_the_card(name, clazz, corpus, metric):
    frontend = Frontend(FrontendConfig(64))
    model = AST(ASTConfig(num_classes=1, num_frames=64, width=4, heads=1, depth=1))
    recipe = {"name": name, "corpus": corpus, "init_from": clazz}
    card = model_card(
        AudioClassifier(model, frontend, [clazz]),
        name,
        clazz,
        recipe=recipe,
        score=Score({metric: 0.5}, corpus, name),
    )
    card.encode()
    assert card.splitlines() == card.split("\n")[:-1]
    _, front, text = card.split("---\n", 2)
    (index,) = yaml.safe_load(front)["model-index"]
    assert index["name"] == " ".join("".join(c if c.isprintable() else " " for c in name).split())
    assert [m["value"] for m in index["results"][0]["metrics"]] == [0.5]
    assert sum(line.startswith("#") for line in text.splitlines()) == 4
    assert sum(line.startswith("```") for line in text.splitlines()) == 6
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 3 for row in rows)
    assert not re.search(r"(?<!\\)(?:\\\\)*[<\[]", text.split("```json")[0])


def test_a_model_that_pads_with_silence_agrees_with_transformers_as_its_card_says(
    classifier, tmp_path, caplog
):
    transformers = pytest.importorskip("transformers")
    ours = classifier(padding="silence")
    card = model_card(ours, "mine")
    assert f"shorter than {ours.window_size} samples has to be padded with zeros" in card
    assert "| after short clips | silence |" in card
    ours.save_pretrained(tmp_path / "model")
    assert f"padded with zeros to {ours.window_size} samples" in caplog.text
    extractor = transformers.ASTFeatureExtractor.from_pretrained(tmp_path / "model")
    clip = 0.1 * torch.randn(3_000, generator=torch.Generator().manual_seed(0))

    def theirs(waveform):
        found = extractor(waveform.numpy(), sampling_rate=16_000, return_tensors="pt")
        return found.input_values[0]

    padded = torch.nn.functional.pad(clip - clip.mean(), (0, ours.window_size - len(clip)))
    assert (theirs(padded) - ours.frontend(padded[None])[0]).abs().max() < 1e-3
    inside = 1 + (len(clip) - 400) // 160  # frames before the edge, where the two differ by nature
    edge = inside + 3
    short = ours.frontend(clip[None])[0]
    assert (theirs(padded)[:inside] - short[:inside]).abs().max() < 1e-3
    assert (theirs(padded)[edge:] - short[edge:]).abs().max() < 1e-3
    assert (theirs(clip)[edge:] - short[edge:]).abs().max() > 0.5


def test_the_card_of_a_baseline_says_what_it_is(tmp_path):
    model = Baseline(BaselineConfig("efficientnet_lite0", 3, 64, 128)).eval()
    card = model_card(AudioClassifier(model, Frontend(FrontendConfig(64)), CLASSES), "mine")
    assert "An image model of timm, efficientnet\\_lite0," in card
    assert "patch (frequency" not in card and "| mel bins | 128 |" in card
    assert "cannot run this model, which has timm's efficientnet_lite0" in card
    assert metadata(card, tmp_path)["tags"] == ["timm-image-model"]
