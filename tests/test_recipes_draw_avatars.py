"""The command that draws avatars."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from classify.datasets.avatars import Pool, avatar_table
from recipes.draw_avatars import main

TINY = ["--train", "3", "--val", "1", "--test", "0"]


def test_it_draws_the_same_as_the_function(tmp_path: Path) -> None:
    drawn = main(["--out", str(tmp_path / "a"), "--pool", "labeler", "--seed", "2", *TINY])
    wanted = avatar_table(tmp_path / "b", train=3, val=1, test=0, seed=2, pool=Pool.LABELER)
    pd.testing.assert_frame_equal(drawn.drop(columns="path"), wanted.drop(columns="path"))
    for name in wanted["file_name"]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_it_draws_nothing_twice_and_refuses_other_pictures(tmp_path: Path) -> None:
    main(["--out", str(tmp_path), *TINY])
    written = (tmp_path / "metadata.csv").stat().st_mtime_ns
    main(["--out", str(tmp_path), *TINY])
    assert (tmp_path / "metadata.csv").stat().st_mtime_ns == written
    with pytest.raises(ValueError, match=r"holds avatars with .*give another path, or delete"):
        main(["--out", str(tmp_path), "--seed", "1", *TINY])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size", "4"], "size is 4; faces need 8"),
        (["--train", "-1"], "train, val, test are -1, 1000, 2000; no count is negative"),
        (["--train", "0", "--val", "0", "--test", "0"], "one is positive; correct them"),
        (["--pool", "real"], "real"),
    ],
)
def test_bad_settings_are_refused_in_one_line(
    tmp_path: Path, flags: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        main(["--out", str(tmp_path / "a"), *flags])
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "a").exists()
