"""The page of reliability shows the counts of the last campaign."""

import pytest

from tests.campaign import reliability_page


def test_the_page_shows_the_counts_that_are_committed():
    text = reliability_page.PAGE.read_text(encoding="utf-8")
    remedy = "run python -m tests.campaign.reliability_page"
    assert reliability_page.rendered(text) == text, remedy


def test_a_page_without_marks_and_counts_that_lack_a_class_are_told(tmp_path):
    with pytest.raises(ValueError, match="lacks <!-- campaign: begin -->"):
        reliability_page.rendered("no marks")
    (tmp_path / "counts.json").write_text('{"classes": {}}')
    page = f"{reliability_page.BEGIN}\n{reliability_page.END}"
    with pytest.raises(ValueError, match="the counts lack archives, audio"):
        reliability_page.rendered(page, tmp_path / "counts.json")
