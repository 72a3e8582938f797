"""What the options of several commands have in common, and how a command line is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from tyro.conf import DisallowNone, OmitArgPrefixes, Positional, arg
from tyro.constructors import PrimitiveConstructorSpec

from ast_model.token_merging import require_share
from data import Manifest, synthetic
from data.cache import ClipCache
from data.corpora import open_corpus
from train.cli import COMMANDS, PROGRAM
from train.cli.parsing import NO_OPTION, Options, number, one_word, read_options
from train.cli.spelling import did_you_mean
from train.device import choose_device, require_compiler
from train.preparation.choose import AnyRecipe
from train.pretraining.recipe import Pretext
from train.recipe import (
    Augmentation,
    Averaging,
    BaseRecipe,
    Corpus,
    Data,
    Encoder,
    Execution,
    FrontEnd,
    InitialWeights,
    Loss,
    Network,
    Optimisation,
    Recipe,
    Recordings,
    Steps,
)
from train.recipes import RECIPES
from train.run.folder import RECIPE, read_recipe
from train.shards import Shard, read_shard

if TYPE_CHECKING:
    from typing import Self  # Python 3.11

OF_ONE_FOLD = ("train", "pretrain", "audit", "stats")  # commands that take a recipe and --fold


def positional(metavar: str) -> Any:
    """For an argument without a name that has to be there: what `--help` calls it."""
    return arg(metavar=metavar, help_behavior_hint="(required)")


def unless_given(behaviour: str, metavar: str | None = None) -> Any:
    """For an option whose default is None: what happens without it, and what it is to be."""
    return arg(help_behavior_hint=f"(default: {behaviour})", metavar=metavar)


def one_of(choices: Any) -> PrimitiveConstructorSpec[str]:
    """For an option that is one of these words, or None; tyro would list None as a word."""
    words = get_args(choices)
    return one_word(str, f"{{{','.join(words)}}}", words)


def at_least(least: float) -> PrimitiveConstructorSpec[float]:
    """For a number, of the type of the least that it may be; or None."""

    def read(word: str) -> float:
        value = number(word, type(least))
        if value < least:
            raise ValueError(f"{word} is too small; use at least {least:g}")
        return value

    return one_word(read, type(least).__name__.upper())


def _share(word: str) -> float:
    share = number(word, float)
    require_share(share)
    return share


def folder_to_write(word: str) -> Path:
    """The path; ValueError where it cannot be a folder."""
    path = Path(word)
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not existing.is_dir():
        raise ValueError(f"{existing} is a file; give a folder")
    return path


def _report_folder(word: str) -> Path:
    path = folder_to_write(word)
    if (path / RECIPE).is_file():
        raise ValueError(f"{path} is a run folder, whose predictions stay; give another folder")
    return path


def _file(word: str) -> Path:
    path = Path(word)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give a file")
    folder_to_write(str(path.parent))
    return path


def _device(word: str) -> str:
    choose_device(word)  # one that is not there is refused before the work
    return word


PositiveInt = Annotated[int, at_least(1)]
TO_FOLDER = one_word(folder_to_write, "PATH")  # to write to; what cannot be one is refused at once
TO_REPORT_FOLDER = one_word(_report_folder, "PATH")
TO_FILE = one_word(_file, "PATH")
MODEL_HELP = (
    "Run folder (its last epoch is taken), RUN/best, model folder, hub id, AST or SSAST .pth, or "
    "the name of a published one (audioset_10_10_0.4593)."
)
Model = Annotated[Positional[str], arg(metavar="MODEL", help=MODEL_HELP)]
Files = Annotated[
    Positional[tuple[Path, ...]],
    arg(
        metavar="FILE|FOLDER…",
        help="Audio files (WAV, FLAC, OGG, MP3 …, any sample rate and number of channels), and "
        "folders, which are searched for them.",
        help_behavior_hint="(required)",
    ),
]
DATA_HELP = "Folder of the data set; a table's file, a hub id of hugging_face."
DataFolder = Annotated[Path, arg(help=DATA_HELP)]
Fold = Annotated[
    int | None,
    arg(
        metavar="INT",
        help="The fold to validate on, of a data set with folds.",
        help_behavior_hint="(default: the first)",
    ),
]
CorpusOfRun = Annotated[
    Corpus | None,
    one_of(Corpus),
    arg(help="Which data set it is.", help_behavior_hint="(default: the run's)"),
]
Split = Literal["train", "validation", "test", "all"]
InferencePrecision = Annotated[
    Literal["fp32", "auto", "bf16", "fp16", "int8"],
    arg(
        help="fp32; bf16; fp16 (GPU only); int8 (CPU only: linear layers in 8-bit integers, "
        "several times as fast; compare the scores); auto: 16 bits where the hardware multiplies "
        "them faster, else fp32."
    ),
]
Device = Annotated[
    str,
    one_word(_device, "DEVICE"),
    arg(help="auto (the GPU where there is one), cpu, cuda or cuda:N."),
]
Compile = Annotated[
    bool,
    arg(help="Compile the model first (torch.compile, a C++ compiler): slow start, then faster."),
]
KeepTokens = Annotated[
    float,
    one_word(_share, "FLOAT"),
    arg(
        help="Share of the patch tokens that the last block sees; below 1, those that resemble "
        "each other merge: 0.5 is 1.6 times as fast with 12 blocks; compare the scores."
    ),
]
SkipUnreadable = Annotated[
    bool,
    arg(help="Leave out files that cannot be read, counted and listed, instead of stopping."),
]
ShardOfAll = Annotated[
    Shard | None,
    one_word(read_shard, "K/N"),
    arg(
        help="Hear only the K-th of N shares of the recordings, for an array of jobs; the command "
        "without this option then writes what all found.",
        help_behavior_hint="(default: all)",
    ),
]
SkipAsInRun = Annotated[
    DisallowNone[bool | None],
    arg(
        help="Leave out clips whose files cannot be decoded, counted and listed, instead of "
        "stopping.",
        help_behavior_hint="(default: as the run did)",
    ),
]


@dataclass(frozen=True)
class Caching:
    """Where decoded clips are kept, and what an audit read of files."""

    cache: Annotated[Path | None, unless_given("in the user's cache folder", "PATH")] = None
    """Folder for decoded clips."""
    use_cache: bool = True
    """Keep decoded clips on disk, so that each is decoded once."""

    def clip_cache(self) -> ClipCache | None:
        return ClipCache(self.cache) if self.use_cache else None


@dataclass(frozen=True)
class Reading(Caching):
    """How clips are read, and where the model computes."""

    workers: Annotated[
        int | None,
        at_least(0),
        unless_given("none on a CPU, one a core up to 8 beside a GPU"),
    ] = None
    """Decoding processes."""
    device: Device = "auto"

    def arguments(self) -> dict[str, Any]:
        """As the library's functions take them."""
        return {"cache": self.clip_cache(), "workers": self.workers, "device": self.device}


