"""Reading audio: every format comes out right, every bad file gets one line that names it."""

import csv
import io
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.audio import load_audio, read_header, read_spans, stream_audio

FORMATS = ("wav", "flac", "ogg", "mp3")
RATE = 16_000


def sweep(samples: int = 24_000, channels: int = 1, rate: int = RATE) -> np.ndarray:
    """(samples, channels), float32: a rising tone, a little different in each channel."""
    time = np.arange(samples)[:, None] / rate
    frequency = 200 + 400 * time + 90 * np.arange(channels)
    return (0.4 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def encode(
    form: str, audio: np.ndarray, rate: int = RATE, subtype: str | None = None, **more: object
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=form, subtype=subtype, **more)
    return file.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def assert_refused(path: Path, reason: str, error: type[Exception] = ValueError) -> None:
    with pytest.raises(error) as caught:
        load_audio(path)
    message = str(caught.value)
    assert str(path) in message
    assert reason in message.replace(str(path), "")  # pytest names folders after the test
    assert "\n" not in message


def with_wav_sizes(content: bytes, riff: int, data: int) -> bytes:
    changed = bytearray(content)
    struct.pack_into("<I", changed, 4, riff)
    struct.pack_into("<I", changed, changed.index(b"data") + 4, data)
    return bytes(changed)


def with_flac_frames(content: bytes, frames: int) -> bytes:
    """FLAC keeps its number of samples in 36 bits, from the low half of byte 21 on."""
    changed = bytearray(content)
    changed[21] = (changed[21] & 0xF0) | (frames >> 32)
    struct.pack_into(">I", changed, 22, frames & 0xFFFFFFFF)
    return bytes(changed)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_float32_samples_of_the_announced_length(form, tmp_path):
    audio = sweep()
    waveform = load_audio(write(tmp_path / f"clip.{form}", encode(form, audio)))
    assert waveform.dtype == torch.float32
    assert waveform.shape == (24_000,)
    assert waveform.is_contiguous()
    correlation = np.corrcoef(waveform.numpy(), audio[:, 0])[0, 1]
    assert correlation > 0.98  # the lossy formats too


@pytest.mark.parametrize("form", FORMATS)
def test_equals_soundfile_averaged_and_resampled_by_soxr(form, tmp_path):
    path = write(tmp_path / f"clip.{form}", encode(form, sweep(44_100, 2, 44_100), 44_100))
    decoded, rate = soundfile.read(path, dtype="float32")
    expected = soxr.resample(decoded.mean(axis=1), rate, RATE, quality="HQ")
    np.testing.assert_array_equal(load_audio(path).numpy(), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_channels_are_averaged(channels, tmp_path):
    audio = sweep(channels=channels)
    path = write(tmp_path / "clip.wav", encode("wav", audio, subtype="FLOAT"))
    np.testing.assert_allclose(load_audio(path).numpy(), audio.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 48_000])
def test_resamples_to_the_asked_rate(rate, tmp_path):
    path = write(tmp_path / "clip.wav", encode("wav", sweep(rate, rate=44_100), 44_100))
    assert abs(len(load_audio(path, rate)) - rate * rate / 44_100) <= 1


def test_long_files_are_decoded_in_blocks_without_a_seam(tmp_path, monkeypatch):
    for form in FORMATS:
        path = write(tmp_path / f"clip.{form}", encode(form, sweep(channels=2)))
        in_one = load_audio(path)
        with monkeypatch.context() as patch:
            patch.setattr("data.audio.BLOCK_VALUES", 2 * 1_777)
            assert torch.equal(load_audio(path), in_one)


def test_a_name_says_nothing_about_the_format(tmp_path):
    path = write(tmp_path / "clip.mp3", encode("wav", sweep()))
    assert len(load_audio(str(path))) == 24_000


def test_real_clips_load_whole(recordings):
    with (recordings / "esc10" / "meta" / "esc50.csv").open(newline="") as file:
        names = [row["filename"] for row in csv.DictReader(file)]
    unusual = ["1-17808-B-12.ogg", "1-172649-F-40.ogg", "4-164661-B-12.ogg"]  # 7.2, 7.0, 3.6 s
    for name in names[::50] + unusual:
        path = recordings / "esc10" / "audio" / name
        expected = soundfile.info(path).duration * RATE
        assert abs(len(load_audio(path)) - expected) <= 1, name


def test_missing_file(tmp_path):
    assert_refused(tmp_path / "gone.wav", "does not exist", FileNotFoundError)


def test_folder(tmp_path):
    assert_refused(tmp_path, "is a folder")


def test_empty_file(tmp_path):
    assert_refused(write(tmp_path / "clip.wav", b""), "is empty")


@pytest.mark.parametrize(
    "content", [b"RIFF", b"OggS\0", b"ID3", b"\0" * 5000, b"just some text " * 99]
)
@pytest.mark.parametrize("name", ["clip.wav", "clip.mp3", "clip.raw"])
def test_not_audio(name, content, tmp_path):
    reason = "truncated" if content.startswith(b"OggS") else "cannot be decoded"
    assert_refused(write(tmp_path / name, content), reason)


@pytest.mark.parametrize("form", ["wav", "ogg"])
def test_no_samples(form, tmp_path):
    path = write(tmp_path / f"clip.{form}", encode(form, np.zeros((0, 1), np.float32)))
    assert_refused(path, "no samples")


def test_too_short_for_one_sample_after_resampling(tmp_path):
    path = write(tmp_path / "clip.wav", encode("wav", sweep(1), 44_100))
    assert_refused(path, "no samples at 16000 Hz")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(value, tmp_path):
    audio = sweep()
    audio[-1] = value
    path = write(tmp_path / "clip.wav", encode("wav", audio, subtype="FLOAT"))
    assert_refused(path, "NaN or infinite")


def noise(samples: int) -> np.ndarray:
    """(samples, 2): compresses badly, so that an Ogg file has many pages."""
    return np.random.default_rng(0).uniform(-0.5, 0.5, (samples, 2)).astype(np.float32)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, -100, -1])
