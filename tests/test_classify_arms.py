"""Controls: what each adds or changes, that nothing else is touched, and what an arm may not do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import classify.study
from classify import (
    Arm,
    Augmentation,
    FitConfig,
    LossConfig,
    duplicate,
    load_table,
    oversample,
    relabel,
    run_study,
    substitute,
)
from classify.data import rand_augmented

NAN = float("nan")
TABLE = pd.DataFrame(
    {
        "file_name": [f"{i}.png" for i in range(7)],
        "split": ["train", "train", "train", "train", "val", "test", "train"],
        "source": ["real"] * 6 + ["synthetic"],
        "path": [f"/r/{i}.png" for i in range(7)],
        "Bald": [0.0, 0, 0, 1, 1, 1, 0],
        "Male": [0.0, 1, NAN, 1, 0, 1, 1],
    }
)
REAL_TRAIN = TABLE[:4]


def test_duplicate_adds_real_train_rows_and_the_seed_decides_which() -> None:
    more = duplicate(TABLE, 50)
    pd.testing.assert_frame_equal(more[:7], TABLE)
    assert len(more) == 57
    assert set(more["file_name"][7:]) == set(REAL_TRAIN["file_name"])
    pd.testing.assert_frame_equal(more, duplicate(TABLE, 50))
    assert not more.equals(duplicate(TABLE, 50, seed=1))


def test_relabel_adds_the_same_images_with_other_labels() -> None:
    labelled = REAL_TRAIN.assign(Bald=1.0, p_Bald=0.9)
    relabelled, duplicated = relabel(TABLE, labelled, 20), duplicate(TABLE, 20)
    assert relabelled["path"].tolist() == duplicated["path"].tolist()
    assert (relabelled["Bald"][7:] == 1).all()
    pd.testing.assert_frame_equal(relabelled[:7], TABLE)


def test_other_images_than_the_real_train_ones_cannot_be_relabelled() -> None:
    with pytest.raises(ValueError, match="not the table's real train images"):
        relabel(TABLE, TABLE, 3)
    with pytest.raises(ValueError, match=r"^3 of 0 real train rows"):
        duplicate(TABLE[TABLE["source"] == "synthetic"], 3)


def test_repeat_factors_are_gupta_s() -> None:
    rng = np.random.default_rng(0)
    n = 4000
    labels = (rng.random((n, 3)) < [0.01, 0.04, 0.5]).astype(float)
    table = pd.DataFrame(labels, columns=["rare", "less", "common"])
    table = table.assign(split="train", path=[str(i) for i in range(n)])
    repeated = oversample(table, ["rare", "less", "common"], share=0.16)["path"].value_counts()
    times = repeated[table["path"]].to_numpy()
    frequency = labels.mean(axis=0)
    factors = np.maximum(1, np.sqrt(0.16 / frequency))
    expected = np.where(labels == 1, factors, 1).max(axis=1)
    for rows in (labels[:, 0] == 1, (labels[:, 1] == 1) & (labels[:, 0] == 0)):
        assert times[rows].mean() == pytest.approx(expected[rows].mean(), rel=0.1)
    assert (times[(labels[:, :2] == 0).all(axis=1)] == 1).all()
    assert set(times - np.floor(expected)) <= {0, 1}


def test_oversampling_leaves_val_test_and_unlabelled_cells_alone() -> None:
    repeated = oversample(TABLE, ["Bald", "Male"], share=1.0)
    assert (repeated["split"] == "val").sum() == (repeated["split"] == "test").sum() == 1
    # Bald is 1 in 5 train rows: a factor of sqrt 5; Male 3 in 4.
    assert (repeated["path"] == "/r/3.png").sum() in (2, 3)
    assert (repeated["path"] == "/r/2.png").sum() == 1
    pd.testing.assert_frame_equal(oversample(TABLE, ["Bald"], share=0.1), TABLE)
    pd.testing.assert_frame_equal(
        oversample(TABLE[4:6], ["Bald"]), TABLE[4:6].reset_index(drop=True)
    )


def _rare_and_pool() -> tuple[pd.DataFrame, pd.DataFrame]:
    """400 train rows, one in 40 `rare`, one in 20 `less`; a pool of 30 rows, half of them `rare`
    and none `less`.
    """
    number = np.arange(400)
    table = pd.DataFrame({"rare": number % 40 == 0, "less": number % 20 == 1}).astype(float)
    table = table.assign(split="train", source="real", path=[f"r{i}" for i in number])
    made = np.arange(30)
    pool = pd.DataFrame({"rare": (made % 2).astype(float), "less": 0.0, "p_rare": 0.9})
    return table, pool.assign(split="train", source="synthetic", path=[f"s{i}" for i in made])


@pytest.mark.parametrize("replaced", [0.0, 0.25, 1.0])
def test_repeats_are_replaced_and_the_first_of_each_row_stays(replaced: float) -> None:
    table, pool = _rare_and_pool()
    how = {"share": 0.4, "seed": 3}
    repeated = oversample(table, ["rare", "less"], **how)
    mixed = substitute(table, pool, ["rare", "less"], replaced=replaced, **how)
    assert set(table["path"]) <= set(mixed["path"])
    assert mixed["rare"].tolist() == repeated["rare"].tolist()
    is_made = mixed["source"] == "synthetic"
    assert (mixed.loc[is_made, "rare"] == 1).all()
    assert (mixed["path"] != repeated["path"]).tolist() == is_made.tolist()
    of_rare = (repeated["rare"] == 1).sum() - (table["rare"] == 1).sum()
    of_less = (repeated["less"] == 1).sum() - (table["less"] == 1).sum()
    if replaced == 0:
        assert mixed["path"].tolist() == repeated["path"].tolist()
    elif replaced == 1:  # the pool has nothing for `less`, whose repeats stay
        assert is_made.sum() == of_rare
        assert (mixed["less"] == 1).sum() == (repeated["less"] == 1).sum()
    else:
        assert 0 < is_made.sum() <= round(replaced * (of_rare + of_less))
    assert (mixed.loc[is_made, "path"].value_counts() <= -(-is_made.sum() // 15)).all()


def test_which_repeats_are_replaced_does_not_depend_on_the_pool() -> None:
    table, pool = _rare_and_pool()
    real = table.assign(path="again " + table["path"])
    kept = [
        ~substitute(table, some, ["rare"], replaced=0.5, share=0.4)["path"].isin(some["path"])
        for some in (pool, real, pool[::-1])
    ]
    assert kept[0].equals(kept[1])
    assert kept[0].equals(kept[2])
    with pytest.raises(ValueError, match=r"replaced is 1\.5; give"):
        substitute(table, pool, ["rare"], replaced=1.5)


def test_rand_augment_depends_on_the_seed_alone_and_none_is_none() -> None:
    images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    state = torch.get_rng_state()
    changed = rand_augmented(images, 2, 9, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(rand_augmented(images, 2, 9, seed=3), changed)
    assert not torch.equal(rand_augmented(images, 2, 9, seed=4), changed)
    assert changed.dtype == torch.uint8
    assert rand_augmented(images, 0, 9, seed=3) is images
    same = images[:1].expand(8, -1, -1, -1)
    assert len(rand_augmented(same, 2, 15, seed=0).flatten(1).unique(dim=0)) > 1


def test_an_arm_s_settings_are_the_study_s_but_for_its_changes() -> None:
    base = FitConfig(lr=0.1, augmentation=Augmentation(shift=0.2))
    assert Arm.of(TABLE).config(base) == base
    loss = LossConfig(balance=0.5)
    assert Arm(table=TABLE, changes={"loss": loss}).config(base) == replace(base, loss=loss)
    for name in ("epochs", "min_steps", "nonsense"):
        with pytest.raises(ValueError, match=rf"^an arm changes {name}; give changes of .*loss"):
            Arm(table=TABLE, changes={name: 1})


def _save_toy(root: Path) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    red = np.arange(40) % 4 == 0
    for i, on in enumerate(red):
        pixels = rng.integers(0, 120, (16, 16, 3), dtype=np.uint8)
        pixels[..., 0] += np.uint8(100 * on)
        Image.fromarray(pixels).save(root / f"{i}.png")
    split = ["train"] * 24 + ["val"] * 8 + ["test"] * 8
    names = [f"{i}.png" for i in range(40)]
    rows = {"file_name": names, "split": split, "red": red.astype(int)}
    pd.DataFrame(rows).to_csv(root / "metadata.csv", index=False)
    return load_table(root)


def test_every_control_runs_beside_a_plain_table_with_equal_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = _save_toy(tmp_path)
    config = FitConfig(
        architecture="shufflenet_v2_x0_5", image_size=32, epochs=1, batch_size=8, rounds=1
    )
    seen: dict[str, tuple[int, FitConfig]] = {}
    fit = classify.study.fit

    def recorded(*args: object, **options: object) -> object:
        result = fit(*args, **options)  # type: ignore[arg-type]
        seen[str(options["label"]).split(",")[0]] = result.steps, result.config
        return result

    monkeypatch.setattr(classify.study, "fit", recorded)
    arms = {
        "real": table,
        "duplicate": duplicate(table, 24),
        "relabel": relabel(table, table[table["split"] == "train"], 24),
        "oversample": oversample(table, ["red"], share=0.9),
        "reweight": Arm(table=table, changes={"loss": LossConfig(balance=1.0)}),
        "randaugment": Arm(table=table, changes={"augmentation": Augmentation(operations=2)}),
    }
    fabric = L.Fabric(accelerator="cpu", devices=1)
    scores = run_study(arms, ["red"], config, seeds=1, fabric=fabric)
    assert scores["arm"].unique().tolist() == list(arms)
    assert {steps for steps, _ in seen.values()} == {3}
    assert seen["reweight"][1].loss.balance == 1
    assert seen["randaugment"][1].augmentation.operations == 2
    assert all(seen[arm][1] == config for arm in ("real", "duplicate", "relabel", "oversample"))
