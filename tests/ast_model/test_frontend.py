"""The filterbank against torchaudio and kaldi-native-fbank, and what the front end adds to it."""

import copy
import math
from dataclasses import replace

import kaldi_native_fbank
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ast_model.config import SAMPLE_RATES, WINDOWS, FrontendConfig
from ast_model.frontend import FRAMES_AT_ONCE, SILENCE, Frontend, KaldiFbank

RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # Hz, usual ones


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def torchaudio_kaldi():
    return pytest.importorskip("torchaudio.compliance.kaldi")


def torchaudio_fbank(
    waveform: torch.Tensor,
    sample_rate=16_000,
    mels=128,
    window="hamming",
    low_freq=20.0,
    high_freq=0.0,
):
    return torchaudio_kaldi().fbank(
        waveform[None],
        sample_frequency=sample_rate,
        num_mel_bins=mels,
        window_type=window,
        low_freq=low_freq,
        high_freq=high_freq,
        use_energy=False,
        htk_compat=True,
        dither=0.0,
    )


def native_fbank(waveform: torch.Tensor, sample_rate: int, mels: int, window: str) -> torch.Tensor:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = sample_rate
    options.frame_opts.window_type = window
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = mels
    options.mel_opts.low_freq = 20.0
    options.use_energy = False
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(sample_rate, waveform.tolist())
    fbank.input_finished()
    frames = [fbank.get_frame(index) for index in range(fbank.num_frames_ready)]
    return torch.from_numpy(np.stack(frames))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The clips are short: two threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def real_clips(recordings):
    """A second each of four recordings, and a spoken digit, as they were sampled."""
    files = sorted((recordings / "esc10" / "audio").glob("*.ogg"))[::100]
    files += sorted((recordings / "spoken_digits" / "seven").glob("*.wav"))[:1]
    clips = (soundfile.read(file, frames=44_100, dtype="float32")[0] for file in files)
    return [torch.from_numpy(clip) for clip in clips]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("mels", [40, 128])