def test_truncated(form, kept, tmp_path):
    content = encode(form, noise(96_000))
    length = kept if kept < 0 else int(kept * len(content))
    path = write(tmp_path / f"clip.{form}", content[:length])
    assert_refused(path, "truncated")


@pytest.mark.parametrize("form", FORMATS)
def test_truncated_anywhere_is_never_shortened_silently(form, tmp_path):
    content = encode(form, noise(48_000))
    assert form != "ogg" or content.count(b"OggS") > 4
    for length in range(1, len(content), len(content) // 60):
        if content.startswith(b"OggS", length):
            continue  # a cut between two pages leaves no trace
        with pytest.raises(ValueError, match="clip"):
            load_audio(write(tmp_path / "clip", content[:length]))


@pytest.mark.parametrize("rest", [b"O", b"Ogg", b"OggS", b"OggS\0\0"])
def test_an_ogg_file_cut_inside_a_page_header(rest, tmp_path):
    path = write(tmp_path / "clip.ogg", encode("ogg", sweep()) + rest)
    assert_refused(path, "truncated")


@pytest.mark.parametrize("form", FORMATS)
def test_a_tag_after_the_audio_is_no_truncation(form, tmp_path):
    tag = b"TAG" + b"\0" * 125  # ID3v1
    path = write(tmp_path / f"clip.{form}", encode(form, sweep()) + tag)
    assert len(load_audio(path)) == 24_000


def test_an_mp3_behind_an_id3_tag_is_still_checked(tmp_path):
    tag = b"ID3\x04\0\0" + bytes([0, 0, 7, 0x76]) + b"\0" * (7 * 128 + 0x76)
    content = encode("mp3", sweep())
    assert len(load_audio(write(tmp_path / "whole.mp3", tag + content))) == 24_000
    assert_refused(write(tmp_path / "clip.mp3", tag + content[: len(content) // 2]), "truncated")


def test_an_mp3_that_announces_nothing_is_read_to_its_end(tmp_path):
    content = encode(
        "mp3", sweep(rate=44_100), 44_100, bitrate_mode="CONSTANT", compression_level=0.5
    )
    second_frame = content.index(content[:2], 4)
    assert b"Info" in content[:second_frame]  # the header frame, of silence
    path = write(tmp_path / "clip.mp3", content[second_frame:])
    assert len(load_audio(path, 44_100)) >= 24_000  # the encoder's padding included


STREAMED = {"ffmpeg": 0xFFFFFFFF, "sox": 0x7FFFF000, "sox, 24-bit stereo": 0x7FFFEFFE, "none": 0}


@pytest.mark.parametrize("size", STREAMED.values(), ids=STREAMED)
def test_a_streamed_wav_is_read_to_its_end(size, tmp_path):
    content = encode("wav", sweep())
    riff = min(size + 36, 0xFFFFFFFF)
    path = write(tmp_path / "clip.wav", with_wav_sizes(content, riff, size))
    expected = load_audio(write(tmp_path / "whole.wav", content))
    assert torch.equal(load_audio(path), expected)


def test_an_empty_wav_followed_by_another_chunk_has_no_samples(tmp_path):
    content = encode("wav", np.zeros((0, 1), np.float32)) + struct.pack("<4sI8x", b"LIST", 8)
    path = write(tmp_path / "clip.wav", with_wav_sizes(content, len(content) - 8, 0))
    assert_refused(path, "no samples")


@pytest.mark.parametrize("frames", [24_001, 10**10, 2**36 - 1])
def test_a_flac_that_announces_more_than_it_holds(frames, tmp_path):
    content = with_flac_frames(encode("flac", sweep()), frames)
    assert_refused(write(tmp_path / "clip.flac", content), "truncated")


def test_a_streamed_flac_is_read_to_its_end(tmp_path):
    content = encode("flac", sweep())
    expected = load_audio(write(tmp_path / "whole.flac", content))
    path = write(tmp_path / "clip.flac", with_flac_frames(content, 0))
    assert torch.equal(load_audio(path), expected)
    assert_refused(write(tmp_path / "cut.flac", path.read_bytes()[:-1]), "truncated")


def test_an_rf64_that_announces_more_than_it_holds(tmp_path):
    content = bytearray(encode("rf64", sweep()))
    assert len(load_audio(write(tmp_path / "whole.wav", content))) == 24_000
    struct.pack_into("<Q", content, content.index(b"ds64") + 16, 10**12)
    struct.pack_into("<I", content, content.index(b"data") + 4, 0xFFFFFFFF)
    assert_refused(write(tmp_path / "clip.wav", content), "truncated")


@pytest.mark.parametrize("rate", [1, 2**31 - 1])
def test_a_header_with_an_impossible_sample_rate(rate, tmp_path):
    content = bytearray(encode("wav", sweep()))
    struct.pack_into("<I", content, 24, rate)
    assert_refused(write(tmp_path / "clip.wav", content), f"{rate} Hz")


@pytest.mark.parametrize("rate", [0, -16_000, 22_050.5, float("nan"), "16000", None, True, 10**9])
def test_a_wrong_sample_rate(rate, tmp_path):
    path = write(tmp_path / "clip.wav", encode("wav", sweep()))
    with pytest.raises(ValueError, match=r"sample_rate .* is not a whole number from 1000"):
        load_audio(path, rate)


@pytest.mark.parametrize("rate", [8_000.0, np.int64(8_000), np.float32(8_000)])
def test_a_rate_may_be_a_whole_number_of_any_type(rate, tmp_path):
    path = write(tmp_path / "clip.wav", encode("wav", sweep()))
    expected = load_audio(path, 8_000)
    assert torch.equal(load_audio(path, rate), expected)
    assert torch.equal(torch.cat(list(stream_audio(path, rate))), expected)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("seconds", [0.01, 0.3, 1, 60])
def test_streamed_blocks_join_to_the_loaded_waveform(form, rate, seconds, tmp_path):
    path = write(tmp_path / f"clip.{form}", encode(form, sweep(30_000, 2, rate), rate))
    blocks, whole = list(stream_audio(path, RATE, seconds)), load_audio(path)
    assert torch.equal(torch.cat(blocks), whole)
    size = round(seconds * RATE)
    assert [len(block) for block in blocks[:-1]] == [size] * ((len(whole) - 1) // size)
    assert 0 < len(blocks[-1]) <= size


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    samples=st.integers(3, 20_000),
    source_rate=st.sampled_from([8_000, 16_000, 22_050, 44_100]),
    block=st.integers(1, 9_000),
)
def test_blocks_of_any_length_join_to_the_loaded_waveform(tmp_path, samples, source_rate, block):
    path = write(
        tmp_path / "clip.wav", encode("wav", sweep(samples, rate=source_rate), source_rate)
    )
    assert torch.equal(torch.cat(list(stream_audio(path, RATE, block / RATE))), load_audio(path))


@pytest.mark.parametrize("form", ["wav", "flac", "streamed wav"])
def test_the_memory_of_a_stream_does_not_grow_with_the_recording(form, tmp_path):
    peaks = []
    for seconds in (20, 200):
        content = encode(form.split()[-1], sweep(seconds * 44_100, rate=44_100), 44_100)
        if form == "streamed wav":
            content = with_wav_sizes(content, 36, 0)
        path = write(tmp_path / "clip", content)
        del content
        tracemalloc.start()
        assert sum(map(len, stream_audio(path, RATE, 1.0))) == seconds * RATE
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 2**20  # bytes; a second at 44.1 kHz has 176,400, 200 s at 16 kHz 12.8 MB


@pytest.mark.parametrize("kept", [0.1, 0.9, -1])
@pytest.mark.parametrize("form", FORMATS)
def test_a_truncated_stream_is_refused_at_its_end_at_the_latest(form, kept, tmp_path):
    content = encode(form, noise(96_000))
    path = write(tmp_path / "clip", content[: kept if kept < 0 else int(kept * len(content))])
    with pytest.raises(ValueError, match=r"clip.* truncated"):
        for _ in stream_audio(path, RATE, 0.1):
            pass


def test_blocks_before_the_damage_are_given(tmp_path):
    audio = sweep(32_000)
    audio[-1] = np.nan
    path = write(tmp_path / "clip.wav", encode("wav", audio, subtype="FLOAT"))
    blocks = stream_audio(path, RATE, 0.5)
    assert torch.equal(next(blocks), torch.from_numpy(audio[:8_000, 0]))
    with pytest.raises(ValueError, match="NaN or infinite"):
        list(blocks)


def test_a_stream_has_the_errors_of_load_audio(tmp_path):
    bad = {
        "gone.wav": None,
        "empty.wav": b"",
        "text.wav": b"just some text " * 99,
        "nothing.wav": encode("wav", np.zeros((0, 1), np.float32)),
        "short.wav": encode("wav", sweep(1), 44_100),
    }
    for name, content in bad.items():
        path = tmp_path / name if content is None else write(tmp_path / name, content)
        with pytest.raises((ValueError, FileNotFoundError)) as loaded:
            load_audio(path)
        with pytest.raises(type(loaded.value)) as streamed:
            next(stream_audio(path))
        assert str(streamed.value) == str(loaded.value)


@pytest.mark.parametrize("seconds", [0, -1, 1e-9, float("nan"), float("inf")])
def test_a_stream_refuses_blocks_of_no_length(seconds, tmp_path):
    with pytest.raises(ValueError, match=r"block_seconds .* at least one sample"):
        stream_audio(tmp_path / "clip.wav", RATE, seconds)


def test_a_stream_refuses_a_wrong_sample_rate(tmp_path):
    with pytest.raises(ValueError, match=r"sample_rate 0 is not a whole number from 1000"):
        stream_audio(tmp_path / "clip.wav", 0)


@pytest.fixture(scope="module")
def samples_of_every_format():
    return {form: encode(form, sweep(4_000)) for form in FORMATS}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data(), form=st.sampled_from(FORMATS))
def test_damage_gives_a_waveform_or_one_line(samples_of_every_format, tmp_path, form, draw):
    content = bytearray(samples_of_every_format[form])
    positions = st.integers(0, 80) | st.integers(0, len(content) - 1)
    for position, value in draw.draw(
        st.lists(st.tuples(positions, st.integers(0, 255)), max_size=6)
    ):
        content[position] = value
    path = write(tmp_path / "clip", content[: draw.draw(st.integers(1, len(content)))])
    try:
        waveform = load_audio(path)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert waveform.ndim == 1 and len(waveform) and waveform.isfinite().all()


def test_a_header_tells_the_length_that_decoding_gives(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros((3000, 2)), 44_100)
    header = read_header(path)
    assert (header.samples, header.sample_rate, header.size) == (3000, 44_100, path.stat().st_size)
    # a FLAC from a pipe: the 36 bits of the number of samples in its STREAMINFO are 0
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert read_header(path).samples == 3000


@pytest.mark.parametrize("scale", [300.0, 2.0**15, 2.0**31])
def test_integers_that_were_not_scaled_keep_their_values(scale, tmp_path):
    audio = sweep() * np.float32(scale)
    path = write(tmp_path / "clip.wav", encode("wav", audio, subtype="FLOAT"))
    np.testing.assert_array_equal(load_audio(path).numpy(), audio[:, 0])


@pytest.mark.parametrize("value", [3e9, -1e19, 3e38])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_samples_that_no_recording_has_are_refused(value, subtype, tmp_path):
    audio = sweep().astype(np.float64)
    audio[77] = value
    path = write(tmp_path / "clip.wav", encode("wav", audio, subtype=subtype))
    assert_refused(path, "more than 2^31")
    with pytest.raises(ValueError, match="more than 2"):
        list(stream_audio(path))


@pytest.mark.parametrize("form", FORMATS)
def test_a_longer_file_than_asked_for_is_refused(form, tmp_path):
    path = write(tmp_path / f"clip.{form}", encode(form, sweep()))
    assert len(load_audio(path, max_seconds=1.6))
    for read in (load_audio, lambda *args, **options: list(stream_audio(*args, **options))):
        with pytest.raises(ValueError, match=r"lasts 1.5 s or more, expected at most 1.4 s"):
            read(path, max_seconds=1.4)


def test_a_length_that_is_not_announced_is_bounded_as_it_is_decoded(tmp_path):
    content = with_flac_frames(encode("flac", np.zeros((160_000, 1), np.float32)), 0)
    with pytest.raises(ValueError, match="max_seconds"):
        load_audio(write(tmp_path / "clip.flac", content), max_seconds=5)


def test_a_header_that_claims_years_is_refused_at_once(tmp_path):
    path = write(tmp_path / "clip.flac", with_flac_frames(encode("flac", sweep()), 2**36 - 1))
    assert_refused(path, "s or more")
    with pytest.raises(ValueError, match="s or more"):
        read_header(path)


def test_a_wav_of_nothing_but_chunks_is_refused_at_once(tmp_path):
    content = encode("wav", sweep())
    path = write(tmp_path / "clip.wav", content[:12] + b"junk\0\0\0\0" * 20_000 + content[12:])
    assert_refused(path, "after 10,000 chunks")


@pytest.mark.parametrize("form", FORMATS)
def test_any_byte_that_changes_gives_finite_samples_or_one_line(form, tmp_path):
    content = encode(form, sweep(3_000))
    generator = np.random.default_rng(0)
    for position in [*range(0, 64), *generator.integers(len(content), size=60)]:
        damaged = bytearray(content)
        damaged[position % len(content)] ^= 1 << generator.integers(8)
        path = write(tmp_path / "clip", bytes(damaged))
        try:
            waveform = load_audio(path)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert waveform.isfinite().all() and waveform.abs().max() <= 2**31


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "clip.wav")
    assert_refused(tmp_path / "clip.wav", "not a regular file")


def test_of_a_midi_sample_dump_nothing_is_printed(tmp_path, capfd):
    dump = bytearray(encode("sds", np.zeros(4000, np.int16), subtype="PCM_16"))
    dump[21:23] = bytes(2)  # of the first packet's header: libsndfile prints what it misses
    path = write(tmp_path / "clip.wav", bytes(dump))
    assert_refused(path, "cannot be decoded (a MIDI sample dump)")
    with pytest.raises(ValueError, match="MIDI sample dump"):
        read_header(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("form", FORMATS)
def test_a_name_that_is_not_utf8_is_read_and_told(tmp_path, form):
    path = tmp_path / f"\udcff.{form}"
    path.write_bytes(encode(form, sweep()))
    assert read_header(path).sample_rate == RATE
    assert len(load_audio(path)) == pytest.approx(24_000, abs=2_000)  # MP3 adds a frame or two
    path.write_bytes(b"no audio")
    assert_refused(path, "cannot be decoded")


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_spans_found_by_seeking_are_those_of_the_whole(suffix, tmp_path):
    path = tmp_path / f"stereo.{suffix}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (48_000, 2)), 16_000)
    whole = load_audio(path, 16_000).numpy()
    starts = [0, 30_000, 123, 47_900, 48_000, 99_999]  # the last two at and after the end
    for start, span in zip(starts, read_spans(path, starts, 500), strict=True):
        np.testing.assert_allclose(span, whole[start : start + 500], atol=1e-6)


def test_spans_of_what_is_no_audio_name_it(tmp_path):
    path = tmp_path / "junk.flac"
    path.write_bytes(b"fLaCjunk")
    with pytest.raises(ValueError, match=r"junk\.flac"):
        read_spans(path, [0], 1)
