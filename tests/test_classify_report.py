"""The report: the verdict's words, what the page holds, and that it needs nothing but itself."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from classify.fairness import audit
from classify.report import PAPER_REFERENCE, Report, judge, verdicts, write_report
from classify.report.sheet import contact_sheet
from classify.report.text import interval, number, percent

NAN = float("nan")
ARMS = ["real", "plain", "minority"]
ATTRIBUTES = ["Bald", "Male", "Attractive"]


def _comparisons(low: float = 0.01, high: float = 0.03, n_seeds: int = 3) -> pd.DataFrame:
    rows = [
        ("minority", baseline, attribute, metric, 0.02, low, high, n_seeds)
        for baseline in ("real", "plain")
        for attribute in ("macro", *ATTRIBUTES)
        for metric in ("f1", "precision", "recall")
    ]
    columns = ["arm", "baseline", "attribute", "metric", "difference", "low", "high", "n_seeds"]
    frame = pd.DataFrame(rows, columns=columns)
    frame.loc[frame["attribute"] == "Attractive", ["difference", "low", "high"]] = NAN
    return frame


def _scores(n_seeds: int = 3) -> pd.DataFrame:
    rows = [
        (arm, seed, "test", name, "f1", NAN if name == "Attractive" else 0.5 + 0.01 * seed)
        for arm in ARMS
        for seed in range(n_seeds)
        for name in ("macro", *ATTRIBUTES)
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "split", "attribute", "metric", "value"])


def _summary(low: float = 0.41, high: float = 0.43, n_seeds: int = 3) -> pd.DataFrame:
    rows = [
        (arm, metric, 0.42, low, high, n_seeds)
        for arm in ARMS
        for metric in ("f1", "precision", "recall")
    ]
    return pd.DataFrame(rows, columns=["arm", "metric", "mean", "low", "high", "n_seeds"])


def _report(**changes: Any) -> Report:
    bare = Report(title="Study", summary=_summary(), scores=_scores(), n_scored=2, n_attributes=3)
    return dataclasses.replace(bare, **changes)


def _full(tmp_path: Path) -> Report:
    images = []
    for i in range(3):
        images.append(tmp_path / f"{i}.png")
        Image.new("RGB", (8, 8), (80 * i, 0, 0)).save(images[-1])
    index = pd.Index(ATTRIBUTES, name="attribute")
    return _report(
        comparisons=_comparisons(),
        reference=PAPER_REFERENCE,
        samples={"plain": images, "minority": images[:2]},
        prevalence=pd.DataFrame(
            {"real": [0.02, 0.42, NAN], "plain": [0.01, 0.4, NAN], "minority": [0.05, 0.4, NAN]},
            index=index,
        ),
        rarity=pd.DataFrame(
            {"mean_log_probability": [-14.0, -16.25], "n": [3000, 3000]},
            index=["plain", "minority"],
        ),
        rarest={"minority": images[1:]},
        label_quality=_quality(),
        policy=pd.DataFrame(
            {
                **{"present": [0.7, None], "absent": [0.4, 0.5], "temperature": [1.5, 1.0]},
                **{"ece_before": [0.061, NAN], "ece_after": [0.012, NAN], "kept": [0.875, 0.5]},
            },
            index=index[:2],
        ),
        settings={"guidance": {"scale": 0.4}, "betas": [0.9, 0.999], "data": None},
        cards={"generator": {"licence": "MIT", "steps": 1000}},
        versions={"torch": "2.14"},
        notes=["Took 9 min."],
    )


def _quality() -> pd.DataFrame:
    """Of all rows and two groups, in one of which the second attribute cannot be judged."""
    rows = [
        *(("all", name, f1, f1, f1, error, 0.9) for name, f1, error in zip(
            ATTRIBUTES, (0.8, 0.9, NAN), (0.031, 0.02, NAN), strict=True)),
        *(("Male=0", name, f1, f1, f1, 0.05, 1.0) for name, f1 in zip(
            ATTRIBUTES, (0.75, NAN, NAN), strict=True)),
        *(("Male=1", name, f1, f1, f1, 0.01, 1.0) for name, f1 in zip(
            ATTRIBUTES, (0.85, 0.123, NAN), strict=True)),
    ]  # fmt: skip
    columns = ["group", "attribute", "f1", "precision", "recall", "error", "kept"]
    return pd.DataFrame(rows, columns=columns)


def _page(tmp_path: Path, report: Report) -> str:
    path = tmp_path / "out" / "report.html"
    write_report(path, report)
    return path.read_text(encoding="utf-8")


class _Text(HTMLParser):
    """Visible text, and whether every element that is opened is closed in order."""

    void = frozenset({"meta", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """`<use/>` and the like neither open nor close anything."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and "svg" not in self.open:
            self.words.append(data)


def _text(page: str) -> str:
    parser = _Text()
    parser.feed(page)
    assert parser.open == []
    return re.sub(r"\s+", " ", "".join(parser.words))


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.001, 0.02, "gain"),
        (-0.02, -0.001, "loss"),
        (-0.01, 0.02, "no evidence of gain"),
        (0.0, 0.02, "no evidence of gain"),
        (-0.02, 0.0, "no evidence of gain"),
        (NAN, NAN, "no evidence of gain"),
    ],
)
def test_the_word_follows_the_interval(low: float, high: float, word: str) -> None:
    assert judge(low, high) == word


