"""What somebody meant who typed a word that does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

LIKELY = 0.7  # of a likeness from 0 to 1: "trian" for train has 0.8
LESS_LIKELY = 0.12  # so much, and it is not worth naming beside a likelier one


def nearest_first(word: str, choices: Iterable[str]) -> list[str]:
    """The choices, those that look most like the word first, others as they stood."""
    return sorted(choices, key=lambda choice: -_likeness(word, choice))


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """ "; did you mean a, b or c?" of the likely choices, at most three; "" where none is."""
    ranked = nearest_first(word, dict.fromkeys(choices))[:3]
    least = max([LIKELY, *(_likeness(word, choice) - LESS_LIKELY for choice in ranked)])
    likely = [choice for choice in ranked if _likeness(word, choice) >= least]
    if not likely:
        return ""
    *others, last = likely
    return f"; did you mean {' or '.join([', '.join(others), last] if others else [last])}?"


def _likeness(word: str, choice: str) -> float:
    """1 for the same letters; more than `LIKELY` where one holds the other: "output" and "out"."""
    typed, meant = _letters(word), _letters(choice)
    likeness = SequenceMatcher(None, typed, meant).ratio()
    shorter, longer = sorted((typed, meant), key=len)
    if len(shorter) > 2 and shorter in longer:
        bonus = 0.1 if longer.startswith(shorter) else 0.0
        likeness = max(likeness, LIKELY + bonus + 0.1 * len(shorter) / len(longer))
    return likeness


def _letters(word: str) -> str:
    return "".join(character for character in word.casefold() if character.isalnum())
