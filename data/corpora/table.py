"""A table of clips (CSV, TSV, Parquet): a row for each file, with its labels and its split."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, filterfalse
from pathlib import Path
from typing import Any

from data.corpora.segments import is_table_of_segments, reviewed_labels
from data.files import (
    csv_rows,
    existing_file,
    is_one_line,
    missing_files,
    open_parquet,
    parquet_columns,
    require_as_header,
    tables_in,
    text_lines,
)
from data.manifest import Clips, Manifest, control_characters
from data.splits import SPLIT_NAMES

USUAL_NAMES = {
    "path_column": "path file filename filepath fname audio audiofile audiofilename audiopath wav "
    "wavfile wavpath slicefilename",
    "label_column": "label labels class classes classname category categories target targets "
    "species primarylabel tag tags",
    "fold_column": "fold kfold",
    "split_column": "split part subset set partition",
    "group_column": "group groupid speaker speakerid clientid site siteid session sessionid",
}
"""Column names in use, in lower case without spaces, hyphens and underscores."""

WITHOUT = ("", "none")
PARQUET = (".parquet", ".pq")
COLUMN_SEPARATORS = (",", "\t", ";", "|")
LABEL_SEPARATORS = (";", "|")  # these are hardly ever part of a name; a comma may well be


def table(
    path: str | Path,
    root: str | Path | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    fold_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    separator: str | None = None,
    label_separator: str | None = None,
) -> Manifest:
    """The clips that a table lists; no audio is decoded.

    Columns are known by their usual names (`USUAL_NAMES`) or by the arguments. A fold is an
    integer, a split "train", "validation" or "test" or one of `SPLIT_NAMES`, a group any text.

    Several labels in a cell, separated by `;` or `|`, or a list in Parquet, make the data
    multi-label; a cell without a label is then a clip of no class. What a comma in a label means
    must be said by `label_separator`.

    Of the table that `ast-audio segments` writes, known by all its columns, a clip is a segment
    whose verdict is yes, of its label, or a class's name, of that class; the others are counted
    and left out. Those of one recording are a group. With a `label_column` it is a table like any
    other.

    Args:
        path: `.parquet` or `.pq` (needs pyarrow), else text in UTF-8 with a header line.
        root: folder that relative paths start from; None: the table's own.
        path_column, label_column: None finds them; with the label "none", every clip is of no
            class, whatever the table says.
        fold_column, split_column, group_column: None finds them, "" or "none" goes without.
        separator: of the columns of a text; None: the most frequent of comma, tab, `;` and `|` in
            its header line.
        label_separator: of the labels in a cell; "" or "none": each cell is one label, whatever it
            holds.

    Returns:
        A manifest with the clips in the order of the table and the classes sorted by name, or by
        value if all of them are integers.

    Raises:
        FileNotFoundError: no such table, or files that it names are missing.
        ValueError: columns missing or ambiguous, a cell that is not as above, a file listed twice,
            or a table that cannot be read.
    """
    path = Path(path)
    _require_table(path)
    given = (path_column, label_column, fold_column, split_column, group_column)
    names = _header(path, separator)
    columns = _columns(path, names, given)
    is_reviewed = label_column is None and is_table_of_segments(names)
    if is_reviewed:
        columns |= {"verdict": "verdict"}
        if group_column is None:
            columns["group_column"] = columns["group_column"] or "recording"
        label_separator = label_separator or "none"
    cells, lines = _read(path, separator, columns)
    if not lines:
        raise ValueError(f"{path} has no rows: expected one for each clip")
    if is_reviewed:
        cells, lines = _reviewed(path, cells, lines)
    files = _files(path, root, lines, cells.pop("path_column"))
    cells_of_labels = cells.pop("label_column")
    labels, multi_label = [()] * len(lines), True
    if cells_of_labels is not None:
        labels, multi_label = parse_labels(cells_of_labels, lines, label_separator)
    classes = sort_classes(chain.from_iterable(set(labels)))
    folds = _parsed(cells["fold_column"], lines, parse_fold)
    splits = _parsed(cells["split_column"], lines, parse_split)
    groups = [parse_group(cell) for cell in cells["group_column"] or [None] * len(lines)]
    clips = labelled_clips(files, labels, classes, folds, splits, groups)
    return Manifest(path.stem, clips, classes, multi_label)


def _require_table(path: Path) -> None:
    if path.is_dir():
        tables = tables_in(path)
        remedy = "it holds none; a folder of class folders is --corpus folder"
        if tables:
            remedy = f"give {' or '.join(map(str, tables[:3]))}"
        raise ValueError(f"{path} is a folder: expected a CSV, TSV or Parquet file; {remedy}")
    if not path.is_file():
        raise FileNotFoundError(f"no table {path}: expected a CSV, TSV or Parquet file")


def _columns(
    path: Path, names: Sequence[str], given: Sequence[str | None]
) -> dict[str, str | None]:
    """The name of each column of `USUAL_NAMES`, None for one that the table goes without."""
    columns = {
        argument: find_column(names, argument, column, str(path))
        for argument, column in zip(USUAL_NAMES, given, strict=True)
    }
    if columns["fold_column"] and columns["split_column"]:
        raise ValueError(
            f"{path} has folds in {columns['fold_column']!r} and splits in "
            f"{columns['split_column']!r}: expected one of them; leave one out with "
            "--fold-column none or --split-column none"
        )
    return columns


def labelled_clips(
    files: Iterable[str],
    labels: Sequence[tuple[str, ...]],
    classes: Sequence[str],
    folds: Iterable[int | None],
    splits: Iterable[str | None],
    groups: Iterable[str | None],
) -> Clips:
    """Clips of these files, with their labels as indices of `classes`."""
    index = {name: target for target, name in enumerate(classes)}
    targets_of = {names: tuple(sorted(index[name] for name in names)) for names in set(labels)}
    targets = (targets_of[names] for names in labels)
    return Clips.of_rows(zip(files, targets, folds, splits, groups, strict=True))


def _parsed(
    cells: list[Any] | None, lines: Sequence[str], parse: Callable[[object, str], Any]
) -> list[Any]:
    """What each cell of a column with few different ones says; None for all without a column."""
    if cells is None:
        return [None] * len(lines)
    known = {}
    for row, cell in enumerate(cells):
        if isinstance(cell, list):
            raise ValueError(f"{lines[row]}: expected one fold or split, not the list {cell!r:.60}")
        if cell not in known:
            known[cell] = parse(cell, lines[row])
    return [known[cell] for cell in cells]


def _reviewed(
    path: Path, cells: dict[str, list[Any] | None], lines: Sequence[str]
) -> tuple[dict[str, list[Any] | None], Sequence[str]]:
    """The rows of a table of segments that have a class by their verdict, with that as label."""
    labels = reviewed_labels(path, cells["label_column"], cells.pop("verdict"), lines)
    kept = {name: column and [column[row] for row in labels] for name, column in cells.items()}
    return kept | {"label_column": [*labels.values()]}, [lines[row] for row in labels]


def _files(path: Path, root: str | Path | None, lines: Sequence[str], names: list) -> list[str]:
    """The file of each row: present, and no other row's."""
    folder = str(path.parent if root is None else Path(root))
    files, missing = [], []
    for row, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise ValueError(f"{lines[row]}: expected the path of an audio file, not {name!r:.200}")
        files.append(existing_file(folder, name))
        if files[-1] is None:
            missing.append(name)
    _require_each_once(files, lines, names)
    if missing:
        remedy = "complete the folder, or correct the paths in the table, which start there"
        raise missing_files(Path(folder), path, missing, len(names), remedy)
    return files