def test_verdicts_are_those_of_the_arm_on_macro_f1() -> None:
    comparisons = _comparisons()
    rows = (comparisons["baseline"] == "plain") & (comparisons["attribute"] == "macro")
    comparisons.loc[rows & (comparisons["metric"] == "f1"), ["low", "high"]] = [-0.01, 0.05]
    found = [(v.baseline, v.word) for v in verdicts(comparisons, "minority")]
    assert found == [("real", "gain"), ("plain", "no evidence of gain")]
    assert verdicts(comparisons, "plain") == []


@pytest.mark.parametrize(
    ("bounds", "headline"),
    [
        ((0.01, 0.03), "minority shows a gain over real and plain."),
        ((-0.03, -0.01), "minority shows a loss against real and plain."),
        ((-0.01, 0.03), "minority shows no evidence of gain over real or plain."),
    ],
)
def test_the_verdict_comes_first(
    tmp_path: Path, bounds: tuple[float, float], headline: str
) -> None:
    text = _text(_page(tmp_path, _report(comparisons=_comparisons(*bounds))))
    assert text.index(headline) < text.index("Scores by arm")


def test_one_seed_is_no_evidence_and_its_intervals_are_not_estimable(tmp_path: Path) -> None:
    report = _report(
        summary=_summary(NAN, NAN, 1), scores=_scores(1), comparisons=_comparisons(NAN, NAN, 1)
    )
    text = _text(_page(tmp_path, report))
    assert "minority shows no evidence of gain over real or plain." in text
    assert "95 % interval not estimable, 1 seed" in text
    assert "nan" not in text.lower().split()


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    page = _page(tmp_path, _full(tmp_path))
    assert "<script" not in page
    assert not re.search(r"https?:|//[a-z]|@import|<link|url\((?!#)", page)
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(s.startswith(("data:image/png;base64,", "#")) for s in sources)
    assert str(tmp_path) not in page


def test_every_part_is_there_and_well_formed(tmp_path: Path) -> None:
    page = _page(tmp_path, _full(tmp_path))
    text = _text(page)
    order = [
        "Scores by arm", "0.420 0.410 to 0.430", "CelebA at 64 px", "0.757", "Samples",
        "F1 by attribute", "Difference by attribute", "How often rare attributes occur",
        "Mean log-probability", "−16.25", "Label quality", "Took 9 min.", "guidance.scale 0.4",
        "[0.9, 0.999]", "Weights: generator", "2.14",
    ]  # fmt: skip
    spaced = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    places = [spaced.index(part) for part in order]
    assert places == sorted(places)
    assert "2 of 3 attributes" in text
    assert page.count("<img") == page.count('alt="Grid of') == 3
    assert page.count("<svg") == page.count('role="img" aria-label="')


def test_labels_are_judged_by_attribute_and_over_the_same_attributes_by_group(
    tmp_path: Path,
) -> None:
    page = _page(tmp_path, _full(tmp_path))
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "2.6 % of labels wrong, 90.0 % kept" in text
    assert "Means over the 1 attributes" in text
    assert "Male=0 0.750" in text
    assert "0.123" not in text  # an attribute that one group cannot judge is in no group's mean
    assert "0.700 0.400 1.500 0.061 0.012 87.5 %" in text
    assert "– 0.500 1.000 – – 50.0 %" in text


def test_the_labels_error_stands_beside_the_gain(tmp_path: Path) -> None:
    row = re.search(
        r'<th scope="row">Bald</th><td>[+−][\d.]+</td><td>[^<]*</td><td>([^<]*)',
        _page(tmp_path, _full(tmp_path)),
    )
    assert row is not None
    assert row[1] == "3.1 %"


def test_rare_and_common_attributes_are_told_apart(tmp_path: Path) -> None:
    comparisons = _comparisons()
    rare = comparisons[comparisons["attribute"] == "macro"].assign(
        attribute="macro, rare", difference=0.043
    )
    page = _page(tmp_path, _report(comparisons=pd.concat([comparisons, rare])))
    assert re.search(r"real</th><td>rare, below 5 %</td><td>\+0.043</td>", page)


def test_controls_are_explained_and_left_out_of_verdict_and_figure(tmp_path: Path) -> None:
    report = _report(comparisons=_comparisons(), controls={"real": "nothing but real images"})
    page = _page(tmp_path, report)
    assert "minority shows a gain over plain." in _text(page)
    assert re.search(
        r"</span>real<small>nothing but real images</small></th><td>\+0.020</td>",
        page,
    )
    assert 'aria-label="Dot plot of F1 by attribute for plain, minority;' in page


def test_cautions_stand_beside_the_verdict(tmp_path: Path) -> None:
    page = _page(tmp_path, _report(cautions=["The labeler cannot tell Bald."]))
    verdict = page[page.index('<section class="verdict"') : page.index("</section>")]
    assert "Caution: The labeler cannot tell Bald." in verdict


