"""What the classifier takes: files, arrays of any rate, lists and batches of them."""

import numpy as np
import pytest
import soundfile
import torch

from ast_model import AST, ASTConfig, AudioClassifier, Frontend, FrontendConfig

CLASSES = ("dog", "rain", "sea")


@pytest.fixture(scope="module")
def classifier():
    """Hears 64 frames: 10,480 samples, 0.655 s."""
    torch.manual_seed(0)
    config = ASTConfig(num_classes=3, num_frames=64, width=24, heads=3, depth=1)
    return AudioClassifier(AST(config).eval(), Frontend(FrontendConfig(num_frames=64)), CLASSES)


def noise(samples, *channels, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal((samples, *channels), np.float32)


def written(path, samples, sample_rate=16_000):
    soundfile.write(path, samples, sample_rate, subtype="FLOAT")
    return path


def test_a_file_that_is_to_be_in_memory_as_a_whole_may_not_last_days(
    classifier, tmp_path, monkeypatch
):
    path = written(tmp_path / "a.wav", noise(32_000))
    monkeypatch.setattr("data.audio.WHOLE_SECONDS", 1.0)
    for ask in (classifier.embed, classifier.attention_map):
        with pytest.raises(ValueError, match="lasts"):
            ask(path)
    assert len(classifier.timeline(path).starts)


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("seconds", [0.3, 2.5])
def test_a_file_is_its_samples_at_their_rate(classifier, tmp_path, rate, seconds):
    """A short clip is padded, a long one heard in windows."""
    samples = noise(int(seconds * rate))
    path = written(tmp_path / "a.wav", samples, rate)
    for ask in (
        lambda sound, rate: classifier.classify(sound, rate),
        lambda sound, rate: classifier.timeline(sound, rate).probabilities.tolist(),
        lambda sound, rate: classifier.embed(sound, rate).tolist(),
        lambda sound, rate: classifier.attention_map(sound, rate).tolist(),
    ):
        assert ask(path, None) == ask(str(path), 8_000) == ask(samples, rate)
        assert ask(samples, rate) == ask(torch.from_numpy(samples), rate)
    if rate != 16_000:
        assert classifier.classify(samples) != classifier.classify(samples, rate)


def test_an_array_without_a_rate_has_the_models(classifier):
    samples = noise(8_000)
    assert classifier.classify(samples) == classifier.classify(samples, sample_rate=16_000)


@pytest.mark.parametrize("rate", [8_000, 44_100])
@pytest.mark.parametrize("as_file", [True, False])
def test_resampling_is_told_once(classifier, tmp_path, caplog, rate, as_file):
    caplog.set_level("INFO")
    hearing = AudioClassifier(classifier.model, classifier.frontend, CLASSES)
    samples = noise(rate)
    sound = written(tmp_path / "a.wav", samples, rate) if as_file else samples
    hearing.classify(written(tmp_path / "same.wav", noise(16_000)))
    hearing.classify(samples, sample_rate=16_000)
    assert not caplog.messages
    hearing.classify([sound, sound], sample_rate=rate)
    hearing.embed(sound, sample_rate=rate)
    hearing.timeline(noise(40_000), sample_rate=22_050)
    assert caplog.messages == [
        f"sounds are resampled to the model's 16000 Hz, the first from {rate} Hz"
    ]


def test_the_channels_of_a_file_are_averaged(classifier, tmp_path):
    samples = noise(8_000, 2)
    path = written(tmp_path / "stereo.wav", samples)
    assert classifier.classify(path) == classifier.classify(samples.mean(axis=1))


def test_blocks_of_a_recording_are_resampled_as_the_whole(classifier):
    samples = noise(60_000)
    whole = classifier.timeline(samples, 44_100)
    in_blocks = classifier.timeline(np.split(samples, [10_000, 10_001, 45_000]), 44_100)
    assert torch.equal(whole.probabilities, in_blocks.probabilities)


@pytest.mark.parametrize("pad", [True, False])
def test_a_list_gives_one_result_each_in_batches(classifier, tmp_path, pad):
    sounds = [noise(samples, seed=samples) for samples in (9_000, 30_000, 5_000, 5_100, 60_000)]
    sounds += [written(tmp_path / "a.wav", noise(20_000), 44_100), torch.randn(3_000)]
    sizes = []
    with classifier.frontend.register_forward_hook(lambda *call: sizes.append(len(call[2]))):
        found = classifier.classify(sounds, 22_050, top_k=3, pad=pad)
    assert max(sizes) > 1
    for sound, scores in zip(sounds, found, strict=True):
        alone = classifier.classify(sound, 22_050, top_k=3, pad=pad)
        assert [name for name, _ in scores] == [name for name, _ in alone]
        expected = [probability for _, probability in alone]
        assert [probability for _, probability in scores] == pytest.approx(expected, rel=1e-4)


def test_a_rate_may_be_a_whole_number_of_any_type(classifier):
    samples = noise(9_000)
    assert classifier.classify(samples, np.int64(16_000)) == classifier.classify(samples)
    resampled = classifier.classify(samples, 44_100)
    assert classifier.classify(samples, 44_100.0) == resampled != classifier.classify(samples)


def test_an_empty_list_has_no_results(classifier):
    assert classifier.classify([]) == []
    for ask in (classifier.embed, classifier.attention_map):
        for sounds in ([], [noise(9_000), []]):
            with pytest.raises(ValueError, match="the list of sounds, or a sound in it, is empty"):
                ask(sounds)


def test_an_array_in_any_order_of_samples_and_bytes_is_taken(classifier):
    samples = noise(9_000)
    expected = classifier.classify(samples)
    assert classifier.classify(samples[::-1].copy()[::-1]) == expected
    assert classifier.classify(samples.astype(">f4")) == expected


def test_what_no_timeline_can_be_of_is_refused_without_its_content(classifier, tmp_path):
    path = written(tmp_path / "a.wav", noise(9_000))
    with path.open("rb") as file, pytest.raises(ValueError, match=r"^bytes is no waveform; give"):
        classifier.timeline(file)
    with pytest.raises(ValueError, match=r"Path is no waveform.*several recordings to classify"):
        classifier.timeline([path, path])


def test_samples_far_beyond_one_are_told_of_once(classifier, caplog):
    classifier = AudioClassifier(classifier.model, classifier.frontend, CLASSES)
    clip = noise(9_000)
    classifier.classify([clip / np.abs(clip).max() * 1.5])
    assert caplog.text == ""
    classifier.classify([clip * 32_768] * 2)
    assert "the model expects [-1, 1]: divide them by" in caplog.text
    assert len(caplog.messages) == 1


def test_embeddings_of_a_list_are_a_batch(classifier):
    clips = [noise(9_000), noise(4_000)]
    batch, lengths = torch.zeros(2, 9_000), torch.tensor([9_000, 4_000])
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    for ask in (classifier.embed, classifier.attention_map):
        found = ask(clips)
        assert torch.equal(found, ask(batch, lengths=lengths))
        torch.testing.assert_close(found[1], ask(clips[1]))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (
            noise(2, 9_000),
            r"shape \(2, 9000\).*average the channels.*list\(batch\)\) or call",
        ),
        (noise(9_000, 2), r"shape \(9000, 2\).*average the channels of stereo"),
        ((noise(9_000) * 2**15).astype(np.int16), "int16; expected floating point"),
        ({"array": noise(9_000)}, "str is no waveform; give the path of an audio file, or an"),
        (None, "NoneType is no waveform"),
        ((noise(9_000), 16_000), "int is no waveform.* its rate as sample_rate="),
        ([0.1] * 500, "float is no waveform"),
        (np.array(["a", "b"]), "ndarray of <U1 is no waveform"),
        (np.where(noise(9_000) > 0.2, np.nan, 0.1), "samples hold NaN or infinity"),
        (torch.full((9_000,), -torch.inf), "samples hold NaN or infinity"),
        (noise(300), "sound 0 is 300 samples long at the model's rate; at least 400"),
        (noise(0), "sound 0 is 0 samples long"),
    ],
)
def test_sounds_that_cannot_be_meant_are_refused(classifier, samples, message):
    with pytest.raises(ValueError, match=message):
        classifier.classify(samples)