@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 32_000, 44_100])
class TestOracles:
    @pytest.mark.parametrize("signal", ["noise", "silence", "impulse", "constant", "sine"])
    def test_equals_torchaudio(self, sample_rate, mels, window, signal):
        time = torch.arange(sample_rate // 4)
        waveform = {
            "noise": noise(len(time)),
            "silence": torch.zeros(len(time)),
            "impulse": (time == 1234).float(),
            "constant": torch.full((len(time),), 0.5),
            "sine": torch.sin(0.3 * time),
        }[signal]
        fbank, _ = KaldiFbank(sample_rate, mels, window)(waveform[None])
        expected = torchaudio_fbank(waveform, sample_rate, mels, window)
        torch.testing.assert_close(fbank[0], expected, rtol=0, atol=1e-4)

    def test_equals_torchaudio_on_recordings(self, real_clips, sample_rate, mels, window):
        fbank = KaldiFbank(sample_rate, mels, window)
        for clip in real_clips:
            expected = torchaudio_fbank(clip, sample_rate, mels, window)
            torch.testing.assert_close(fbank(clip[None])[0][0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("sample_rate", "mels"), [(8_000, 40), (16_000, 128), (44_100, 128)])
class TestKaldiNative:
    def test_agrees_on_noise(self, sample_rate, mels, window):
        waveform = noise(sample_rate)
        fbank, _ = KaldiFbank(sample_rate, mels, window)(waveform[None])
        expected = native_fbank(waveform, sample_rate, mels, window)
        torch.testing.assert_close(fbank[0], expected, rtol=0, atol=5e-3)

    def test_agrees_on_recordings(self, real_clips, sample_rate, mels, window):
        for clip in real_clips[::3]:
            fbank, _ = KaldiFbank(sample_rate, mels, window)(clip[None])
            expected = native_fbank(clip, sample_rate, mels, window)
            torch.testing.assert_close(fbank[0], expected, rtol=0, atol=5e-3)


@pytest.mark.parametrize("frame_length", [10.0, 25.0, 32.0])  # 32 ms: the FFT needs no padding
def test_other_frames_equal_torchaudio(frame_length):
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    waveform = noise(8_000)
    module = KaldiFbank(
        frame_length=frame_length, frame_shift=5.0, low_freq=50.0, high_freq=-400.0, preemphasis=0.9
    )
    expected = kaldi.fbank(
        waveform[None],
        frame_length=frame_length,
        frame_shift=5.0,
        low_freq=50.0,
        high_freq=-400.0,
        preemphasis_coefficient=0.9,
        num_mel_bins=128,
        window_type="hamming",
    )
    torch.testing.assert_close(module(waveform[None])[0][0], expected, rtol=0, atol=1e-4)


def test_a_long_clip_is_seamless():
    waveform = noise(400 + 160 * (2 * FRAMES_AT_ONCE + 3))
    fbank, _ = KaldiFbank()(waveform[None])
    torch.testing.assert_close(fbank[0], torchaudio_fbank(waveform), rtol=0, atol=1e-4)


def test_bins_narrower_than_the_fft_are_at_the_floor():
    fbank, _ = KaldiFbank(low_freq=1001.0, high_freq=1010.0)(noise(1, 4_000))
    assert torch.equal(fbank, torch.full_like(fbank, SILENCE))


def test_silence_is_the_log_of_epsilon():
    fbank, num_frames = KaldiFbank()(torch.zeros(2, 16_000))
    torch.testing.assert_close(fbank, torch.full((2, 98, 128), SILENCE))
    assert num_frames.tolist() == [98, 98]
    assert num_frames.dtype == torch.int64


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(400, 4_000), min_size=1, max_size=5), st.integers(0, 500))
def test_a_ragged_batch_equals_its_clips(lengths, extra):
    fbank = KaldiFbank()
    waveforms = noise(len(lengths), max(lengths) + extra)
    for waveform, length in zip(waveforms, lengths, strict=True):
        waveform[length:] = math.nan  # nothing after a clip's end may be read
    batch, num_frames = fbank(waveforms, torch.tensor(lengths))
    assert batch.shape[1] == num_frames.max()
    for waveform, length, row, frames in zip(waveforms, lengths, batch, num_frames, strict=True):
        alone, count = fbank(waveform[None, :length])
        assert count == frames == 1 + (length - 400) // 160
        assert torch.equal(row[:frames], alone[0])
        assert not row[frames:].any()


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(400, 4_000), min_size=1, max_size=5))
def test_both_ways_of_a_batch_agree(lengths):
    """The path of a GPU (all clips at once), run on the CPU, against the path of a CPU."""
    fbank = KaldiFbank()
    waveforms = noise(len(lengths), max(lengths))
    for waveform, length in zip(waveforms, lengths, strict=True):
        waveform[length:] = math.nan
    waveforms.requires_grad_()
    at_once = fbank._all_at_once(waveforms, lengths)
    torch.testing.assert_close(at_once, fbank(waveforms, torch.tensor(lengths))[0])
    (gradient,) = torch.autograd.grad(at_once.sum(), waveforms)
    assert gradient.isfinite().all()


def test_the_gradient_equals_torchaudios():
    ours, theirs = (noise(2_000).requires_grad_() for _ in range(2))
    weights = noise(11, 128, seed=1)
    (KaldiFbank()(ours[None])[0][0] * weights).sum().backward()
    (torchaudio_fbank(theirs) * weights).sum().backward()
    assert theirs.grad.abs().max() > 0.1
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


def test_silence_has_a_gradient_of_zero():
    waveform = torch.zeros(1, 800, requires_grad=True)
    KaldiFbank()(waveform)[0].sum().backward()
    assert not waveform.grad.any()


def test_leaves_its_input_alone():
    waveforms = noise(2, 2_000)
    before = waveforms.clone()
    Frontend(FrontendConfig())(waveforms)
    assert torch.equal(waveforms, before)


def test_computes_in_float32_whatever_surrounds_it():
    frontend, waveforms = Frontend(FrontendConfig(num_frames=20)), noise(2, 4_000)
    expected = frontend(waveforms)
    assert expected.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(frontend(waveforms), expected)
    for convert in (torch.nn.Module.half, torch.nn.Module.bfloat16, torch.nn.Module.double):
        assert torch.equal(convert(copy.deepcopy(frontend))(waveforms), expected)
    assert torch.equal(frontend(waveforms.double()), expected)
    coarse = waveforms.bfloat16()
    assert torch.equal(frontend(coarse), frontend(coarse.float()))


def test_nothing_of_it_is_saved():
    assert not Frontend(FrontendConfig()).state_dict()


