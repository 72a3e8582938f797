"""Where tables of detections go, and that nothing of the user's lies there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from train.inference.detections.formats import Format, require_one_line
from train.inference.season import Season, absolute, has_journal, journal_of
from train.run.tables import require_pyarrow

JOURNAL = "predict.journal"


@dataclass(frozen=True)
class Output:
    """A folder of a table a recording, or one table of all: `Output.of` checks it.

    Args:
        path: of the folder, or of the file.
        form: of the tables.
        combined: whether it is a file.
    """

    path: Path
    form: Format
    combined: bool

    @classmethod
    def of(cls, path: Path, form: Format, season: Season) -> Output:
        """Tables of this form at a path: a file where the name ends as the form's tables do.

        Raises:
            ValueError: it holds what is not this command's; a table would be of two recordings, or
                cannot name them; or pyarrow is missing.
        """
        output = cls(path, form, path.suffix.lower() == form.ending and not path.is_dir())
        if form.ending == ".parquet":
            require_pyarrow(path)
        if output.combined:
            output._require_combinable(season)
        else:
            output._require_one_each(season)
        if not has_journal(output.journal):
            output._require_free(season)
        return output

    @property
    def journal(self) -> Path:
        """The folder of what was heard, beside the table or among the tables."""
        if self.combined:
            return journal_of(self.path)
        return self.path / JOURNAL

    def beside(self, recording: Path, folder: Path) -> Path:
        """The table of one recording, where it lies below the season's folder."""
        place = absolute(recording).parent.relative_to(folder)
        return self.path / place / f"{recording.stem}{self.form.suffix}"

    def _require_combinable(self, season: Season) -> None:
        if not self.form.several and len(season.paths) > 1:
            raise ValueError(
                f"{self.path}: Audacity's labels do not say which of {len(season.paths)} "
                "recordings they are of; give --out a folder, for a file each"
            )
        for path in season.paths if self.form.one_line else ():
            require_one_line(path)

    def _require_one_each(self, season: Season) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(
                f"{self.path} is a file; give a folder, or for one table of all a name in "
                f"{self.form.ending}"
            )
        holders: dict[Path, Path] = {}
        for path in season.paths:
            other = holders.setdefault(self.beside(path, season.folder), path)
            if other != path:
                raise ValueError(
                    f"{other} and {path} would have one table, "
                    f"{self.beside(path, season.folder)}; rename one, or give --out a file name "
                    "for one table of all"
                )

    def _require_free(self, season: Season) -> None:
        """Nothing is there, or these are the folders of the recordings without such tables."""
        if self.combined:
            if self.path.exists():
                raise ValueError(
                    f"{self.path} was not written by this command: it has no {self.journal.name} "
                    "beside it; move it away, or give another --out"
                )
            return
        if not self.path.is_dir():
            return
        if self.path.resolve() != season.folder.resolve():
            others = [each.name for each in self.path.iterdir() if each.name != JOURNAL]
            if others:
                raise ValueError(
                    f"{self.path} is a folder of something else: it holds {min(others)!r:.200} and "
                    f"no {JOURNAL}; give a new folder, or that of the recordings"
                )
        for path in season.paths:
            table = self.beside(path, season.folder)
            if table.exists():
                raise ValueError(
                    f"{table} was not written by this command; move it away, or give another --out"
                )