def _require_each_once(files: list[str | None], lines: Sequence[str], names: list[str]) -> None:
    plain = [file and os.path.normpath(file) for file in files]
    if len(set(plain)) == len(plain):
        return
    row_of: dict[str, int] = {}
    for row, file in enumerate(plain):
        if file and row_of.setdefault(file, row) != row:
            first = lines[row_of[file]]
            raise ValueError(
                f"{lines[row]}: {names[row]!r:.200} is listed in {first} already: expected one row "
                "for a file; remove one, or write all labels of the file into one cell as dog;cat"
            )


# What a table shares with other data that come in columns.


def find_column(names: Sequence[str], argument: str, given: str | None, source: str) -> str | None:
    """The column that an argument of `table` names or, where it is None, the one of a usual name.

    None where there is no fold, split or group, or no label is wanted.
    """
    optional = argument not in ("path_column", "label_column")
    if given in WITHOUT and argument != "path_column":
        return None
    usual = USUAL_NAMES[argument].split()
    found = [name for name in names if (_plain(name) in usual if given is None else name == given)]
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        raise ValueError(
            f"{source}: the columns {_listed(found):.200} could each be meant: "
            f"expected one; name it with {option(argument)}"
        )
    if given is None and optional:
        return None
    wanted = "of a usual name" if given is None else repr(given)
    raise ValueError(
        f"{source} has no column {wanted}: give {option(argument)}, one of {_listed(names):.200}"
    )


