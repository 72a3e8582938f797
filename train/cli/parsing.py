"""How a command line is read: what a word means, what `--help` shows, how a word is refused."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import logging
import math
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import (
    MISSING,
    Field,
    dataclass,
    field,
    fields,
    is_dataclass,
    make_dataclass,
    replace,
)
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg
from tyro.constructors import PrimitiveConstructorSpec

from data.corpora.table import option
from train.cli import PROGRAM
from train.cli.spelling import did_you_mean, nearest_first

Options = TypeVar("Options")

USED_MOST = (
    *("data", "corpus", "out", "fold", "folds", "seeds", "rows", "init_from", "preset", "epochs"),
    *("batch_size", "learning_rate", "num_frames", "seed", "device"),
)
"""What `--help` of a command with a recipe shows first; the rest by subject."""
ALIASES = {"--lr": "--learning-rate"}  # of another name, what everybody types
NO_OPTION = {"option": False}  # metadata of a field that no option sets
GIVEN = "given"  # a field of this name receives the names of the options on the command line
SWITCHED = ("yes", "no", "true", "false", "on", "off", "1", "0")
DASH = "[-\u2010-\u2015]"  # word processors and web pages make a hyphen one of these

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Option:
    """A field of an options dataclass, or of one within it."""

    name: str
    hint: Any  # its type, with what tyro is told of it
    default: Any  # `tyro.MISSING` where it has to be given
    help: str
    group: tuple[str, type] | None  # the field that holds its dataclass, and the dataclass

    @property
    def is_switch(self) -> bool:
        return bool in (_bare(self.hint), *get_args(_bare(self.hint)))

    @property
    def spellings(self) -> tuple[str, ...]:
        """How it is typed; nothing for what has a place instead of a name."""
        if Positional in get_args(self.hint)[1:]:
            return ()
        negative = (option(f"no_{self.name}"),) if self.is_switch else ()
        return (option(self.name), *negative)

    def invocation(self, lines: Iterable[str]) -> str | None:
        """The line that shows what is typed for it: "--data PATH", "MODEL"."""
        shown = (getattr(told, "metavar", None) for told in get_args(self.hint)[1:])
        metavar = next((each for each in shown if each), None)
        starts = {*self.spellings, *([] if self.spellings else [metavar])}
        return next((line for line in lines if line.partition(" ")[0] in starts), None)


def read_options(
    kind: type[Options],
    words: Sequence[str],
    command: str,
    default: Options | None = None,
    from_data: Collection[str] = (),
) -> Options:
    """The options that these words give.

    A word that begins a single option is that option, and it is said so.

    Args:
        kind: a dataclass whose fields, and those of dataclasses within it, are the options.
        default: an instance that gives the options' defaults.
        from_data: fields whose default the data decide; `--help` says so.

    Raises:
        ValueError: the words do not fit.
        SystemExit: `--help` was asked for, and is printed.
    """
    chosen = arg(help_behavior_hint="(default: chosen by the data)")
    options = [
        replace(each, hint=Annotated[each.hint, chosen]) if each.name in from_data else each
        for each in options_of(kind, default)
    ]
    program, description = f"{PROGRAM} {command}", inspect.cleandoc(kind.__doc__)
    words = spelt_out(words, options, program)
    complaint, shown = io.StringIO(), _shown(kind, options)
    try:
        with contextlib.redirect_stderr(complaint):
            read = tyro.cli(shown, args=words, prog=program, description=description)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(_one_line(complaint.getvalue(), words, options, program)) from None
    by_spelling = _by_spelling(options)
    given = frozenset(by_spelling[_typed(word)] for word in words if _typed(word) in by_spelling)
    return _filled(kind, {**_flat(read), GIVEN: given})


def _flat(read: Any) -> dict[str, Any]:
    """The fields of a dataclass and of those within it."""
    values = {}
    for name, value in vars(read).items():
        values |= _flat(value) if is_dataclass(value) else {name: value}
    return values


def _filled(kind: type, values: Mapping[str, Any]) -> Any:
    """A dataclass, and those within it, of these values."""
    inner = {name: _bare(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
    return kind(
        **{
            name: _filled(each, values) if is_dataclass(each) else values[name]
            for name, each in inner.items()
            if is_dataclass(each) or name in values
        }
    )


# What a word means.


def spelt_out(words: Sequence[str], options: Sequence[Option], program: str) -> list[str]:
    """The words with every option in full.

    Raises:
        ValueError: a word means no option or several, or a switch is given a value.
    """
    switches = {each for option in options if option.is_switch for each in option.spellings}
    whole: list[str] = []
    for word in words:
        if whole and whole[-1] in switches and word.lower() in SWITCHED:
            name = whole[-1].removeprefix("--").removeprefix("no-")
            raise ValueError(f"{whole[-1]} takes no value: give --{name} or --no-{name} alone")
        whole.append(_in_full(word, options, program))
    return whole


def _in_full(word: str, options: Sequence[Option], program: str) -> str:
    typed, by_spelling = _typed(word), _by_spelling(options)
    if ALIASES.get(typed) in by_spelling:
        return ALIASES[typed] + word.removeprefix(typed)
    known = typed in by_spelling or word in ("-h", "--help") or typed.startswith("--tyro-")
    if known or not re.match(f"{DASH}{{1,2}}[A-Za-z]", word):
        return word
    name = word.partition("=")[0]
    begun = {by_spelling[each]: each for each in by_spelling if typed and each.startswith(typed)}
    if len(begun) == 1:
        (meant,) = begun.values()
        logger.warning(f"{name} is taken as {meant}")
        return meant + word.removeprefix(name)
    if any(typed == option(each.name) for each in options):
        raise ValueError(f"{name} is no option: give its value alone{_see(program)}")
    near = did_you_mean(name, by_spelling) or _see(program)
    raise ValueError(f"no option {name}{near}")


def _typed(word: str) -> str:
    """A word up to its value, with hyphens, if it is written as an option."""
    return word.partition("=")[0].replace("_", "-") if word.startswith("--") else ""


def _by_spelling(options: Iterable[Option]) -> dict[str, str]:
    """The name of the option that each spelling means."""
    return {each: option.name for option in options for each in option.spellings}


# The options of a dataclass, and the dataclass of the same options that tyro is shown.


def options_of(
    kind: type, default: Any = None, group: tuple[str, type] | None = None
) -> Iterator[Option]:
    """The fields of a dataclass, and in their place those of dataclasses within it."""
    hints, texts = get_type_hints(kind, include_extras=True), documented(kind)
    for each in fields(kind):
        if not each.metadata.get("option", True):
            continue
        value = _default(each) if default is None else getattr(default, each.name)
        inner = _bare(hints[each.name])
        if is_dataclass(inner):
            value = None if value is tyro.MISSING else value
            yield from options_of(inner, value, (each.name, inner))
        else:
            yield Option(each.name, hints[each.name], value, texts.get(each.name, ""), group)


def _bare(hint: Any) -> Any:
    """A type without what tyro is told of it."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _default(each: Field) -> Any:
    if each.default is not MISSING:
        return each.default
    return tyro.MISSING if each.default_factory is MISSING else each.default_factory()


