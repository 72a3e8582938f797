"""Files: their names and paths, those from strangers read with limits, results written whole."""

from data.files.json_files import json_field, naming, read_json
from data.files.paths import (
    AUDIO_SUFFIXES,
    TABLE_SUFFIXES,
    cache_folder,
    existing,
    existing_file,
    inner_parts,
    is_audio,
    missing_files,
    split_name,
    tables_in,
    walk,
)
from data.files.tables import open_table
from data.files.writing import atomic_file, atomic_folder, is_leftover, write_json

__all__ = [
    "AUDIO_SUFFIXES",
    "TABLE_SUFFIXES",
    "atomic_file",
    "atomic_folder",
    "cache_folder",
    "existing",
    "existing_file",
    "inner_parts",
    "is_audio",
    "is_leftover",
    "json_field",
    "missing_files",
    "naming",
    "open_table",
    "read_json",
    "split_name",
    "tables_in",
    "walk",
    "write_json",
]
