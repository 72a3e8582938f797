"""Audio data sets in the form of Hugging Face, from their Hub or from disk; clips become files."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from data.corpora.table import (
    PARQUET,
    find_column,
    labelled_clips,
    parse_fold,
    parse_group,
    parse_labels,
    sort_classes,
)
from data.files import atomic_file, cache_folder, open_parquet, require_packed
from data.manifest import SPLITS, Manifest
from data.splits import SPLIT_NAMES

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
SAVED_TO_DISK = ("dataset_dict.json", "state.json")  # written by save_to_disk
SUFFIXES = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"FORM": ".aiff"}

logger = logging.getLogger(__name__)


def hugging_face(
    source: str | Path,
    config: str | None = None,
    revision: str | None = None,
    splits: Mapping[str, str] | None = None,
    audio_column: str | None = None,
    label_column: str | None = None,
    fold_column: str | None = None,
    group_column: str | None = None,
    label_separator: str | None = None,
    cache: str | Path | None = None,
    streaming: bool = False,
) -> Manifest:
    """A Hugging Face audio data set, its clips written to files; nothing is decoded.

    The bytes of each clip go to `cache` unchanged, once, in a file named by their hash. Files of a
    local folder that are not inside Parquet or Arrow files are used where they lie.

    Args:
        source: an id on the Hub, "owner/name"; or a folder that `save_to_disk` wrote, a folder of
            Parquet files, a folder in the form "audiofolder", or one Parquet file.
        config: which of the data set's configurations (subsets), where it has several.
        revision: branch, tag or commit on the Hub.
        splits: which of the data set's splits to take, and which split of ours each is, as
            {"train.100": "train", "test.clean": "test"}; None: all, which must have usual names. A
            data set with the one split "train" is taken to have none.
        audio_column: None finds the one that holds audio.
        label_column, fold_column, group_column, label_separator: as for `data.table`. The labels
            may be of type ClassLabel, text, integer, or lists of these (multi-label).
        cache: folder for the clips; None: `cache_folder("hugging_face")`.
        streaming: keep no copy of a data set from the Hub beside the clips.

    Returns:
        A manifest with the classes in the order of the ClassLabel, else sorted as by `data.table`.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: the package `datasets` is missing (extra `hf`) or cannot open the source; a
            local Parquet file is damaged, or holds more than its size explains; a split, column or
            label is not as above; a clip without audio, or outside the data set.
    """
    source = str(source)
    data, audio_type = _open(source, config, revision, streaming)
    splits = _splits(source, list(data), splits)
    features = _features(source, {name: data[name] for name in splits})
    if set(splits.values()) != {None}:
        if fold_column:
            raise ValueError(
                f"{source} has the splits {', '.join(splits)} already: expected no fold_column, "
                "or with splits only those of one split"
            )
        fold_column = ""
    given = {"label_column": label_column, "fold_column": fold_column, "group_column": group_column}
    columns = {"audio": _audio_column(source, features, audio_column)}
    others = [name for name in features if name != columns["audio"]]
    for argument, column in given.items():
        columns[argument] = find_column(others, argument, column, source)

    folder = cache_folder("hugging_face") if cache is None else Path(cache)
    logger.info(f"{source}: clips that are not files of their own go to {folder}")
    rows = list(_rows(source, data, splits, columns, audio_type, folder))
    if not rows:
        raise ValueError(f"{source} has no clips in {', '.join(splits)}: expected some")
    cells, lines = [row.cell for row in rows], [row.line for row in rows]
    names, labels, multi_label = [], [()] * len(rows), True
    if columns["label_column"]:
        names = [*map(str.strip, _class_names(features[columns["label_column"]]) or ())]
        if names:
            cells, label_separator = [_named(cell, names) for cell in cells], ""
        labels, multi_label = parse_labels(cells, lines, label_separator)
    classes = tuple(names or sort_classes(label for clip in labels for label in clip))
    folds, clip_splits, groups = zip(
        *((row.fold, row.split, row.group) for row in rows), strict=True
    )
    files = (str(row.file) for row in rows)
    clips = labelled_clips(files, labels, classes, folds, clip_splits, groups)
    return Manifest(Path(source).name, clips, classes, multi_label)


def _open(
    source: str, config: str | None, revision: str | None, streaming: bool
) -> tuple[dict[str, Any], Any]:
    """The splits by name, and the type to read their audio as: bytes or a path, not decoded."""
    try:
        import datasets
        from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder
    except ImportError as error:
        raise ValueError(
            f"{source}: Hugging Face data sets need the package datasets; "
            "install it with `pip install 'ast-audio[hf]'`"
        ) from error
    local = Path(source).absolute()
    if not local.exists() and not HUB_ID.fullmatch(source):
        raise FileNotFoundError(
            f"no {source}: expected a file, a folder, or an id on the Hub as owner/name"
        )
    with _in_one_line(source):
        if any((local / name).is_file() for name in SAVED_TO_DISK):
            data = datasets.load_from_disk(str(local))
            splits = data if isinstance(data, dict) else {"train": data}
            return splits, datasets.Audio(decode=False)
        if local.is_file():
            builder = datasets.load_dataset_builder("parquet", data_files=str(local))
        elif local.is_dir():
            builder = datasets.load_dataset_builder(str(local), config)
        else:
            builder = datasets.load_dataset_builder(source, config, revision=revision)
            _announce(source, builder, streaming)
    if local.exists():
        _require_packed(local, builder)
    with _in_one_line(source):
        # As Audio, the files of an "audiofolder" would have to be decoded.
        is_folder = isinstance(builder, AudioFolder)
        audio_type = datasets.Value("string") if is_folder else datasets.Audio(decode=False)
        # Local data are read where they are: a copy would only cost space.
        if streaming or is_folder or local.exists():
            return builder.as_streaming_dataset(), audio_type
        builder.download_and_prepare()
        return builder.as_dataset(), audio_type


def _require_packed(local: Path, builder: Any) -> None:
    """Raise where a Parquet file of local data holds more than its size explains."""
    files = [Path(file) for files in (builder.config.data_files or {}).values() for file in files]
    for file in files:
        if file == local or file.suffix.lower() in PARQUET:
            with open_parquet(file) as parquet:
                require_packed(file, parquet, parquet.schema_arrow.names)


def _announce(source: str, builder: Any, streaming: bool) -> None:
    size = builder.info.download_size
    amount = f"{size / 1e6:.0f} MB" if size else "an unknown amount"
    target = "without keeping it" if streaming else f"to {builder.cache_dir}"
    logger.info(f"{source}: fetching {amount} from huggingface.co {target}")


@contextmanager
def _in_one_line(source: str) -> Iterator[None]:
    """What `datasets` raises, which can be anything, as a ValueError of one line."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise ValueError(
            f"{source} cannot be read as a Hugging Face data set ({reason}): check the name, "
            "the configuration, and the connection if it is on the Hub"
        ) from error


