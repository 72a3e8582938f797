"""BirdCLEF: labels, groups and splits of a folder as its competitors have it."""

import logging

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data import Clip, Manifest
from data.corpora import open_corpus
from data.corpora.birdclef import parse_list
from data.splits import hold_out
from tests.birdclef_layout import row, write_birdclef

ROWS = [
    row("comrav", "XC1", "Ann", "['amecro', \"barswa\"]"),
    row("amecro", "XC2", "Ann"),
    row("amecro", "XC3", "Bob"),
    row("amecro", "XC4", "Cem", "['houspa']"),
    row("barswa", "XC5", "Bob", "['']"),
    row("barswa", "XC6", "Dee"),
    row("barswa", "XC7"),
]


@pytest.fixture
def touched(tmp_path):
    """Writes the layout with empty files: the corpus decodes none."""

    def write(rows):
        write_birdclef(tmp_path, rows, seconds=0.01)
        return tmp_path

    return write


def test_a_recording_has_its_primary_and_its_secondary_labels(touched, caplog):
    manifest = open_corpus("birdclef", touched(ROWS))
    assert manifest.classes == ("amecro", "barswa", "comrav")
    assert manifest.multi_label
    targets = {clip.path.stem: clip.targets for clip in manifest.clips}
    assert targets["XC1"] == (0, 1, 2)
    assert targets["XC4"] == (0,)
    assert targets["XC5"] == (1,)
    assert "1 secondary labels left out, which are no recording's primary label: houspa" in (
        caplog.text
    )


def test_an_author_is_in_one_split_and_a_species_of_one_recording_trains(touched, caplog):
    caplog.set_level(logging.INFO)
    manifest = open_corpus("birdclef", touched(ROWS))
    assert manifest.splits == ("train", "validation")
    authors = {}
    for clip in manifest.clips:
        authors.setdefault(clip.group, set()).add(clip.split)
    del authors[None]
    assert all(len(splits) == 1 for splits in authors.values())
    split = {clip.path.stem: clip.split for clip in manifest.clips}
    assert split["XC1"] == split["XC2"] == "train"  # the only recording of comrav, and its author's
    assert "of 3 classes have no validation recordings" in caplog.text
    assert "comrav" in caplog.text


def test_without_the_optional_columns_every_file_stands_for_itself(touched):
    rows = [
        {"primary_label": species, "filename": f"{species}/{number}.ogg"}
        for species in ("amecro", "barswa")
        for number in range(10)
    ]
    manifest = open_corpus("birdclef", touched(rows))
    assert set(manifest.clips.groups()) == {None}
    validated = [clip.targets for clip in manifest.in_split("validation")]
    assert sorted(validated) == [(0,), (0,), (1,), (1,)]


@settings(max_examples=100)
@example([(2, 4), (1, 4), (1, 3), (4, 3), (0, 3)])  # stratified, class 2 would only validate
@example([(0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (3, 1)])  # of the first clip alone can be spared
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=2, max_size=30))
def test_every_class_trains_and_groups_stay_together(pairs):
    clips = [
        Clip(f"{number}.ogg", (label,), group=str(group) if group else None)
        for number, (label, group) in enumerate(pairs)
    ]
    manifest = Manifest("birds", clips, tuple("abcde"))
    try:
        splits = hold_out(manifest, 0.2)
    except ValueError:
        units = [(label, group or -number) for number, (label, group) in enumerate(pairs)]
        holders = {label: {unit for other, unit in units if other == label} for label, _ in units}
        only = {next(iter(of_class)) for of_class in holders.values() if len(of_class) == 1}
        assert only == {unit for _, unit in units}
        return
    assert set(splits) == {"train", "validation"}
    trained = {label for (label, _), split in zip(pairs, splits, strict=True) if split == "train"}
    assert trained == {label for label, _ in pairs}
    for group in range(1, 6):
        chosen = (split for (_, g), split in zip(pairs, splits, strict=True) if g == group)
        assert len(set(chosen)) <= 1


@given(st.lists(st.text(st.characters(exclude_characters="'\\\"\n", exclude_categories=["Cs"]))))
def test_a_list_is_read_as_python_writes_it(names):
    names = [name for name in names if name.isprintable()]
    assert parse_list(str(names)) == tuple(
        dict.fromkeys(name.strip() for name in names if name.strip())
    )


@pytest.mark.parametrize(
    "text", ["['a'", "a", "['a' 'b']", "[a]", "__import__('os')", "['a'] + ['b']", "[['a']]"]
)
def test_what_is_no_list_is_not_read(text):
    assert parse_list(text) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"secondary_labels": "barswa"}, "line 2: secondary_labels 'barswa': expected a list as"),
        ({"primary_label": ""}, "line 2: expected a primary_label and a filename"),
        ({"filename": ""}, "line 2: expected a primary_label and a filename"),
        (
            {"filename": "barswa/XC5.ogg"},
            "line 6: 'barswa/XC5.ogg' is listed in .*, line 2",
        ),
        ({"filename": "none.ogg"}, "lacks 1 of the 7 files that .* names, the first is 'none.ogg'"),
        ({"primary_label": "a\tb"}, "its class .* has control characters"),
    ],
)
def test_a_damaged_table_is_one_line(touched, change, message):
    folder = touched(ROWS)
    header = list(ROWS[0])
    rows = [ROWS[0] | change, *ROWS[1:]]
    lines = [",".join(header)]
    lines += [",".join('"' + r[name].replace('"', '""') + '"' for name in header) for r in rows]
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        open_corpus("birdclef", folder)
    assert "\n" not in str(caught.value)


def test_what_is_no_folder_of_birdclef_is_one_line(tmp_path, touched):
    with pytest.raises(FileNotFoundError, match="expected BirdCLEF's table of recordings"):
        open_corpus("birdclef", tmp_path / "none")
    folder = touched(ROWS)
    (folder / "train.csv").write_text("primary_label,filename\n")
    with pytest.raises(ValueError, match="has no rows"):
        open_corpus("birdclef", folder)
    (folder / "train.csv").write_text("label,filename\na,b\n")
    with pytest.raises(ValueError, match="lacks the columns primary_label"):
        open_corpus("birdclef", folder)


def test_recordings_of_one_author_cannot_be_split(touched):
    folder = touched([row("amecro", "XC1", "Ann"), row("barswa", "XC2", "Ann")])
    with pytest.raises(ValueError, match="each is the only one of a class"):
        open_corpus("birdclef", folder)
