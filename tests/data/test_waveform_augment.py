"""Waveform augmentation: what each field does, how often, and that a seed says it all."""

import pickle
import random
import sys

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("audiomentations", reason="pip install ast-audio[augment]")

from data.waveform_augment import WaveformAugmentation, WaveformAugmenter

RATE = 16_000
FIELDS = (
    "gaussian_snr_prob",
    "gain_prob",
    "gain_transition_prob",
    "clipping_prob",
    "time_stretch_prob",
    "pitch_shift_prob",
)


def tone(samples: int = RATE, frequency: float = 440.0) -> torch.Tensor:
    return 0.1 * torch.sin(2 * torch.pi * frequency / RATE * torch.arange(samples))


def decibels(ratio: torch.Tensor) -> float:
    return 20 * ratio.log10().item()


def always(name: str, **more: object) -> WaveformAugmenter:
    return WaveformAugmenter(WaveformAugmentation(**{name: 1.0}, **more), RATE)


@pytest.fixture
def noises(tmp_path):
    """A folder with one recording of 3 s, one of 0.1 s below it, and a file that is none."""
    generator = np.random.default_rng(0)
    (tmp_path / "below").mkdir()
    soundfile.write(tmp_path / "long.wav", generator.normal(0, 0.2, 3 * 44_100), 44_100)
    soundfile.write(tmp_path / "below" / "short.flac", generator.normal(0, 0.2, 1_600), RATE)
    (tmp_path / "notes.txt").write_text("no audio")
    return tmp_path


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_alone_changes_the_waveform(name):
    augmented = always(name)(tone(), 1)
    assert augmented.dtype == torch.float32 and augmented.ndim == 1
    assert augmented.isfinite().all()
    assert (len(augmented) != RATE) == (name == "time_stretch_prob")
    assert not torch.equal(augmented[:8_000], tone()[:8_000])
    assert not torch.equal(augmented[:8_000], always(name)(tone(), 2)[:8_000])


def test_nothing_asked_for_changes_nothing():
    assert torch.equal(WaveformAugmenter(WaveformAugmentation(), RATE)(tone(), 1), tone())
    assert not WaveformAugmentation().active
    assert WaveformAugmentation(gain_prob=0.1).active


def test_noise_lies_10_to_20_decibels_below_the_clip():
    for seed in range(20):
        noise = always("gaussian_snr_prob")(tone(), seed) - tone()
        assert 9.8 < decibels(tone().std() / noise.std()) < 20.2


def test_gain_lies_within_6_decibels():
    gains = [decibels(always("gain_prob")(tone(), s).std() / tone().std()) for s in range(50)]
    assert -6.01 < min(gains) < -4 and 4 < max(gains) < 6.01


def test_a_gain_transition_ends_at_another_loudness():
    fade = always("gain_transition_prob")(tone(), 4)
    assert abs(decibels(fade[:2_000].std() / fade[-2_000:].std())) > 0.5


def test_clipping_clips_at_most_30_percent():
    for seed in range(20):
        clipped = always("clipping_prob")(tone(), seed)
        assert (clipped != tone()).float().mean() < 0.31
        assert clipped.abs().max() <= tone().abs().max()


def test_time_stretch_keeps_the_pitch_and_pitch_shift_the_length():
    for seed in range(5):
        stretched, shifted = (
            always("time_stretch_prob")(tone(), seed),
            always("pitch_shift_prob")(tone(), seed),
        )
        assert RATE / 1.21 < len(stretched) < RATE / 0.79
        assert len(shifted) == RATE
        assert peak_hertz(stretched) == pytest.approx(440, rel=0.01)
        assert 2 ** (-4.1 / 12) < peak_hertz(shifted) / 440 < 2 ** (4.1 / 12)
        assert abs(peak_hertz(shifted) - 440) > 2


def peak_hertz(waveform: torch.Tensor) -> float:
    spectrum = torch.fft.rfft(waveform * torch.hann_window(len(waveform)), n=2**17).abs()
    return spectrum.argmax().item() * RATE / 2**17


def test_background_noise_lies_3_to_30_decibels_below_the_clip(noises):
    augmenter = always("background_noise_prob", noise_folder=str(noises))
    periodic = 0
    for seed in range(20):
        noise = augmenter(tone(), seed) - tone()
        assert 2.9 < decibels(tone().std() / noise.std()) < 30.1
        periodic += torch.allclose(noise[:1_600], noise[1_600:3_200], atol=1e-6)
    assert 2 < periodic < 18  # the short recording is repeated, and both are used