def documented(kind: type) -> dict[str, str]:
    """What is written below each field of a dataclass, as one line; of fields as options."""
    texts: dict[str, str] = {}
    for each in reversed([each for each in kind.__mro__ if is_dataclass(each)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0].body
        for statement, below in pairwise(body):
            match statement, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    texts[name] = " ".join(text.split())
    return texts


def _shown(kind: type, options: Sequence[Option]) -> type:
    """A dataclass of these options; with a recipe's, what is used most comes first."""
    used_most = USED_MOST if any(each.name == "recipe" for each in fields(kind)) else ()
    first: list[Option] = []
    groups: dict[str, list[Option]] = {}
    for each in options:
        if each.name in used_most or not (used_most or each.group):
            first.append(each)
        else:
            name = each.group[0] if each.group else "other"
            groups.setdefault("other" if name == "recipe" else name, []).append(each)
    first.sort(key=lambda each: used_most.index(each.name) if used_most else 0)
    entries = [_entry(each, options) for each in first]
    for name in sorted(groups, key="other".__eq__):
        doc = "" if name == "other" else groups[name][0].group[1].__doc__
        members = [_entry(each, options) for each in groups[name]]
        group = make_dataclass(name, members, kw_only=True, namespace={"__doc__": doc})
        told = OmitArgPrefixes[Annotated[group, arg(name=name)]]
        entries.append((f"{name}_group", told, field(default_factory=group)))
    return make_dataclass(kind.__name__, entries, kw_only=True)


def _entry(each: Option, options: Sequence[Option]) -> tuple[str, Any, Any]:
    """A field for `make_dataclass`. tyro would break help's lines where the source does."""
    also = "".join(f" Or {alias}." for alias in ALIASES if ALIASES[alias] in each.spellings)
    told = [arg(help=f"{_with_options(each.help, options)}{also}" or None)]
    if not any(isinstance(known, PrimitiveConstructorSpec) for known in get_args(each.hint)[1:]):
        told += _numbers(_bare(each.hint))
    if each.default == "":
        told.append(arg(help_behavior_hint=""))
    default = field() if each.default is tyro.MISSING else field(default=each.default)
    return each.name, Annotated[(each.hint, *told)], default


def _with_options(text: str, options: Sequence[Option]) -> str:
    """A text for the command line: the fields in it as options."""
    names = {each.name for each in options if each.spellings}
    return re.sub(
        r"`(\w+)`", lambda found: option(found[1]) if found[1] in names else found[0], text
    )


# How values are read.


def one_word(
    read: Callable[[str], Any], metavar: str, choices: tuple[str, ...] | None = None
) -> PrimitiveConstructorSpec[Any]:
    """How an option of one word is read, whose default may be None."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: True,
        str_from_instance=lambda value: [str(value)],
        choices=choices,
    )


def number(word: str, kind: type) -> Any:
    """An int or a float, of a word."""
    try:
        value = kind(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{word!r} is not a {'whole number' if kind is int else 'number'}")
    return value


def _numbers(kind: Any) -> list[PrimitiveConstructorSpec[Any]]:
    """How a number or a pair of them is read, or None as a default; nothing for other types."""
    if isinstance(kind, UnionType):
        kind, *others = [each for each in get_args(kind) if each is not NoneType]
        if others:
            return []
    kinds = get_args(kind) if get_origin(kind) is tuple else (kind,)
    if not set(kinds) <= {int, float}:
        return []
    if len(kinds) == 1:
        return [one_word(lambda word: number(word, kind), kind.__name__.upper())]
    read = lambda words: tuple(map(number, words, kinds))  # noqa: E731
    return [
        PrimitiveConstructorSpec(
            nargs=len(kinds),
            metavar=" ".join(each.__name__.upper() for each in kinds),
            instance_from_str=read,
            is_instance=lambda value: True,
            str_from_instance=lambda value: [str(each) for each in value or kinds],
        )
    ]


# How tyro's complaint, a box of several lines, is said in one.


def _one_line(box: str, words: Sequence[str], options: Sequence[Option], program: str) -> str:
    text = _folded(box)
    if found := re.match(r"Error parsing (\S+): (.*?)(; Argument helptext|$)", text):
        return f"{found[1]}: {found[2]}"
    if found := re.match(r"Missing value for argument '(\S+)'\. Expected (\d+)", text):
        return f"{found[1]} needs {'a value' if found[2] == '1' else f'{found[2]} values'}"
    if found := re.match(r"invalid choice '(.*)' for argument '(\S+)'\. .*? \((.*)\)", text):
        word, name, choices = found[1], found[2], re.findall(r"'(.*?)'", found[3])
        name = name if name.startswith("--") else name.upper()
        return f"{name} {word!r} is unknown; use one of {', '.join(nearest_first(word, choices))}"
    lines = {line.strip("│ ") for line in box.splitlines()}
    stray = _stray(text, words)
    needed = [each for each in options if each.default is tyro.MISSING]
    if missing := [found for each in needed if (found := each.invocation(lines))]:
        named = [each.partition(" ")[0] for each in missing if each.startswith("--")]
        near = f"; did you mean {named[0]} {stray}?" if named and stray else _see(program)
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing{near}"
    if stray:
        near = did_you_mean(stray.partition("=")[0], _by_spelling(options)) or _see(program)
        return f"{stray!r} belongs to no option{near}"
    return text


def _stray(text: str, words: Sequence[str]) -> str:
    """The first word that belongs to no option; "" if there is none."""
    found = re.search(r"Unrecognized options: (.*)", text)
    return max((word for word in words if found and found[1].startswith(word)), key=len, default="")


def _see(program: str) -> str:
    return f"; `{program} --help` explains the options"


def _folded(box: str) -> str:
    """The words inside the frame that tyro draws around an error, a rule in it as a semicolon.

    Where the terminal has no box characters, the frame is a title and rules of hyphens.
    """
    lines = (line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:-1])
    text = " ".join(";" if set(line) <= set("─-") else line for line in lines if line)
    return re.sub(r"\s+;", ";", text.strip("; "))