Column = Annotated[str | None, unless_given("the run's, else what is usual", "STR")]


@dataclass(frozen=True)
class ColumnsOfTable:
    """Of table and hugging_face: which column holds what."""

    path_column: Column = None
    """The column of the audio."""
    label_column: Column = None
    """The column of the class, or of several."""
    label_separator: Column = None
    """What stands between several classes of one clip; none: a cell is one class."""
    fold_column: Column = None
    """The column of the fold; none: without folds."""
    split_column: Column = None
    """The column that says train, validation or test; none: without it."""
    group_column: Column = None
    """The column of what stays in one split: speaker, site, recording."""

    def given_columns(self) -> dict[str, str]:
        """As `select` takes them."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class AnyRecipeOptions:
    """A recipe; the values shown are those of the one that was named."""

    name: str
    """Name of the recipe."""

    @classmethod
    def of(cls, recipe: BaseRecipe) -> Self:
        """The options whose values are a recipe's."""
        groups = (
            group(**{field.name: getattr(recipe, field.name) for field in fields(group)})
            for group in recipe.groups
        )
        return cls(recipe.name, *groups)

    def change(self, recipe: AnyRecipe) -> AnyRecipe:
        """The recipe with these values; what was given is not left to the data."""
        groups = [vars(each) for each in vars(self).values() if is_dataclass(each)]
        values = {name: value for group in groups for name, value in group.items()}
        return replace(recipe, name=self.name, **values, from_data=recipe.from_data - self.given)


