"""The report: the verdict's words, what the page holds, and that it needs nothing but itself."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from classify.fairness import audit
from classify.report import (
    Section,
    admission_section,
    arms_section,
    attributes_section,
    audit_section,
    colours_of,
    controls_section,
    differences_section,
    labels_section,
    notes_section,
    rarity_section,
    record_section,
    samples_section,
    targets_section,
    verdict_section,
    write_page,
)
from classify.report.figures import dot_plot
from classify.report.page import Cell
from classify.report.sets import contact_sheet
from classify.report.tables import interval, number, percent
from classify.verdict import Verdict, verdicts

NAN = float("nan")
ARMS = ["real", "fair", "rare"]
SETS = ["fair", "rare"]
COLOURS = colours_of(ARMS)
ATTRIBUTES = ["Bald", "Male", "Attractive"]
SHARES = pd.Series({"Bald": 0.02, "Male": 0.42, "Attractive": NAN})
PAPER = {"paper: real images": {"f1_samples": 0.746, "recall_samples": 0.71}}
PAIRS = [("fair", "real"), ("rare", "real"), ("rare", "fair")]
COMPOSITION = pd.DataFrame(
    [("real train", "Male", "Male=0", 3, 0.75), ("real train", "Male", "Male=1", 1, 0.25)],
    columns=["set", "grouping", "group", "n", "share"],
)
QUOTAS = pd.DataFrame(
    [("rare", "Bald=1", 5, 4, 3), ("rare", "all", 9, 9, 9)],
    columns=["arm", "wish", "wanted", "available", "got"],
)
ADMISSION = pd.DataFrame(
    [("rare", "kept", 1234, 0.9), ("rare", "blank", 137, 0.1)],
    columns=["arm", "admission", "images", "share"],
)


def _comparison(
    low: float = 0.01, high: float = 0.03, n_seeds: int = 3, word: str = "gain"
) -> pd.DataFrame:
    rows = [
        (*pair, attribute, metric, 0.02, low, high, word, n_seeds)
        for pair in PAIRS
        for attribute in ("macro", *ATTRIBUTES)
        for metric in ("f1", "precision", "recall", "average_precision", "f1_fitted")
    ]
    columns = ["arm", "baseline", "attribute", "metric", "difference", "low", "high", "verdict"]
    frame = pd.DataFrame(rows, columns=[*columns, "n_seeds"])
    frame.loc[frame["attribute"] == "Attractive", ["difference", "low", "high"]] = NAN
    return frame


def _verdicts(comparison: pd.DataFrame) -> list[Verdict]:
    return verdicts(comparison, PAIRS)


def _scores(n_seeds: int = 3) -> pd.DataFrame:
    rows = [
        (arm, seed, "test", name, "f1", NAN if name == "Attractive" else 0.5 + 0.01 * seed)
        for arm in ARMS
        for seed in range(n_seeds)
        for name in ("macro", *ATTRIBUTES)
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "split", "attribute", "metric", "value"])


def _summary(low: float = 0.41, high: float = 0.43, n_seeds: int = 3) -> pd.DataFrame:
    metrics = ("f1", "precision", "recall")
    rows = [(arm, metric, 0.42, low, high, n_seeds) for arm in ARMS for metric in metrics]
    return pd.DataFrame(rows, columns=["arm", "metric", "mean", "low", "high", "n_seeds"])


def _prevalence() -> pd.DataFrame:
    shares = {"real": [0.02, 0.42, NAN], "fair": [0.01, 0.4, NAN], "rare": [0.05, 0.4, NAN]}
    return pd.DataFrame(shares, index=pd.Index(ATTRIBUTES, name="attribute"))


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


def _policy(fitted: bool = True) -> pd.DataFrame:
    columns = {
        **{"present": [0.7, None], "absent": [0.4, 0.5], "temperature": [1.5, 1.0]},
        **{"ece_before": [0.061, NAN], "ece_after": [0.012, NAN], "kept": [0.875, 0.5]},
        "n": [100, 90] if fitted else [None, None],
    }
    return pd.DataFrame(columns, index=pd.Index(ATTRIBUTES[:2], name="attribute"))


def _trust() -> pd.DataFrame:
    counts = {"train": [12, 40, 90], "val": [4, 20, 50], "test": [5, 21, 60]}
    return pd.DataFrame(
        {
            "attribute": ATTRIBUTES[:3],
            **counts,
            **{f"not_{split}": [100, 90, 80] for split in counts},
            "doubt": ["4 are too few", "", ""],
        }
    )


def _images(folder: Path, count: int = 3) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        Image.new("RGB", (8, 8), (80 * i, 0, 0)).save(path)
    return paths


def _bare() -> list[Section | None]:
    """What every study has."""
    return [
        verdict_section(_verdicts(_comparison())),
        arms_section(_summary(), _comparison(), 2, 3, COLOURS, {}),
        attributes_section(_scores(), ARMS, COLOURS),
    ]


def _full(folder: Path) -> list[Section | None]:
    images = _images(folder)
    rarity = pd.DataFrame({"mean_log_probability": [-14.0, -16.25], "n": [3000, 3000]}, index=SETS)
    settings = {"guidance": {"scale": 0.4}, "betas": [0.9, 0.999], "data": None}
    cards = {"generator": {"licence": "MIT", "steps": 1000}}
    return [
        verdict_section(_verdicts(_comparison()), ["The labeler cannot tell Bald."]),
        arms_section(
            _summary(), _comparison(), 2, 3, COLOURS, {"rare": "what is seldom"}, published=PAPER
        ),
        controls_section(_comparison(), "rare", {"fair": "nothing but real images"}, COLOURS),
        attributes_section(_scores(), ARMS, COLOURS, SHARES),
        differences_section(_comparison(), "rare", COLOURS, SHARES, _quality()),
        samples_section({"fair": images, "rare": images[:2]}, {"rare": images[1:]}, COLOURS),
        rarity_section(_prevalence(), rarity, COLOURS),
        admission_section(ADMISSION, {"blank": images[:1]}, QUOTAS, COLOURS),
        labels_section(_quality(), _policy(), _trust(), SHARES),
        notes_section(["Took 9 min."]),
        record_section(settings, cards, ["torch"]),
    ]


def _page(folder: Path, sections: Sequence[Section | None], title: str = "Study") -> str:
    path = folder / "out" / "report.html"
    write_page(path, title, sections)
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
    return re.sub(r"\s+", " ", " ".join(parser.words))


def test_the_verdict_comes_first_and_says_of_every_pair_what_was_found(tmp_path: Path) -> None:
    sections = [*_bare(), verdict_section(_verdicts(_comparison()))][1:]  # wherever it stands
    text = _text(_page(tmp_path, sections))
    assert text.index("rare gains over real and fair") < text.index("over 2 of 3 attributes")
    figures = "+0.020 [+0.010, +0.030], also in average precision and at fitted thresholds"
    assert f"rare against fair gain {figures} – yes" in text


def test_one_seed_is_no_evidence_and_has_no_intervals(tmp_path: Path) -> None:
    comparison = _comparison(NAN, NAN, 1, "no evidence of gain")
    summary = arms_section(_summary(NAN, NAN, 1), comparison, 2, 3, COLOURS, {})
    page = _page(tmp_path, [verdict_section(_verdicts(comparison)), summary])
    text = _text(page)
    assert "there is no evidence of gain for any arm." in text
    assert "no evidence of gain +0.020, one seed, so no interval" in text
    assert "nan" not in text.lower().split()


def test_scores_stand_beside_their_intervals_and_a_single_fit_has_none(tmp_path: Path) -> None:
    labeler = _summary(NAN, NAN, 1).query("arm == 'fair'").assign(arm="labeler: x")
    labeler["mean"] = np.where(labeler["metric"] == "f1", 0.9, 0.8)
    both = pd.concat([_summary(), labeler])
    meanings = {"labeler: x": "not an arm"}
    text = _text(_page(tmp_path, [arms_section(both, _comparison(), 2, 3, COLOURS, meanings)]))
    assert "F1 F1, rare Average precision Average precision, rare F1 at fitted thresholds" in text
    assert "labeler: x not an arm 0.900 – – – –" in text
    assert "real 0.420 0.410 to 0.430 – " in text


def test_the_papers_figures_stand_with_the_mean_over_images(tmp_path: Path) -> None:
    samples = _summary().assign(metric=lambda rows: rows["metric"] + "_samples", mean=0.33)
    section = arms_section(
        pd.concat([_summary(), samples]), _comparison(), 2, 3, COLOURS, {}, published=PAPER
    )
    page = _page(tmp_path, [section])
    table = page[page.index("by the three means") :]
    header = re.findall(r'<th scope="col">(.*?)</th>', table)
    rows = {
        name: re.findall(r"<td>(.*?)(?:<small>.*?)?</td>", row)
        for name, row in re.findall(
            r'<th scope="row">(?:<span.*?</span>)?([\w: ]+)(.*?)</tr>', table
        )
    }
    assert header[1:4] == ["F1, images", "Precision, images", "Recall, images"]
    assert rows["real"] == ["0.330"] * 3 + ["–"] * 3 + ["0.420"] * 3
    assert rows["paper: real images"] == ["0.746", "–", "0.710"] + ["–"] * 6


def test_differences_from_real_are_drawn_for_all_and_for_rare_attributes(tmp_path: Path) -> None:
    comparison = _comparison()
    rare = comparison[comparison["attribute"] == "macro"].assign(attribute="macro, rare")
    rare.loc[rare["metric"] == "f1_fitted", ["low", "high"]] = -0.01, 0.05
    both = pd.concat([comparison, rare])
    page = _page(tmp_path, [arms_section(_summary(), both, 2, 3, COLOURS, {})])
    figure = page[page.index("<svg") : page.index("</svg>")]
    for name in ("fair", "rare", "all attributes", "rare attributes", "average precision"):
        assert f">{name}</text>" in figure
    assert figure.count(">F1, fitted</text>") == len(SETS)
    text = _text(page)
    assert "rare rare attributes F1, fitted +0.020 −0.010 to +0.050" in text
    assert "fair all attributes average precision +0.020 +0.010 to +0.030" in text
    alone = _page(tmp_path, [arms_section(_summary(), both[:0], 2, 3, COLOURS, {})])
    assert "<svg" not in alone


def test_without_a_set_there_is_no_verdict(tmp_path: Path) -> None:
    section = verdict_section(_verdicts(_comparison()[:0]))
    assert "so there is no verdict" in _text(_page(tmp_path, [section]))
    assert controls_section(_comparison()[:0], None, {"again": "real images"}, COLOURS) is None
    assert differences_section(_comparison()[:0], None, COLOURS) is None


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
        "Caution: The labeler cannot tell Bald.", "over 2 of 3 attributes",
        "0.420 0.410 to 0.430", "what is seldom",
        "Against real", "paper: real images CelebA at 64 px, one run 0.746",
        "fair nothing but real images +0.020 +0.010 to +0.030", "Means over seeds",
        "F1 of rare minus F1 of the other arm", "not chosen by eye", "The rarest", "below 12 %",
        "Mean log-probability", "−16.25 3,000", "kept 1,234 90.0 %", "rare Bald=1 5 4 3",
        "Thresholds, temperatures", "Took 9 min.", "guidance.scale 0.4", "[0.9, 0.999]", "data –",
        "Weights: generator", "torch 2.",
    ]  # fmt: skip
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert page.count("<img") == page.count('alt="Grid of') == 4
    assert page.count("<svg") == page.count('role="img" aria-label="')


def test_contents_lead_to_every_section_but_the_verdict(tmp_path: Path) -> None:
    page = _page(tmp_path, _full(tmp_path))
    links = re.findall(r'<a href="#([^"]*)">([^<]*)', page)
    assert links == re.findall(r'<section id="([^"]*)">\s*<h2>([^<]*)', page)
    assert len(links) == 10


def test_labels_are_judged_by_attribute_and_over_the_same_attributes_by_group(
    tmp_path: Path,
) -> None:
    text = _text(_page(tmp_path, [labels_section(_quality(), _policy(), _trust())]))
    assert "2.6 % of labels wrong, 90.0 % kept" in text
    assert "Means over the 1 attributes" in text
    assert "Male=0 0.750" in text
    assert "1 of 3 attributes have no label in the synthetic images" in text
    assert f"{ATTRIBUTES[0]} 12 / 4 / 5 100 / 100 / 100 none: 4 are too few" in text
    assert "40 / 20 / 21" not in text  # nothing speaks against it
    assert "0.123" not in text  # an attribute that one group cannot judge is in no group's mean


@pytest.mark.parametrize("fitted", [True, False])
def test_a_policy_says_whether_it_was_fitted(tmp_path: Path, fitted: bool) -> None:
    text = _text(_page(tmp_path, [labels_section(_quality(), _policy(fitted), _trust())]))
    assert "0.700 0.400 1.500 0.061 0.012 87.5 %" in text
    assert "– 0.500 1.000 – – 50.0 %" in text
    assert ("These were fitted on real validation images" in text) == fitted
    assert ("thresholds on the labeler’s card" in text) != fitted


def test_the_labels_error_stands_beside_the_gain(tmp_path: Path) -> None:
    section = differences_section(_comparison(), "rare", COLOURS, SHARES, _quality())
    assert "Bald +0.020 +0.010 to +0.030 3.1 %" in _text(_page(tmp_path, [section]))


def test_rare_and_common_attributes_are_told_apart(tmp_path: Path) -> None:
    comparison = _comparison()
    rare = comparison[(comparison["attribute"] == "macro") & (comparison["baseline"] == "real")]
    rare = rare.assign(attribute="macro, rare", difference=0.043)
    section = differences_section(pd.concat([comparison, rare]), "rare", COLOURS)
    text = _text(_page(tmp_path, [section]))
    assert "rare attributes (below 12 %) common attributes real +0.043 +0.010 to +0.030 –" in text


def test_differences_are_counted_before_and_after_holm(tmp_path: Path) -> None:
    comparison = _comparison().assign(p_holm=0.5)
    comparison.loc[comparison["attribute"] == "Bald", "p_holm"] = 0.01
    text = _text(_page(tmp_path, [differences_section(comparison, "rare", COLOURS)]))
    told = "Of 2 attributes, 2 lie above 0, 0 below 0, and 0 are undecided; 1 are certain"
    assert text.count(told) == 2  # against real, and against the other set
    assert "rare against fair" in text
    assert "fair against" not in text


def test_controls_stay_out_of_the_figure(tmp_path: Path) -> None:
    section = attributes_section(_scores(), SETS, COLOURS)
    page = _page(tmp_path, [section])
    assert 'aria-label="Dot plot of F1 by attribute for fair, rare;' in page
    assert re.search(r"key-0\"></span>real</th>", page)  # the table has them all


def test_cautions_stand_beside_the_verdict(tmp_path: Path) -> None:
    section = verdict_section(_verdicts(_comparison()), ["The labeler cannot tell Bald."])
    page = _page(tmp_path, [section])
    verdict = page[page.index('<section class="boxed"') : page.index("</section>")]
    assert "Caution: The labeler cannot tell Bald." in verdict


def _audit(images: int) -> pd.DataFrame:
    labels = np.tile(np.array([[1], [0]], np.float32), (images, 1))
    good = np.tile(labels, (2, 1, 1)) * 0.5 + 0.25
    biased = good.copy()
    biased[:, images:] = 0.1  # never predicted in the second group
    groups = pd.DataFrame({"Male": np.repeat([0.0, 1.0], images)})
    arms = {"real": good, "rare": biased}
    return audit(labels, arms, groups, ["Bald"], baseline="real", draws=50)


def test_an_audit_tells_before_after_and_change(tmp_path: Path) -> None:
    text = _text(_page(tmp_path, [audit_section(_audit(80), "rare", COMPOSITION, COLOURS)]))
    assert "before (real) and after (rare)" in text
    assert "Male Demographic parity difference 0.000 0.500 +0.500 1" in text
    assert "Male F1 of the worst group 1.000 0.000 −1.000 1" in text
    assert "changes are certain after Holm’s adjustment" in text
    assert "Bald Male Demographic parity difference +0.500 +0.3" in text
    assert "Male=0 75.0 %" in text


def test_an_audit_that_judges_nothing_says_so_and_shows_no_empty_table(tmp_path: Path) -> None:
    page = _page(tmp_path, [audit_section(_audit(20), "rare", COMPOSITION, COLOURS)])
    text = _text(page)
    assert "No difference between groups could be judged" in text
    assert "Not estimable for lack of images: Male=0 (1 attribute), Male=1" in text
    assert "None of 0" not in text
    assert not re.search(r"<tbody>\s*</tbody>", page)


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    nothing = [
        samples_section({"rare": []}, {}, COLOURS),
        rarity_section(_prevalence().tail(2), None, COLOURS),
        admission_section(ADMISSION[:0], {}, QUOTAS, COLOURS),
        notes_section([]),
        record_section({}, {}, []),
    ]
    assert nothing == [None] * 5
    page = _page(tmp_path, [*_bare(), *nothing])
    assert re.findall(r"<h[23]>([^<]*)</h[23]>", page) == [
        "Verdict", "Scores by arm", "Against real", "F1 by attribute"
    ]  # fmt: skip
    quotas = QUOTAS[QUOTAS["wish"] == "all"]
    text = _text(_page(tmp_path, [admission_section(ADMISSION, {}, quotas, COLOURS)]))
    assert "Quotas" not in text


def test_unscored_attributes_are_named_and_never_zero(tmp_path: Path) -> None:
    page = _page(tmp_path, [attributes_section(_scores(), ARMS, COLOURS, SHARES)])
    assert "does not hold both values: Attractive." in _text(page)
    row = re.search(r"<tr><th scope=\"row\">Attractive</th>(.*?)</tr>", page)
    assert row is not None
    assert set(re.findall(r"<td>(.*?)</td>", row.group(1))) == {"–"}


def test_only_rare_attributes_are_counted_as_such(tmp_path: Path) -> None:
    page = _page(tmp_path, [rarity_section(_prevalence(), None, COLOURS)])
    assert re.findall(r'<th scope="row">(.*?)</th>', page) == ["Bald"]
    assert re.findall(r"<td>(.*?)</td>", page) == ["2.0 %", "1.0 %", "5.0 %"]


def test_attributes_come_rarest_first(tmp_path: Path) -> None:
    shares = pd.Series({"Male": 0.1, "Bald": 0.3, "Attractive": NAN})
    for section in (
        attributes_section(_scores(), ARMS, COLOURS, shares),
        differences_section(_comparison(), "rare", COLOURS, shares),
    ):
        names = re.findall(r'<th scope="row">(\w+)</th>', _page(tmp_path, [section]))
        assert names[:2] == ["Male", "Bald"]


def test_arms_keep_their_colour_in_all_figures(tmp_path: Path) -> None:
    page = _page(tmp_path, _full(tmp_path))
    figures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(figures) == 5
    gaps, f1, against_real, against_fair, rare = (
        set(re.findall(r"var\(--arm-(\d)\)", figure)) for figure in figures
    )
    assert f1 == rare == {"0", "1", "2"}
    assert gaps == {"1", "2"}
    assert against_real == against_fair == {"2"}
    assert not re.search(r"#0[0-9a-f]{5}", "".join(figures))  # no placeholder is left


def test_after_eight_colours_arms_are_grey_and_still_named(tmp_path: Path) -> None:
    arms = ["real", "_first", *(f"a set with a long name {i}" for i in range(9))]
    scores = pd.concat([_scores().query("arm == 'real'").assign(arm=arm) for arm in arms])
    colours = colours_of(arms)
    page = _page(tmp_path, [attributes_section(scores, arms, colours)])
    figure = page[page.index("<svg") : page.index("</svg>")]
    assert set(re.findall(r"var\(--arm-(\d)\)", figure)) == {str(i) for i in range(8)}
    assert all(arm in figure for arm in arms)
    assert 'key-7"></span>a set with a long name 5<' in page
    assert '<th scope="col">a set with a long name 6</th>' in page
    assert differences_section(_comparison(), "rare", {}) is not None


def test_text_of_the_user_is_escaped_wherever_it_stands(tmp_path: Path) -> None:
    evil = "<b onclick=x>&$^$"
    [image] = _images(tmp_path, 1)
    swap = {"Bald": evil, "rare": evil, "Male=0": evil}
    quality = _quality().replace(swap)
    prevalence = _prevalence().rename(index=swap, columns=swap)
    colours = colours_of(["real", "fair", evil])
    sections = [
        verdict_section(verdicts(_comparison().replace(swap), [(evil, "real")]), [evil]),
        arms_section(
            _summary().replace(swap),
            _comparison().replace(swap),
            2,
            3,
            colours,
            {evil: evil},
            published={evil: PAPER["paper: real images"]},
        ),
        controls_section(_comparison().replace(swap), evil, {"real": evil}, colours),
        attributes_section(_scores().replace(swap), [evil], colours, prevalence["real"]),
        differences_section(_comparison().replace(swap), evil, colours, None, quality),
        audit_section(_audit(40).replace(swap), evil, COMPOSITION.replace(swap), colours),
        samples_section({evil: [image]}, {evil: [image]}, colours),
        rarity_section(prevalence, None, colours),
        admission_section(ADMISSION.replace(swap), {evil: [image]}, QUOTAS.replace(swap), colours),
        labels_section(quality, _policy().rename(index=swap), _trust().replace(swap)),
        notes_section([evil]),
        record_section({evil: evil}, {evil: {"a": evil}}, ["torch"]),
    ]
    page = _page(tmp_path, sections, title=evil)
    assert "<b onclick" not in page
    assert page.count("&lt;b onclick=x") > 40
    _text(page)


def test_a_failed_report_leaves_the_old_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_page(path, "Study", _bare())
    before = path.read_bytes()
    with pytest.raises(FileNotFoundError, match=r"gone\.png is missing"):
        write_page(path, "Study", (samples_section({"a": ["gone.png"]}, {}, {}) for _ in range(1)))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_the_same_results_give_the_same_file(tmp_path: Path) -> None:
    sections = _full(tmp_path)
    assert _page(tmp_path, sections) == _page(tmp_path, _full(tmp_path))


def test_a_table_without_its_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="summary has no column high; the report shows arm"):
        arms_section(_summary().drop(columns="high"), _comparison(), 2, 3, COLOURS, {})
    with pytest.raises(ValueError, match="comparison has no column verdict"):
        controls_section(_comparison().drop(columns="verdict"), "rare", {}, COLOURS)
    with pytest.raises(ValueError, match="n_scored is 4; the macro scores are a mean over 0 to 3"):
        arms_section(_summary(), _comparison(), 4, 3, COLOURS, {})


def test_a_sheet_has_eight_columns_and_keeps_the_pixels(tmp_path: Path) -> None:
    paths = []
    for i in range(10):
        paths.append(tmp_path / f"{i}.png")
        Image.new("RGB", (4, 4), (20 * i, 0, 0)).save(paths[-1])
    sheet = contact_sheet(paths, Cell("some"), "of some")
    assert (sheet.width, sheet.height) == (8 * 6 - 2, 2 * 6 - 2)
    assert sheet.label == "Grid of 10 images: of some"
    assert contact_sheet(paths, Cell(""), "of some", limit=3).label.startswith("Grid of 3 ")


def test_a_sheet_shows_images_as_classifiers_see_them(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 0x8000, np.uint16)).save(tmp_path / "deep.png")
    Image.new("LA", (4, 4), (0, 0)).save(tmp_path / "clear.png")
    sheet = contact_sheet([tmp_path / "deep.png", tmp_path / "clear.png"], Cell(""), "of two")
    with Image.open(io.BytesIO(base64.b64decode(sheet.uri.split(",")[1]))) as image:
        assert image.getpixel((0, 0)) == (128, 128, 128, 255)
        assert image.getpixel((6, 0)) == (255, 255, 255, 255)


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


def test_a_legend_of_two_rows_reads_in_the_order_of_the_names() -> None:
    names = [f"arm number {i}" for i in range(5)]
    values = pd.DataFrame({name: [0.5] for name in names})
    drawing = str(dot_plot(values, colours_of(names), label="F1"))
    texts = re.findall(r'x="([\d.]+)" y="([\d.]+)"[^>]*>\u200b(arm number \d)<', drawing)
    read = sorted(texts, key=lambda text: (float(text[1]), float(text[0])))
    assert [name for *_, name in read] == names
    assert len({y for _, y, _ in read}) > 1


def test_steered_sets_show_what_was_asked_by_every_labeler() -> None:
    hits = pd.DataFrame(
        [
            ("targeted", "generator", "Bald", 1, 30, 0.9, 0.1),
            ("targeted", "generator", "Young", 0, 10, 0.5, 0.3),
            ("targeted", "judge avatars", "Bald", 1, 30, 0.7, 0.1),
            ("targeted", "judge avatars", "Young", 0, 10, 0.3, 0.3),
        ],
        columns=["arm", "labeler", "attribute", "value", "asked", "hit", "unasked"],
    )
    section = targets_section(hits, colours_of(["targeted"]))
    assert section is not None
    text = str(section.blocks)
    for share in ("80.0 %", "60.0 %", "15.0 %"):  # (30 x .9 + 10 x .5) / 40, and so on
        assert share in text
    assert "Bald = 1" in text
    assert targets_section(hits[:0], {}) is None
