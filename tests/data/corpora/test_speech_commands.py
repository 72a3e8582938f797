"""Reading Speech Commands: splits by list or by hash, classes in order."""

import hashlib
import os
from collections import Counter
from pathlib import Path

import pytest

from data.corpora.speech_commands import AUTHORS_ORDER, hash_split, speech_commands

FILES = (
    "yes/aaaa0001_nohash_0.wav",
    "yes/aaaa0001_nohash_1.wav",
    "yes/bbbb0002_nohash_0.wav",
    "no/bbbb0002_nohash_0.wav",
    "no/cccc0003_nohash_0.wav",
)
VALIDATION, TEST = FILES[2:4], FILES[4:]


def write_corpus(root: Path, files=FILES, validation=VALIDATION, test=TEST) -> Path:
    """A corpus whose audio files are empty: nothing here may decode them."""
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name, entries in {"validation_list.txt": validation, "testing_list.txt": test}.items():
        if entries is not None:
            (root / name).write_text("".join(f"{entry}\n" for entry in entries))
    return root


def refusal(root: Path, error: type[Exception] = ValueError) -> str:
    with pytest.raises(error) as caught:
        speech_commands(root)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_lists_say_the_part_and_the_rest_trains(tmp_path):
    manifest = speech_commands(write_corpus(tmp_path))
    assert (manifest.classes, manifest.multi_label) == (("no", "yes"), False)
    found = [
        (str(clip.path.relative_to(tmp_path)), clip.targets, clip.split, clip.group)
        for clip in manifest.clips
    ]
    assert found == [
        ("no/bbbb0002_nohash_0.wav", (0,), "validation", "bbbb0002"),
        ("no/cccc0003_nohash_0.wav", (0,), "test", "cccc0003"),
        ("yes/aaaa0001_nohash_0.wav", (1,), "train", "aaaa0001"),
        ("yes/aaaa0001_nohash_1.wav", (1,), "train", "aaaa0001"),
        ("yes/bbbb0002_nohash_0.wav", (1,), "validation", "bbbb0002"),
    ]


def test_the_35_words_of_v2_stand_in_the_order_of_the_authors(tmp_path):
    assert (len(AUTHORS_ORDER), len(set(AUTHORS_ORDER))) == (35, 35)
    files = [f"{word}/aaaa0001_nohash_0.wav" for word in AUTHORS_ORDER]
    manifest = speech_commands(write_corpus(tmp_path, files, None, None))
    assert manifest.classes == AUTHORS_ORDER
    assert manifest.classes[:3] == ("backward", "follow", "five")
    assert all(clip.path.parent.name == AUTHORS_ORDER[clip.targets[0]] for clip in manifest.clips)


