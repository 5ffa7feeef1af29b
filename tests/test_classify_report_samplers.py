"""The table of compared samplers: what stands in it, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from classify.report import colours_of, samplers_section, write_page
from classify.report.page import Cell, Paragraph, Table

NAN = float("nan")
SAMPLERS = pd.DataFrame(
    {
        "set": ["real", "plain", "minority"],
        "forwards": [NAN, 50.0, 71.26],
        "seconds": [NAN, 0.5, 0.75],
        "avg_knn": [1.0, 1.1, 1.4],
        "avg_knn_low": [0.9, 1.0, 1.3],
        "avg_knn_high": [1.1, 1.2, 1.5],
        "frechet": [NAN, 2.0, 3.0],
        "f1": [0.7, 0.71, 0.72],
    }
)
TAILS = pd.DataFrame(
    {
        "tail": ["highest AvgkNN", "highest AvgkNN"],
        "set": ["plain", "minority"],
        "real": [1200, 1200],
        "frechet": [9.0, 8.0],
        "sfid": [4.0, 5.0],
    }
)


def test_every_table_has_the_measures_that_there_are_with_their_intervals(tmp_path: Path) -> None:
    colours = colours_of(SAMPLERS["set"])
    section = samplers_section(SAMPLERS, TAILS, ["minority is the rarest."], colours)
    assert section.blocks[0] == Paragraph("minority is the rarest.", "headline")
    first, rarity, real, tail = (block for block in section.blocks if isinstance(block, Table))
    assert first.header == ["Set", "Forwards", "Seconds", "F1"]
    assert first.rows[2][1:3] == [Cell("71.3"), Cell("0.750")]
    assert first.rows[0][1] == Cell("–")
    assert rarity.header == ["Set", "AvgkNN"]
    assert rarity.rows[2][1] == Cell("1.400", "1.300 to 1.500")
    # What is real is not compared with itself.
    assert [row[0] for row in real.rows] == [Cell("plain", colour=1), Cell("minority", colour=2)]
    assert tail.header == ["Set", "Fréchet", "sFID"]
    headings = [b.text for b in section.blocks if isinstance(b, Paragraph) and b.style == "heading"]
    assert headings[2] == "Like the 1,200 real train images of highest AvgkNN"
    write_page(tmp_path / "page.html", "Samplers compared", [section])
    assert "8.000" in (tmp_path / "page.html").read_text()


def test_a_table_that_lacks_what_is_shown_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^samplers has no column forwards, avg_knn; the report"):
        samplers_section(SAMPLERS.drop(columns=["forwards", "avg_knn"]), TAILS, [], {})
    with pytest.raises(ValueError, match=r"^tails has no column frechet; the report shows"):
        samplers_section(SAMPLERS, TAILS.drop(columns="frechet"), [], {})