def _splits(
    source: str, names: list[str], splits: Mapping[str, str] | None
) -> dict[str, str | None]:
    """Of each of the data set's splits to be read, which split of ours it is."""
    if not splits:
        if names == ["train"]:  # what the package calls data without splits
            return {"train": None}
        splits = {name: SPLIT_NAMES.get(name.lower(), "") for name in names}
    for name, split in splits.items():
        if name not in names or split not in SPLITS:
            raise ValueError(
                f"{source}, split {name!r} as {split!r}: expected one of {', '.join(names)} as "
                f"one of {', '.join(SPLITS)}; say which is which with splits"
            )
    return dict(splits)


def _features(source: str, data: dict[str, Any]) -> dict[str, Any]:
    """The columns and their types, which are the same in all splits."""
    (first, *others) = [split.features or {} for split in data.values()]
    if any(other != first for other in others):
        raise ValueError(
            f"{source}: the splits {', '.join(data)} differ in their columns or classes: "
            "expected the same in all; choose some with splits"
        )
    return first


def _audio_column(source: str, features: dict[str, Any], given: str | None) -> str:
    found = [
        name
        for name, feature in features.items()
        if (_holds_audio(feature) if given is None else name == given)
    ]
    if len(found) != 1:
        raise ValueError(
            f"{source} has {len(found)} columns that can be the audio: expected one; "
            f"name it with audio_column (--path-column), one of {', '.join(map(repr, features))}"
        )
    return found[0]


