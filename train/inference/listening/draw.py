"""Which detections of each class a person is to hear."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal, NamedTuple

from train.inference.listening.tables import Detection

By = Literal["certain", "uncertain", "stratified"]
RANGES = 10  # of scores, equally wide
ALL = "all"  # the range of a draw that is not stratified
CHOSEN = "chosen"  # no draw: a person went through a recording and judged what they liked


class Drawn(NamedTuple):
    """A detection, the range of scores that it was drawn from, and how many lie in that."""

    detection: Detection
    range: str
    detections: int


@dataclass
class _Best:
    """How many detections came, and the few of the highest rank."""

    most: int
    count: int = 0
    held: list[tuple[float, bytes, Detection]] = field(default_factory=list)  # a heap

    def add(self, rank: float, tie: bytes, detection: Detection) -> None:
        self.count += 1
        entry = (rank, tie, detection)
        if len(self.held) < self.most:
            heapq.heappush(self.held, entry)
        else:
            heapq.heappushpop(self.held, entry)

    def best(self, count: int) -> list[Detection]:
        return [detection for *_, detection in heapq.nlargest(count, self.held)]


def draw(
    detections: Iterable[Detection],
    per_class: int,
    by: By,
    seed: int = 0,
    classes: Collection[str] = (),
) -> tuple[list[Drawn], tuple[str, ...]]:
    """Detections of each class, and the classes of all detections, in memory for the drawn alone.

    `certain` takes the highest scores, `uncertain` those nearest to 0.5; `stratified` draws at
    random from each tenth of the scores, as many from each as far as they last. What is drawn
    depends on the seed and on the detections, not on their order.

    Args:
        detections: of any number.
        per_class: how many to draw; all where there are fewer.
        by: as above.
        seed: of a stratified draw, and of what is taken where scores are equal.
        classes: to draw from; empty: all that occur.

    Raises:
        ValueError: `per_class` is too small, a class has no detections, there are none at all, or
            one is listed twice.
    """
    least = RANGES if by == "stratified" else 1
    if per_class < least:
        raise ValueError(
            f"{per_class} a class are too few: expected at least {least}"
            + (", one for each tenth of the scores" if by == "stratified" else "")
        )
    samples: dict[str, dict[str, _Best]] = {}
    for detection in detections:
        ranges = samples.setdefault(detection.label, {})
        if classes and detection.label not in classes:
            continue
        place = _range(detection.score) if by == "stratified" else ALL
        rank = _rank(detection.score, by)
        ranges.setdefault(place, _Best(per_class)).add(rank, _random(detection, seed), detection)
    missing = [name for name in classes if not samples.get(name)]
    if missing:
        raise ValueError(
            f"no detection of {missing[0]!r:.200} in the tables, which hold {len(samples)} "
            "classes; leave it out, or detect with a lower threshold"
        )
    drawn = [each for label in sorted(samples) for each in _of_class(samples[label], per_class)]
    if not drawn:
        raise ValueError("the tables hold no detections; detect with a lower threshold")
    _require_each_once(drawn)
    return drawn, tuple(sorted(samples))


def _rank(score: float, by: By) -> float:
    """Higher for what is drawn first."""
    return {"certain": score, "uncertain": -abs(score - 0.5), "stratified": 0.0}[by]


def _range(score: float) -> str:
    low = min(int(score * RANGES), RANGES - 1)
    return f"{low / RANGES:g}-{(low + 1) / RANGES:g}"


def _random(detection: Detection, seed: int) -> bytes:
    """Of a detection its own, so that the lowest or highest of many are a draw without return."""
    text = repr((seed, str(detection.recording), detection.start, detection.end, detection.label))
    return blake2b(text.encode(errors="surrogateescape"), digest_size=16).digest()


def _of_class(ranges: dict[str, _Best], per_class: int) -> list[Drawn]:
    """As many of each range as far as they last; what a small one leaves goes to the others."""
    drawn, left = [], per_class
    by_size = sorted(ranges.items(), key=lambda item: (item[1].count, item[0]))
    for number, (name, sample) in enumerate(by_size):
        chosen = sample.best(left // (len(by_size) - number))
        left -= len(chosen)
        drawn += [Drawn(detection, name, sample.count) for detection in chosen]
    return drawn


def _require_each_once(drawn: Iterable[Drawn]) -> None:
    seen = set()
    for detection, *_ in drawn:
        if detection in seen:
            raise ValueError(
                f"{str(detection.recording)!r:.300} has {detection.label!r:.200} at "
                f"{detection.start:g} s twice: the same table, or two of the same recordings; name "
                "each once"
            )
        seen.add(detection)