def option(argument: str) -> str:
    """What the command line calls an argument or a recipe's field."""
    return f"--{argument.replace('_', '-')}"


def _plain(name: str) -> str:
    return name.lower().translate(str.maketrans("", "", " -_"))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:20])) + (" ..." if len(names) > 20 else "")


def parse_labels(
    cells: Sequence[object], lines: Sequence[str], separator: str | None
) -> tuple[list[tuple[str, ...]], bool]:
    """The names in each label cell, as `table` describes them, and whether they are multi-label.

    Args:
        cells: text, numbers, None, or lists of them.
        lines: the file and line of each cell, for errors.
        separator: `label_separator` of `table`.
    """
    labels, multi_label = _split_labels(cells, lines, separator)
    for name in filterfalse(is_one_line, chain.from_iterable(set(labels))):
        row = next(row for row, names in enumerate(labels) if name in names)
        raise control_characters(name, lines[row])
    return labels, multi_label


def _split_labels(
    cells: Sequence[object], lines: Sequence[str], separator: str | None
) -> tuple[list[tuple[str, ...]], bool]:
    for row, cell in enumerate(cells):
        if isinstance(cell, list) and any(isinstance(name, list | dict | bytes) for name in cell):
            raise ValueError(f"{lines[row]}: expected labels, not {cell!r:.60}")
    if any(isinstance(cell, list) for cell in cells):
        lists = [cell if isinstance(cell, list) else [cell] for cell in cells]
        return [tuple({_text(name): None for name in cell if _text(name)}) for cell in lists], True
    texts = [_text(cell) for cell in cells]
    distinct = dict.fromkeys(texts)
    for text in distinct:
        if text.startswith("[") and text.endswith("]") and separator not in WITHOUT:
            raise ValueError(
                f"{lines[texts.index(text)]}: {text!r:.200} is a list written as text: expected "
                "labels as in dog;cat; write them so, or give --label-separator none if it is one "
                "class"
            )
    if separator is None:
        separator = _label_separator(distinct, lambda text: lines[texts.index(text)])
    if separator in WITHOUT:
        separator = ""
    if separator:
        split = {text: [name.strip() for name in text.split(separator)] for text in distinct}
        names_of = {text: tuple(dict.fromkeys(filter(None, split[text]))) for text in distinct}
        return [names_of[text] for text in texts], True
    if "" in distinct:
        line = lines[texts.index("")]
        raise ValueError(f"{line} has no label: expected one; add it or remove the row")
    names_of = {text: (text,) for text in distinct}
    return [names_of[text] for text in texts], False