@dataclass(frozen=True)
class RecipeOptions(AnyRecipeOptions):
    """A recipe of training, in the order of its groups."""

    data: OmitArgPrefixes[Data]
    initial_weights: OmitArgPrefixes[InitialWeights]
    network: OmitArgPrefixes[Network]
    front_end: OmitArgPrefixes[FrontEnd]
    optimisation: OmitArgPrefixes[Optimisation]
    loss: OmitArgPrefixes[Loss]
    averaging: OmitArgPrefixes[Averaging]
    augmentation: OmitArgPrefixes[Augmentation]
    execution: OmitArgPrefixes[Execution]
    given: frozenset[str] = field(default=frozenset(), metadata=NO_OPTION)


@dataclass(frozen=True)
class PretrainingOptions(AnyRecipeOptions):
    """A recipe of pretraining, in the order of its groups."""

    recordings: OmitArgPrefixes[Recordings]
    initial_weights: OmitArgPrefixes[InitialWeights]
    encoder: OmitArgPrefixes[Encoder]
    front_end: OmitArgPrefixes[FrontEnd]
    steps: OmitArgPrefixes[Steps]
    pretext: OmitArgPrefixes[Pretext]
    execution: OmitArgPrefixes[Execution]
    given: frozenset[str] = field(default=frozenset(), metadata=NO_OPTION)


def find_recipe(
    command: str, words: Sequence[str], recipes: Mapping[str, AnyRecipe] = RECIPES
) -> tuple[AnyRecipe, int | None, list[str]]:
    """The recipe that the first word names, the fold if a run's file names one, other words.

    Args:
        recipes: by name, all of one kind.

    Raises:
        FileNotFoundError, ValueError: there is no such recipe.
        SystemExit: the first word asks for help, or there is none.
    """
    names = ", ".join(recipes)
    if not words or words[0] in ("-h", "--help"):
        print(_recipes_help(command, recipes))
        raise SystemExit(0 if words else 2)
    name, *rest = words
    if name in recipes:
        return recipes[name], None, rest
    if name.startswith("-") or Path(name).is_dir():
        raise ValueError(f"the recipe comes first: {PROGRAM} {command} RECIPE …; one of {names}")
    if not name.endswith(".json"):
        near = did_you_mean(name, recipes) or f"; use one of {names}, or the recipe.json of a run"
        raise ValueError(f"recipe {name!r} is unknown{near}")
    if not Path(name).is_file():
        raise FileNotFoundError(f"recipe file {name} does not exist; give a run's recipe.json")
    recipe, fold = read_recipe(Path(name))
    kind = next(iter(recipes.values())).kind
    if recipe.kind != kind:
        raise ValueError(
            f"{name} is of {recipe.kind}, not of {kind}: give it to `{PROGRAM} "
            f"{'pretrain' if recipe.kind == 'pretraining' else 'train'}`"
        )
    return recipe, fold, rest


def open_or_make_corpus(recipe: Recipe, root: Path) -> Manifest:
    """The data set to train a recipe on; the synthetic one is made first where it is not there."""
    if recipe.corpus == "synthetic":
        return synthetic(root)
    return open_corpus(recipe.corpus, root, **recipe.columns())


def _recipes_help(command: str, recipes: Mapping[str, BaseRecipe]) -> str:
    first, width = command.split()[0], max(map(len, (*recipes, "RUN/recipe.json")))
    purpose = COMMANDS[first]
    of_run = "that of a run, with its fold" if first in OF_ONE_FOLD else "that of a run"
    return "\n".join(
        [
            f"usage: {PROGRAM} {command} RECIPE [OPTIONS]",
            "",
            f"{purpose[0].upper()}{purpose[1:]}.",
            "",
            "recipes:",
            *(f"  {name:{width}}  {recipe.summary}" for name, recipe in recipes.items()),
            f"  {'RUN/recipe.json':{width}}  {of_run}",
            "",
            f"`{PROGRAM} {command} RECIPE --help` lists the options and every field of the recipe.",
        ]
    )


def parse(
    kind: type[Options],
    words: Sequence[str],
    command: str,
    default: Options | None = None,
    from_data: Collection[str] = (),
) -> Options:
    """The options of a command, as `read_options`; --compile is refused where it cannot work."""
    options = read_options(kind, words, command, default, from_data)
    if getattr(options, "compile", False):
        require_compiler(getattr(options, "precision", "auto"))
        if getattr(options, "keep_tokens", 1) < 1 and not options.pad:
            raise ValueError(
                "--compile takes minutes where both the lengths and the number of tokens change: "
                "leave out --compile, --no-pad or --keep-tokens"
            )
    return options
