"""Thousands of recordings, and a journal to go on from after a crash."""

from train.inference.season.journal import Entry, Journal, has_journal, open_journal
from train.inference.season.season import (
    Found,
    Season,
    Written,
    absolute,
    journal_of,
    model_digest,
    recordings_a_part,
    table_of_shard,
)

__all__ = [
    "Entry",
    "Found",
    "Journal",
    "Season",
    "Written",
    "absolute",
    "has_journal",
    "journal_of",
    "model_digest",
    "open_journal",
    "recordings_a_part",
    "table_of_shard",
]