def test_an_audit_that_judges_nothing_says_so_and_shows_no_empty_table(tmp_path: Path) -> None:
    labels = np.tile(np.array([[1], [0]], np.float32), (20, 1))
    arms = {arm: np.full((2, 40, 1), 0.5, np.float32) for arm in ("real", "minority")}
    groups = pd.DataFrame({"Male": np.repeat([0.0, 1.0], 20)})
    page = _page(tmp_path, _report(audit=audit(labels, arms, groups, ["Bald"], baseline="real")))
    text = _text(page)
    assert "No difference between groups could be judged" in text
    assert "Not estimable for lack of images: Male=0 (1 attribute), Male=1" in text
    assert "None of 0" not in text
    assert not re.search(r"<tbody>\s*</tbody>", page)


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    page = _page(tmp_path, _report())
    headings = re.findall(r"<h[23]>([^<]*)</h[23]>", page)
    assert headings == ["Scores by arm", "F1 by attribute"]
    assert "there is no verdict" in _text(page)
    assert "<details><summary>Settings" not in page


def test_unscored_attributes_are_named_and_never_zero(tmp_path: Path) -> None:
    page = _page(tmp_path, _full(tmp_path))
    assert "does not hold both values: Attractive." in _text(page)
    row = re.search(r"<tr><th scope=\"row\">Attractive</th>(.*?)</tr>", page)
    assert row is not None
    assert set(re.findall(r"<td>(.*?)</td>", row.group(1))) == {"–"}


def test_only_rare_attributes_are_counted_as_such(tmp_path: Path) -> None:
    page = _page(tmp_path, _full(tmp_path))
    section = page[page.index("How often rare") : page.index("Mean log-probability")]
    names = re.findall(r'<th scope="row">(.*?)</th>', section)
    assert names == ["Bald"]
    assert re.findall(r"<td>(.*?)</td>", section) == ["2.0 %", "1.0 %", "5.0 %"]


def test_attributes_come_rarest_first_by_the_known_distribution(tmp_path: Path) -> None:
    report = _full(tmp_path)
    assert report.prevalence is not None
    prevalence = report.prevalence.assign(true=[0.3, 0.1, 0.5])
    page = _page(tmp_path, dataclasses.replace(report, prevalence=prevalence))
    section = page[page.index("<h2>F1 by attribute") : page.index("<h2>Difference")]
    assert re.findall(r'<th scope="row">(.*?)</th>', section) == ["Male", "Bald", "Attractive"]


def test_arms_keep_their_colour_in_all_figures(tmp_path: Path) -> None:
    page = _page(tmp_path, _full(tmp_path))
    figures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(figures) == 4
    f1, against_real, against_plain, rare = (
        set(re.findall(r"var\(--arm-(\d)\)", figure)) for figure in figures
    )
    assert f1 == rare == {"0", "1", "2"}
    assert against_real == against_plain == {"2"}
    assert not re.search(r"#0[0-9a-f]{5}", "".join(figures))  # no placeholder is left


def test_text_of_the_user_is_escaped(tmp_path: Path) -> None:
    evil = "<b onclick=x>&"
    report = _report(title=evil, notes=[evil], settings={evil: evil}, versions={"a": evil})
    page = _page(tmp_path, report)
    assert "<b onclick" not in page
    assert page.count("&lt;b onclick=x&gt;&amp;") == 6


def test_a_failed_report_leaves_the_old_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, _report())
    before = path.read_bytes()
    with pytest.raises(FileNotFoundError, match=r"sample .*gone\.png is missing"):
        write_report(path, _report(samples={"plain": [tmp_path / "gone.png"]}))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_the_same_report_gives_the_same_file(tmp_path: Path) -> None:
    report = _full(tmp_path)
    assert _page(tmp_path, report) == _page(tmp_path, report)


def test_a_table_without_its_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="summary of the report has no column high; expected arm"):
        _report(summary=_summary().drop(columns="high"))
    with pytest.raises(ValueError, match="n_scored of the report is 4; expected 0 to n_attributes"):
        _report(n_scored=4)


def test_a_sheet_has_eight_columns_and_keeps_the_pixels(tmp_path: Path) -> None:
    paths = []
    for i in range(10):
        paths.append(tmp_path / f"{i}.png")
        Image.new("RGB", (4, 4), (20 * i, 0, 0)).save(paths[-1])
    sheet = contact_sheet(paths)
    assert (sheet.width, sheet.height, sheet.count) == (8 * 6 - 2, 2 * 6 - 2, 10)
    assert contact_sheet(paths, limit=3).count == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(NAN), "–"),
        (number(-0.0121, signed=True), "−0.012"),
        (number(0.0121, signed=True), "+0.012"),
        (number(-0.0001, signed=True), "0.000"),
        (percent(0.022), "2.2 %"),
        (percent(np.nan), "–"),
        (interval(0.1, NAN), "not estimable"),
        (interval(-0.1, 0.1, signed=True), "−0.100 to +0.100"),
    ],
)
def test_numbers_are_never_shown_where_there_is_none(text: str, expected: str) -> None:
    assert text == expected
