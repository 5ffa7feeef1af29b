"""What measuring takes: both engines measure the same, and the figures are told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import recipes.benchmark_metrics
from augment.metrics import Measured, Orders
from recipes.benchmark_metrics import ENGINES, Settings, differences, main, make_features
from recipes.chain.command.command_line import run

pytest.importorskip("faiss")


def _features(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    make_features(Settings(real=120, generated=50, width=40), folder)
    return np.load(folder / "real.npy"), np.load(folder / "generated.npy")


def _flags(tmp_path: Path, *more: str) -> list[str]:
    sizes = ("--real=60", "--generated=40", "--width=16")
    return [*sizes, f"--out={tmp_path / 'out'}", *more]


def test_both_engines_measure_the_same(tmp_path: Path) -> None:
    real, generated = _features(tmp_path)
    generated[3] += 9  # In no ball.
    orders = Orders(lof=11)
    found: list[Measured] = []
    for engine in ENGINES.values():
        one = engine(real, orders)
        assert one.search().distances.shape == (120, 11)
        found.append(one.measure(generated))
    assert max(differences(*found).values()) < 1e-5
    ours, theirs = found
    assert ours.inside.any()
    assert not ours.inside[3]
    assert ours.recalled.any()
    np.testing.assert_array_equal(np.isnan(ours.rarity), np.isnan(theirs.rarity))
    assert (ours.density, ours.coverage) == pytest.approx((theirs.density, theirs.coverage))


def test_differences_are_seen(tmp_path: Path) -> None:
    real, generated = _features(tmp_path)
    blocks = ENGINES["blocks"](real, Orders())
    blocks.search()
    one, other = blocks.measure(generated), blocks.measure(generated)
    assert set(differences(one, other).values()) == {0}
    other.lof[7] *= 1.5
    other.inside[:5] ^= True
    found = differences(one, other)
    assert found["lof"] == pytest.approx(0.5)
    assert found["inside"] == pytest.approx(0.1)
    assert found["avg_knn"] == 0


def test_the_figures_are_written_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # One engine, for a process of its own takes seconds to start.
    result = main(_flags(tmp_path, "--engines", "faiss"))
    assert json.loads((tmp_path / "out" / "benchmark_metrics.json").read_text()) == result
    (row,) = result["rows"]
    assert row["engine"] == "faiss"
    assert row["differences"] == {}
    assert min(row[key] for key in ("search_s", "measure_s", "cpu_s")) > 0
    said = capsys.readouterr().out
    assert "60 real, 40 generated, 16 features" in said
    assert said.count("\n") == 3


def test_memory_is_measured_beyond_the_features(tmp_path: Path) -> None:
    make_features(Settings(real=3000, generated=500, width=8), tmp_path)
    figures, _ = recipes.benchmark_metrics._measure_here("blocks", tmp_path)
    if figures["peak_megabytes"] is None:
        pytest.skip("no /proc/self/status here")
    assert figures["peak_megabytes"] >= 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--real=20"], "error: real is 20; give at least 21"),
        (["--width=0"], "error: width is 0; give at least 1"),
        (["--engines", "faiss", "faiss"], "engines is .* give one or more, each once"),
        (["--engines", "annoy"], "error: .*annoy"),
    ],
)
def test_a_refusal_is_one_line(tmp_path: Path, flags: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message) as refusal:
        run(lambda: main(_flags(tmp_path, *flags)))
    assert "\n" not in str(refusal.value)


def test_other_results_are_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "benchmark_metrics.json").write_text('{"settings": {"real": 1}}')
    with pytest.raises(ValueError, match=r"out holds benchmark_metrics.json but no settings.json"):
        main(_flags(tmp_path))
    (out / "benchmark_metrics.json").unlink()
    (out / "settings.json").write_text('{"real": 1}')
    with pytest.raises(ValueError, match=r"real is 1 there and 60 now, .*; give another folder"):
        main(_flags(tmp_path))