def _text(cell: object) -> str:
    missing = cell is None or cell != cell  # NaN is what pandas has for a cell without a value
    return "" if missing else str(cell).strip()


def _label_separator(texts: Iterable[str], line_of: Callable[[str], str]) -> str:
    """What separates labels, or "" where every cell is one label; an error where that is open."""
    found = [separator for separator in LABEL_SEPARATORS if any(separator in t for t in texts)]
    if len(found) == 1:
        return found[0]
    doubtful = next((text for text in texts if found or "," in text), None)
    if doubtful is None:
        return ""
    raise ValueError(
        f"{line_of(doubtful)}: the label {doubtful!r:.300} may be one class or several: "
        "expected `;` or `|` between labels; give --label-separator, none if it is one class"
    )


def sort_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Every name once, in alphabetical order, or by value where all of them are integers."""
    unique = sorted(set(names))
    try:
        return tuple(sorted(unique, key=int))
    except ValueError:
        return tuple(unique)


def parse_fold(cell: object, line: str) -> int:
    """The number of a fold; a ValueError that names the line where it is none."""
    fold = _text(cell)
    try:
        return int(fold)
    except ValueError:
        raise ValueError(
            f"{line}: fold {fold!r:.200}: expected an integer; correct it, "
            "or give --fold-column none to go without"
        ) from None


def parse_split(cell: object, line: str) -> str:
    """The split that one of `SPLIT_NAMES` means; a ValueError that names the line for others."""
    split = _text(cell)
    if split.lower() not in SPLIT_NAMES:
        raise ValueError(
            f"{line}: split {split!r:.200}: expected train, validation or test; correct it, "
            "or give --split-column none to go without"
        )
    return SPLIT_NAMES[split.lower()]


def parse_group(cell: object) -> str | None:
    """The group that a cell names."""
    return _text(cell) or None


# Reading the two kinds of file.


def _header(path: Path, separator: str | None) -> list[str]:
    if path.suffix.lower() in PARQUET:
        with open_parquet(path) as file:
            return file.schema_arrow.names
    return next(csv_rows(path, _separator(path, separator)), (1, []))[1]


class _Lines(Sequence[str]):
    """The file and line of each row, for errors: made where one is asked for."""

    def __init__(self, path: Path, noun: str, numbers: Sequence[int]) -> None:
        self.start, self.numbers = f"{path}, {noun}", numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, row: int) -> str:
        return f"{self.start} {self.numbers[row]}"


def _read(
    path: Path, separator: str | None, columns: dict[str, str | None]
) -> tuple[dict[str, list[Any] | None], _Lines]:
    """The cells of each argument's column, None for one without, and the line of each row."""
    names = list(dict.fromkeys(filter(None, columns.values())))
    if path.suffix.lower() in PARQUET:
        count, cells = parquet_columns(path, names)
        lines = _Lines(path, "row", range(1, 1 + count))
    else:
        cells, lines = _read_text(path, separator, names)
    return {argument: cells.get(name) for argument, name in columns.items()}, lines


def _read_text(
    path: Path, separator: str | None, names: list[str]
) -> tuple[dict[str, list[str]], _Lines]:
    numbers = array("q")
    rows = csv_rows(path, _separator(path, separator))
    _, header = next(rows)
    columns = [(header.index(name), []) for name in names]
    for number, cells in rows:
        if len(cells) != len(header):
            require_as_header(path, number, cells, header)
        numbers.append(number)
        for index, column in columns:
            column.append(cells[index])
    found = {name: column for name, (_, column) in zip(names, columns, strict=True)}
    return found, _Lines(path, "line", numbers)


def _separator(path: Path, given: str | None) -> str:
    if given is None:
        header = next(text_lines(path), "")
        return max(COLUMN_SEPARATORS, key=header.count)
    if len(given) != 1 or given in '\r\n"':
        raise ValueError(f"separator {given!r}: expected one character, as ',' or a tab")
    return given