def test_noise_hidden_files_and_folders_without_audio_are_no_classes(tmp_path):
    write_corpus(tmp_path, [*FILES, "_background_noise_/pink.wav", "yes/._aaaa0001_nohash_0.wav"])
    for name in ("notes/readme.txt", ".git/x.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    manifest = speech_commands(tmp_path)
    assert (manifest.classes, len(manifest.clips)) == (("no", "yes"), len(FILES))


def test_a_pipe_is_no_clip(tmp_path):
    os.mkfifo(write_corpus(tmp_path) / "yes" / "dddd0004_nohash_0.wav")
    (tmp_path / "pipes").mkdir()
    os.mkfifo(tmp_path / "pipes" / "dddd0004_nohash_0.wav")
    manifest = speech_commands(tmp_path)
    assert manifest.classes == ("no", "yes")
    assert [clip.path.relative_to(tmp_path).as_posix() for clip in manifest.clips] == sorted(FILES)


def test_files_prepared_as_flac_are_found_where_the_lists_say_wav(tmp_path):
    files = [name.replace(".wav", ".flac") for name in FILES]
    splits = Counter(clip.split for clip in speech_commands(write_corpus(tmp_path, files)).clips)
    assert splits == {"train": 2, "validation": 2, "test": 1}


# Speakers of V2 with the official list that they are in.
@pytest.mark.parametrize(
    ("speaker", "split"),
    [
        *[(name, "validation") for name in ("a69b9b3e", "439c84f4", "ff2b842e", "060cd039")],
        *[(name, "test") for name in ("bb05582b", "97f4c236", "c7124b73", "0c40e715")],
        ("9b306ab0", "train"),
    ],
)
def test_the_hash_of_the_speaker_gives_the_official_split(tmp_path, speaker, split):
    write_corpus(
        tmp_path, [f"yes/{speaker}_nohash_3.wav", f"no/{speaker}_nohash_0.flac"], None, None
    )
    assert [clip.split for clip in speech_commands(tmp_path).clips] == [split, split]


def test_a_name_without_nohash_is_hashed_whole_with_its_suffix():
    for stem in ("hello", "9b306ab0", "0c40e715_1"):
        percent = int(hashlib.sha1(f"{stem}.wav".encode()).hexdigest(), 16) % 2**27 / 2**27 * 100
        assert hash_split(stem) == (
            "validation" if percent < 10 else "test" if percent < 20 else "train"
        )


def test_the_hash_puts_a_tenth_into_each_list():
    counts = Counter(hash_split(f"speaker{number}_nohash_0") for number in range(5000))
    assert 430 < counts["validation"] < 570 and 430 < counts["test"] < 570


@pytest.mark.parametrize("absent", ["validation", "test"])
def test_one_list_without_the_other_is_refused(tmp_path, absent):
    message = refusal(write_corpus(tmp_path, **{absent: None}), FileNotFoundError)
    assert "expected both lists or neither" in message


def test_a_file_of_a_list_that_is_missing_is_named(tmp_path):
    write_corpus(tmp_path, test=(*TEST, "no/dddd0004_nohash_0.wav", "up/x_nohash_0.wav"))
    message = refusal(tmp_path, FileNotFoundError)
    assert "lacks 2 of the 3 files that" in message and "testing_list.txt names" in message
    assert "'no/dddd0004_nohash_0.wav'" in message


@pytest.mark.parametrize(
    "entry",
    ["../x.wav", "/etc/x.wav", "no/../../x.wav", "a/b/c.wav", "x.wav", "..\\x.wav", "C:\\x.wav"],
)
def test_an_entry_that_leads_elsewhere_is_refused_with_its_line(tmp_path, entry):
    message = refusal(write_corpus(tmp_path, validation=(*VALIDATION, entry)))
    assert f"validation_list.txt, line 3: {entry!r}: expected <word>/<file name>" in message


def test_a_file_in_both_lists_is_refused(tmp_path):
    message = refusal(write_corpus(tmp_path, test=(*TEST, VALIDATION[1])))
    assert "testing_list.txt, line 2: no/bbbb0002_nohash_0 is in validation_list.txt" in message


def test_windows_line_ends_and_blank_lines_are_tolerated(tmp_path):
    write_corpus(tmp_path)
    (tmp_path / "testing_list.txt").write_bytes(b"\r\n" + TEST[0].encode() + b"\r\n\r\n")
    assert len(speech_commands(tmp_path).in_split("test")) == 1


def test_a_list_that_is_no_text_is_refused(tmp_path):
    (write_corpus(tmp_path) / "testing_list.txt").write_bytes(b"\xff\xfe\x00")
    assert "testing_list.txt, line 1 holds a zero byte" in refusal(tmp_path)


def test_a_recording_in_two_formats_is_refused(tmp_path):
    write_corpus(tmp_path, [*FILES, "no/cccc0003_nohash_0.flac"])
    assert "cccc0003_nohash_0.flac and cccc0003_nohash_0.wav" in refusal(tmp_path)


def test_a_missing_or_an_empty_folder_says_how_to_get_the_data(tmp_path):
    for root in (tmp_path, tmp_path / "absent"):
        message = refusal(root, FileNotFoundError)
        assert f"ast-audio download speech_commands {root}" in message


def test_the_real_digits_have_ten_words_and_the_splits_of_their_lists(recordings):
    manifest = speech_commands(recordings / "spoken_digits")
    assert len(manifest.clips) == 2000
    assert manifest.classes == (
        *("eight", "five", "four", "nine", "one", "seven", "six", "three", "two", "zero"),
    )
    splits = Counter(clip.split for clip in manifest.clips)
    assert splits == {"train": 1600, "validation": 200, "test": 200}
    assert len({clip.group for clip in manifest.clips}) == 4
