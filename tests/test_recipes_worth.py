"""What labelled real images are worth: nested sizes, no work twice, the table, and refusals."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from recipe_doubles import digests, save_celeba, save_folder, save_generator, tiny_flags

import classify.study
from classify import load_table
from recipes.chain.results.learning_curve import chart, curves, exchanged, sentence
from recipes.worth import PRESETS, SKIPPED, WorthConfig, main

_GENERATE = import_module("augment.generate")  # the package has a function of the name
SPLITS = ("train",) * 24 + ("val",) * 12 + ("test",) * 8


class Work:
    """Counts fits and generated images."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.fits: list[str] = []
        self.images = 0
        fit, sample = classify.study.fit, _GENERATE.sample_batch

        def counted_fit(*args: object, **kwargs: object) -> object:
            self.fits.append(str(kwargs["label"]))
            return fit(*args, **kwargs)  # type: ignore[arg-type]

        def counted_sample(denoiser: object, seeds: list[int], **kwargs: object) -> object:
            self.images += len(seeds)
            return sample(denoiser, seeds, **kwargs)  # type: ignore[arg-type]

        patch.setattr(classify.study, "fit", counted_fit)
        patch.setattr(_GENERATE, "sample_batch", counted_sample)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("worth")
    save_generator(root / "generator")
    save_folder(root / "data", splits=SPLITS)
    return root


def _run(root: Path, out: Path, *more: str) -> pd.DataFrame:
    flags = tiny_flags(root / "data", root / "generator", out)
    return main([*flags, "--sizes", "8", "16", "--knowledge", "generator", "few", *more])


@pytest.fixture(scope="module")
def first(root: Path) -> tuple[pd.DataFrame, Work]:
    """A run in `out` that was stopped in its third fit and continued, and what both did."""
    with pytest.MonkeyPatch.context() as patch:
        work = Work(patch)
        counted = classify.study.fit

        def stopping(*args: object, **kwargs: object) -> object:
            if len(work.fits) == 2:
                raise OSError("no more power")
            return counted(*args, **kwargs)  # type: ignore[arg-type]

        with patch.context() as inner:
            inner.setattr(classify.study, "fit", stopping)
            with pytest.raises(OSError, match="no more power"):
                _run(root, root / "out")
        return _run(root, root / "out"), work