@pytest.mark.gpu
def test_a_gpu_agrees_with_the_cpu():
    frontend, waveforms = Frontend(FrontendConfig(num_frames=128)), noise(3, 16_000)
    lengths = torch.tensor([16_000, 400, 9_999])
    expected = frontend(waveforms, lengths)
    with torch.autocast("cuda", torch.bfloat16):
        fbank = copy.deepcopy(frontend).cuda()(waveforms.cuda(), lengths.cuda())
    torch.testing.assert_close(fbank.cpu(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("waveforms", "lengths", "message"),
    [
        (torch.zeros(800), None, r"shape \(800,\); expected \(batch, samples\)"),
        (torch.zeros(1, 2, 800), None, r"shape \(1, 2, 800\)"),
        (torch.zeros(0, 800), None, r"shape \(0, 800\)"),
        (torch.zeros(2, 800, dtype=torch.int16), None, r"torch.int16; .* 32768"),
        (torch.zeros(2, 399), None, r"clip 0 has 399 samples; at least 400 .* 25 ms"),
        (torch.zeros(2, 800), torch.tensor([800, 3]), r"clip 1 has 3 samples; at least 400"),
        (torch.zeros(2, 800), torch.tensor([800, -1]), r"clip 1 has -1 samples"),
        (torch.zeros(2, 800), torch.tensor([801, 800]), r"clip 0 has length 801; .* only 800"),
        (torch.zeros(2, 800), torch.tensor([800]), r"shape \(1,\); expected \(2,\) integers"),
        (torch.zeros(2, 800), torch.tensor([1.0, 0.5]), r"torch.float32 .* expected \(2,\)"),
    ],
)
def test_bad_clips_get_one_clear_line(waveforms, lengths, message):
    for module in (KaldiFbank(), Frontend(FrontendConfig())):
        with pytest.raises(ValueError, match=message) as error:
            module(waveforms, lengths)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": "hann"}, "window 'hann' is unknown; use one of hamming"),
        ({"num_mel_bins": 3}, "num_mel_bins 3 is too small"),
        ({"low_freq": -1.0}, "low_freq -1 Hz"),
        ({"low_freq": 8_000.0}, "low_freq 8000 Hz and high_freq 8000 Hz"),
        ({"high_freq": 9_000.0}, "high_freq 9000 Hz do not fit"),
        ({"high_freq": -8_000.0}, "high_freq 0 Hz do not fit"),
        ({"sample_rate": 0}, "0 samples"),
        ({"frame_shift": 0.0}, "every 0"),
        ({"preemphasis": 97}, "preemphasis 97"),
    ],
)
def test_bad_settings_get_one_clear_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        KaldiFbank(**arguments)
    assert "\n" not in str(error.value)


@st.composite
def bands(draw):
    """A sample rate with two mel edges, in Hz, that fit it."""
    sample_rate = draw(st.sampled_from(RATES) | st.integers(*SAMPLE_RATES))
    low = draw(st.floats(0, 0.9 * sample_rate / 2))
    high = draw(st.just(0.0) | st.floats(low + 0.05 * sample_rate, sample_rate / 2))
    return sample_rate, low, high


@settings(max_examples=60, deadline=None)
@given(bands(), st.integers(4, 256), st.sampled_from(WINDOWS), st.integers(0, 9))
def test_any_rate_band_and_number_of_bins_equals_torchaudio(band, mels, window, seed):
    sample_rate, low, high = band
    config = FrontendConfig(
        num_frames=10,
        num_mel_bins=mels,
        window=window,
        sample_rate=sample_rate,
        low_freq=low,
        high_freq=high,
    )
    frontend = Frontend(config)
    waveform = noise(frontend.fbank.num_samples(10), seed=seed)
    waveform -= waveform.mean()
    expected = torchaudio_fbank(waveform, sample_rate, mels, window, low, high)
    ours = frontend.filterbank(waveform[None])[0]
    # 1e-4 in the log of the energy; in rare bins it is so low that the rounding of an FFT is more.
    amplitudes = (ours / 2).exp(), (expected / 2).exp()
    torch.testing.assert_close(*amplitudes, rtol=5e-5, atol=2e-6)
    sizes = (mels, frontend.fbank.fft_size, float(sample_rate))
    theirs, _ = torchaudio_kaldi().get_mel_banks(*sizes, low, high, 100.0, -500.0, 1.0)
    assert frontend.fbank.empty_bins == (~theirs.any(1)).sum()


@pytest.mark.parametrize(
    ("sample_rate", "mels", "empty"),
    [(16_000, 128, 1), (8_000, 128, 4), (8_000, 80, 0), (8_000, 256, 58), (48_000, 128, 0)],
)
def test_bins_between_two_fft_bins_are_counted(sample_rate, mels, empty):
    """Kaldi refuses them; torchaudio, like the authors' 128 bins at 16 kHz, has them."""
    assert KaldiFbank(sample_rate, mels).empty_bins == empty