def test_a_silent_recording_adds_nothing(tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(100), RATE)
    augmenter = always("background_noise_prob", noise_folder=str(tmp_path))
    assert torch.equal(augmenter(tone(), 0), tone())


def test_an_unreadable_recording_is_named(tmp_path):
    (tmp_path / "broken.wav").write_text("no audio")
    with pytest.raises(ValueError, match=r"broken\.wav"):
        always("background_noise_prob", noise_folder=str(tmp_path))(tone(), 0)


def test_a_probability_is_the_share_of_augmented_clips():
    augmenter = WaveformAugmenter(WaveformAugmentation(gain_prob=0.3), RATE)
    changed = sum(not torch.equal(augmenter(tone(50), seed), tone(50)) for seed in range(400))
    assert 90 < changed < 150


def test_every_order_occurs():
    augmenter, calls = WaveformAugmenter(WaveformAugmentation(), RATE), []

    def noting(name):
        return lambda samples, rate: (calls.append(name), samples)[1]

    augmenter.transform.transforms = [noting(name) for name in "abc"]
    for seed in range(60):
        augmenter(tone(50), seed)
    orders = {"".join(calls[start : start + 3]) for start in range(0, len(calls), 3)}
    assert orders == {"abc", "acb", "bac", "bca", "cab", "cba"}


def test_the_result_follows_from_the_seed_and_leaves_global_generators_alone(noises):
    settings = WaveformAugmentation(*[0.5] * 7, noise_folder=str(noises))
    augmenter, other = WaveformAugmenter(settings, RATE), WaveformAugmenter(settings, RATE)
    expected = [augmenter(tone(), seed) for seed in range(12)]
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    for seed in reversed(range(12)):
        assert torch.equal(other(tone(), seed), expected[seed])
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    assert len({len(waveform) for waveform in expected}) > 2


def test_the_generators_are_restored_after_an_error(tmp_path):
    (tmp_path / "broken.wav").write_text("no audio")
    random.seed(5)
    before = random.getstate()
    with pytest.raises(ValueError, match="cannot be decoded"):
        always("background_noise_prob", noise_folder=str(tmp_path))(tone(), 0)
    assert random.getstate() == before


def test_the_given_waveform_is_left_alone():
    settings = WaveformAugmentation(*[1.0] * 6)
    waveform = tone()
    WaveformAugmenter(settings, RATE)(waveform, 0)
    assert torch.equal(waveform, tone())


@pytest.mark.parametrize("samples", [1, 2, 10, 300])
def test_the_shortest_clips_pass(samples):
    augmenter = WaveformAugmenter(WaveformAugmentation(*[1.0] * 6), RATE)
    for waveform in (tone(samples) + 0.01, torch.zeros(samples)):
        for seed in range(10):
            augmented = augmenter(waveform, seed)
            assert len(augmented) and augmented.isfinite().all()


def test_an_augmenter_can_be_pickled(noises):
    augmenter = WaveformAugmenter(WaveformAugmentation(*[1.0] * 7, str(noises)), RATE)
    copy = pickle.loads(pickle.dumps(augmenter))
    assert torch.equal(copy(tone(), 3), augmenter(tone(), 3))


@pytest.mark.parametrize("name", [*FIELDS, "background_noise_prob"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "0.5", None])
def test_what_is_no_probability_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} .* expected a probability"):
        WaveformAugmentation(**{name: value})


def test_background_noise_needs_a_folder_of_recordings(tmp_path):
    with pytest.raises(ValueError, match="without noise_folder"):
        WaveformAugmentation(background_noise_prob=0.5)
    with pytest.raises(ValueError, match="expected a path as text"):
        WaveformAugmentation(noise_folder=None)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        always("background_noise_prob", noise_folder=str(tmp_path / "gone"))
    with pytest.raises(ValueError, match="holds no recordings"):
        always("background_noise_prob", noise_folder=str(tmp_path))


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "audiomentations", None)
    with pytest.raises(ValueError, match=r"pip install 'ast-audio\[augment\]'"):
        always("gain_prob")