def test_of_a_list_the_refused_sound_is_named(classifier, tmp_path):
    short = written(tmp_path / "short.wav", noise(300))
    with pytest.raises(ValueError, match="sound 10 is 300 samples"):
        classifier.classify([noise(500)] * 10 + [noise(300)])
    with pytest.raises(ValueError, match=r"short\.wav is 300 samples"):
        classifier.classify([noise(500), short])
    with pytest.raises(FileNotFoundError, match=r"gone\.wav does not exist"):
        classifier.classify([noise(500), tmp_path / "gone.wav"])


def test_rates_and_lengths_that_do_not_fit_are_refused(classifier):
    for rate in (0, 22_050.5, "44100", float("nan")):
        with pytest.raises(ValueError, match=f"sample_rate {rate!r} is not a whole number from"):
            classifier.classify(noise(9_000), sample_rate=rate)
    with pytest.raises(ValueError, match="a batch has to be at the model's 16000 Hz, not 8000"):
        classifier.embed(noise(2, 9_000), 8_000)
    with pytest.raises(ValueError, match=r"lengths are for a batch \(batch, samples\)"):
        classifier.embed([noise(9_000)], lengths=torch.tensor([500]))


@pytest.mark.parametrize("source", [None, "strange.pth"])
@pytest.mark.parametrize("weight", ["head.bias", "patch_embedding.projection.bias"])
@pytest.mark.parametrize("multi_label", [True, False])
def test_a_model_that_gives_no_finite_scores_says_which_it_is(
    classifier, source, weight, multi_label
):
    """A sigmoid makes a sound probability of an infinite logit."""
    torch.manual_seed(0)
    model = AST(classifier.model.config).eval()
    broken = AudioClassifier(model, classifier.frontend, CLASSES, multi_label)
    broken.source = source
    model.get_parameter(weight).data[0] = torch.inf
    message = f"^{source or 'the model'} gives NaN or infinity instead of scores"
    asks = [broken.classify, broken.timeline, lambda sound: broken.classify([sound], pad=False)]
    if weight != "head.bias":
        asks += [
            broken.embed,
            broken.attention_map,
            lambda sound: broken.embed(sound, level="patch"),
        ]
    for ask in asks:
        with pytest.raises(ValueError, match=message):
            ask(noise(12_000))
    assert not broken(torch.from_numpy(noise(8_000))[None]).isfinite().all()  # in training, too