@pytest.mark.parametrize("sample_rate", [8_000, 22_050, 32_000, 48_000])
def test_windows_and_hops_last_as_long_at_any_rate(sample_rate):
    fbank = KaldiFbank(sample_rate)
    assert fbank.window_size / sample_rate == pytest.approx(0.025, abs=1 / sample_rate)
    assert fbank.shift / sample_rate == pytest.approx(0.010, abs=1 / sample_rate)


class TestFrontend:
    config = FrontendConfig(num_frames=20, mean=-6.6, std=5.4)

    def test_subtracts_each_clips_own_mean(self):
        # 4,000 samples are 23 frames: the mean is that of the clip, not of the part that is kept.
        waveforms, lengths = noise(2, 4_000), torch.tensor([4_000, 2_000])
        waveforms[0, 3_900:] += 5
        waveforms[1, 2_000:] = math.nan
        batch = Frontend(self.config).filterbank(waveforms, lengths)
        for waveform, length, row in zip(waveforms, lengths, batch, strict=True):
            clip = waveform[:length]
            expected = torchaudio_fbank(clip - clip.mean())[:20]
            torch.testing.assert_close(row[: len(expected)], expected, rtol=0, atol=1e-4)

    def test_a_ragged_batch_equals_its_clips(self):
        frontend, lengths = Frontend(self.config), [400, 5_000, 3_333]
        waveforms = noise(3, 5_000)
        batch = frontend(waveforms, torch.tensor(lengths))
        for waveform, length, row in zip(waveforms, lengths, batch, strict=True):
            assert torch.equal(row, frontend(waveform[None, :length])[0])

    def test_fits_by_cutting_the_end_or_adding_zeros(self):
        frontend, waveforms = Frontend(self.config), noise(2, 6_000)
        fbank = frontend.filterbank(waveforms, torch.tensor([6_000, 1_000]))
        assert fbank.shape == (2, 20, 128)
        assert fbank[0].abs().min() > 0
        assert fbank[1, :4].all()
        assert not fbank[1, 4:].any()
        assert frontend.filterbank(noise(1, 1_000)).shape == (1, 20, 128)

    def test_padding_with_silence_is_what_samples_of_zero_give(self):
        """Not at the edge of a clip, whose last windows hold samples of both."""
        frontend = Frontend(replace(self.config, padding="silence"))
        waveforms = noise(2, 6_000)
        waveforms -= waveforms[:, :1_000].mean(1, keepdim=True)
        waveforms[:, 1_000:] = 0
        lengths = torch.tensor([1_000, 6_000])
        padded, whole = frontend.filterbank(waveforms, lengths)
        assert torch.equal(padded[7:], torch.full_like(padded[7:], SILENCE))
        torch.testing.assert_close(padded[7:], whole[7:], rtol=0, atol=1e-5)
        clips = waveforms[:, :1_000]
        torch.testing.assert_close(frontend.traceable(clips), frontend(clips), rtol=0, atol=1e-4)

    def test_computes_no_frame_that_is_cut(self):
        frontend, seen = Frontend(self.config), []
        frontend.fbank.register_forward_hook(lambda _, __, output: seen.append(output[0].shape[1]))
        frontend(noise(1, 16_000))
        assert seen == [20]

    def test_fits_to_another_length_on_request(self):
        frontend, waveforms = Frontend(self.config), noise(2, 6_000)
        for num_frames in (10, 30, 50):
            built = Frontend(replace(self.config, num_frames=num_frames))
            assert torch.equal(frontend(waveforms, None, num_frames), built(waveforms))

    def test_padding_is_normalised_too(self):
        fbank = Frontend(self.config)(noise(1, 1_000))
        torch.testing.assert_close(fbank[0, 4:], torch.full((16, 128), 6.6 / (2 * 5.4)))

    def test_data_of_the_given_statistics_leave_with_deviation_one_half(self):
        fbank = -6.6 + 5.4 * 10 * noise(1, 1_000, 128)
        normalised = Frontend(self.config).normalise(fbank)
        assert normalised.mean().abs() < 0.01
        assert normalised.std() == pytest.approx(0.5, abs=0.01)

    def test_forward_is_filterbank_then_normalise(self):
        frontend, waveforms = Frontend(self.config), noise(2, 4_000)
        fbank = frontend.filterbank(waveforms)
        assert torch.equal(frontend(waveforms), (fbank + 6.6) / (2 * 5.4))