def _holds_audio(feature: Any) -> bool:
    # Parquet that was written without the package says no more than what the column consists of.
    return type(feature).__name__ == "Audio" or (isinstance(feature, dict) and "bytes" in feature)


def _class_names(feature: Any) -> list[str] | None:
    """The names of a ClassLabel or of a list of them; None for other types."""
    feature = feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)
    return getattr(feature, "names", None)


def _named(cell: Any, names: list[str]) -> Any:
    """A ClassLabel's index as its name, -1 (no label) and the like as None."""
    if isinstance(cell, list):
        return [_named(label, names) for label in cell]
    return None if cell is None or cell not in range(len(names)) else names[cell]


class _Row(NamedTuple):
    line: str  # data set, split and number, for errors
    file: Path
    cell: Any  # label or labels
    fold: int | None
    split: str | None
    group: str | None


def _rows(
    source: str,
    data: dict[str, Any],
    splits: dict[str, str | None],
    columns: dict[str, str | None],
    audio_type: Any,
    folder: Path,
) -> Iterator[_Row]:
    used = list(dict.fromkeys(filter(None, columns.values())))
    for name, split in splits.items():
        with _in_one_line(source):
            examples = data[name].select_columns(used).cast_column(columns["audio"], audio_type)
            examples = iter(tqdm(examples, f"{source} {name}", unit="clip", disable=None))
        for number in count(1):
            with _in_one_line(source):
                example = next(examples, None)
            if example is None:
                break
            line = f"{source}, split {name}, example {number}"
            yield _Row(
                line,
                _clip_file(example[columns["audio"]], source, folder, line),
                example[label] if (label := columns["label_column"]) else None,
                parse_fold(example[fold], line) if (fold := columns["fold_column"]) else None,
                split,
                parse_group(example[group]) if (group := columns["group_column"]) else None,
            )


def _clip_file(audio: Any, source: str, folder: Path, line: str) -> Path:
    """The clip as a file: its own where it lies in the local source, else one in `folder`."""
    path = audio if isinstance(audio, str) else (audio or {}).get("path")
    content = None if isinstance(audio, str) else (audio or {}).get("bytes")
    if content:
        return _store(content, folder)
    if not path:
        raise ValueError(f"{line} has no audio: expected its bytes or the path of its file")
    if path.startswith(f"hf://datasets/{source}@"):
        from huggingface_hub import HfFileSystem

        with _in_one_line(source):
            content = HfFileSystem().read_bytes(path)
        return _store(content, folder)
    root = Path(source).absolute()
    file = Path(os.path.normpath(root / path))
    if not (file.is_relative_to(root) and file.is_file()):
        raise ValueError(
            f"{line}: {path!r:.200} is no file of this data set: expected the audio inside it; "
            "write the data set anew with its audio embedded"
        )
    return file


def _store(content: bytes, folder: Path) -> Path:
    """The file with this content, written unless it is there already."""
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    # libsndfile goes by the content; the suffix is for people and their players.
    suffix = SUFFIXES.get(content[:4], ".mp3" if content[:3] == b"ID3" else ".audio")
    path = folder / digest[:2] / (digest + suffix)
    if not (path.is_file() and path.stat().st_size == len(content)):
        with atomic_file(path) as temporary:
            temporary.write_bytes(content)
    return path