def test_nothing_is_fitted_or_generated_twice_even_if_stopped(
    root: Path, first: tuple[pd.DataFrame, Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, work = first
    # At each of 2 sizes with 2 seeds: real, oversample, and minority and targeted by 2 labelers.
    assert len(work.fits) == 2 * 2 * (2 + 2 * 2)
    assert work.fits.count("real, seed 0") == work.fits.count("oversample, seed 1") == 2
    # Of 6 images, minority's once for all, targeted's for 2 sizes and 2 labelers.
    assert work.images == 6 + 6 * 2 * 2
    before = digests(root / "out", "*.png")
    again = Work(monkeypatch)
    pd.testing.assert_frame_equal(_run(root, root / "out"), table)
    assert (again.fits, again.images) == ([], 0)
    assert digests(root / "out", "*.png").keys() == before.keys()


def test_images_of_no_labeler_are_the_same_in_all_cells(
    root: Path, first: tuple[pd.DataFrame, Work]
) -> None:
    cells = [root / "out" / size / known for size in ("8", "16") for known in ("generator", "few")]
    shared = digests(root / "out" / "images" / "minority", "*.png")
    targeted = [digests(cell / "synthetic" / "targeted", "*.png") for cell in cells]
    assert len(shared) == 6
    for cell in cells:
        assert digests(cell / "synthetic" / "minority", "*.png") == shared
    assert all(one != other for i, one in enumerate(targeted) for other in targeted[:i])
    labels = [load_table(cell / "synthetic" / "minority")["p_Male"] for cell in cells]
    assert not np.allclose(labels[0], labels[1])


def test_what_is_written_fits_together(root: Path, first: tuple[pd.DataFrame, Work]) -> None:
    table, out = first[0], root / "out"
    worth, scores = (pd.read_csv(out / f"{name}.csv") for name in ("worth", "scores"))
    assert list(worth) == [
        *("size", "knowledge", "arm", "metric", "mean", "low", "high", "n_seeds")
    ]
    assert set(worth.loc[worth["knowledge"] == "any", "arm"]) == {"real", "oversample"}
    assert set(worth.loc[worth["knowledge"] != "any", "arm"]) == {"minority", "targeted"}
    exchange = pd.read_csv(out / "exchange.csv", keep_default_na=False)
    assert list(exchange["says"]) == list(table["says"])
    keys = ["size", "knowledge", "arm", "metric"]
    assert not table.duplicated(keys).any()
    assert len(table.query("metric == 'f1'")) == 2 * 2 * 2
    merged = table.merge(worth, on=keys, suffixes=("", "_of_curve"))
    np.testing.assert_allclose(merged["mean"], merged["mean_of_curve"])
    assert set(scores["split"]) == {"val", "test"}
    with Image.open(out / "worth.png") as picture:
        assert picture.width > picture.height > 300


def test_smaller_sizes_are_nested_in_larger_ones(
    root: Path, first: tuple[pd.DataFrame, Work], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, dict[str, set[str]]] = {}

    def noted(arms: dict[str, object], *args: object, out: Path, **kwargs: object) -> None:
        table = arms["real"].table  # type: ignore[attr-defined]
        names = table.groupby("split")["file_name"].agg(set)
        seen[out.name] = names.to_dict()
        if out.name == "16":
            raise OSError("seen enough")
        return pd.read_csv(root / "out" / out.name / "fits" / "real-0" / "scores.csv")  # type: ignore[return-value]

    monkeypatch.setattr("recipes.worth.run_study", noted)
    with pytest.raises(OSError, match="seen enough"):
        _run(root, tmp_path / "out", "--arms", "real", "oversample", "minority")
    small, large = seen["8"], seen["16"]
    assert (len(small["train"]), len(large["train"])) == (8, 16)
    assert small["train"] < large["train"]
    assert small["val"] <= large["val"]
    assert small["test"] == large["test"]


def _made_up(gain: float) -> pd.DataFrame:
    """Scores 0.2 higher for every factor of ten real images, `more` those of `gain` times as many.

    `oversample` is better than `real` on val, but on test it is worse.
    """
    rows = []
    for size in (100, 1000, 10_000):
        for split, worse in (("val", -0.05), ("test", 0.1)):
            f1 = 0.2 * np.log10(size)
            arms = [("real", "any", f1), ("oversample", "any", f1 - worse)]
            arms.append(("more", "few", 0.2 * np.log10(size * gain) - 0.1))
            rows += [
                (size, known, arm, seed, split, "macro", "f1", value)
                for arm, known, value in arms
                for seed in range(3)
            ]
    columns = ["size", "knowledge", "arm", "seed", "split", "attribute", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def test_the_exchange_is_with_the_arm_that_is_best_on_val() -> None:
    found = exchanged(_made_up(3.0), ["real", "oversample"])
    assert found["images"].iloc[:2].to_numpy() == pytest.approx([300, 3000], rel=0.003)
    assert list(found["says"].iloc[[0, 2]]) == ["about 300 [300, 300]", "more than all 10,000"]
    assert list(exchanged(_made_up(0.5), ["real", "oversample"])["says"]) == [
        *("fewer than 100", "about 500 [500, 500]", "about 5,000 [5,000, 5,000]")
    ]


def test_the_sentence_and_the_picture_are_of_the_middle_size() -> None:
    scores = _made_up(3.0)
    found = exchanged(scores, ["real", "oversample"])
    said = sentence(found, "more")
    assert said.startswith(
        "With more images, 1,000 labelled real ones give the macro F1 that takes"
    )
    assert "about 3,0" in said
    assert said.endswith("where labels come from a network trained on the same images.")
    figure = chart(curves(scores), found, "more")
    assert len(figure.axes) == 1
    assert any("1,000 with more are worth" in text.get_text() for text in figure.axes[0].texts)


def test_it_works_on_celebas_own_layout_with_a_labeler_from_elsewhere(
    root: Path, first: tuple[pd.DataFrame, Work], tmp_path: Path
) -> None:
    data = save_celeba(tmp_path / "celeba", images=20)
    labeler = root / "out" / "8" / "few" / "labeler"
    flags = [*tiny_flags(data, root / "generator", tmp_path / "out"), "--study.seeds=1"]
    flags += [f"--labeler={labeler}", "--knowledge", "elsewhere", "--sizes", "4", "7"]
    found = main([*flags, "--arms", "real", "minority"])
    assert set(zip(found["size"], found["arm"], strict=True)) == {(4, "minority"), (7, "minority")}
    assert set(found["knowledge"]) == {"elsewhere"}
    assert found["low"].isna().all()  # one seed


def test_sizes_go_from_100_to_all() -> None:
    config = WorthConfig()
    assert config.resolved_sizes(3000) == [100, 300, 1000, 3000]
    assert config.resolved_sizes(12_408) == [100, 300, 1000, 3000, 12_408]
    assert set(config.labeler_of) == {"elsewhere", "generator", "few"}
    assert set(WorthConfig(data=Path("faces")).labeler_of) == {"generator", "few"}
    named = WorthConfig(data=Path("faces"), labeler="model")
    assert named.labeler_of["elsewhere"] == "model"
    assert not {"num_real", "preview", "judge"} & set(PRESETS["paper"])
    assert {"num_real", "preview", "judge"} <= set(SKIPPED)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sizes", "16", "8"], r"^sizes are \[16, 8\]; give at least two ascending numbers"),
        (["--sizes", "8", "99"], r"^sizes are \[8, 99\], and the data have 24 train rows; "),
        (["--knowledge", "elsewhere"], "no labeler is from there; give --labeler"),
        (["--arms", "real", "oversample"], "^arms are real, oversample; add one with a synthetic"),
    ],
)
def test_what_cannot_be_is_refused(
    root: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _run(root, tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_another_one_in_the_folder_is_refused(root: Path, first: tuple[pd.DataFrame, Work]) -> None:
    with pytest.raises(
        ValueError, match=r"another run: sizes is \[8, 16\] there and \[8, 24\] now"
    ):
        _run(root, root / "out", "--sizes", "8", "24")
