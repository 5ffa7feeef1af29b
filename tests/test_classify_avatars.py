"""The embedded faces: their distribution, their drawing, their folder."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from classify.datasets.avatars import (
    ATTRIBUTES,
    MARGINALS,
    UNLABELLED,
    Pool,
    avatar_pool,
    avatar_table,
    draw,
    log_probability,
    sample,
)
from classify.datasets.avatars import table as module
from classify.datasets.avatars.distribution import EXCLUDED_BY, FURTHER, NETWORK, STATED
from classify.datasets.avatars.network import EXCLUDED, FLOOR, Network, Node

LABELLED = [name for name in ATTRIBUTES if name not in UNLABELLED]
COLUMN = {name: index for index, name in enumerate(ATTRIBUTES)}
TINY = {"train": 4, "val": 2, "test": 3}


@pytest.fixture(scope="module")
def many() -> np.ndarray:
    return sample(200_000, np.random.default_rng(0))


def vector(*names: str) -> np.ndarray:
    return np.array([name in names for name in ATTRIBUTES], dtype=np.int8)


def exact_moments(network: Network, child: Node) -> np.ndarray:
    """E[c (1, p)] of a node by brute force over its ancestors, independent of the compiler."""
    family = {child.name}
    for node in reversed(network.nodes):
        family |= set(node.parents) if node.name in family else set()
    members = [node for node in network.nodes if node.name in family]
    total = np.zeros(1 + len(child.correlations))
    for values in product((0, 1), repeat=len(members)):
        state = {node.name: value for node, value in zip(members, values, strict=True)}
        if not state[child.name]:
            continue
        weight = 1.0
        for node in members:
            code = int("".join(str(state[parent]) for parent in node.parents) or "0", 2)
            p_one = network.tables[network.column[node.name]][code]
            weight *= p_one if state[node.name] else 1 - p_one
        total += weight * np.array([1, *(state[name] for name in child.correlations)])
    return total


def test_names_are_celebas_in_its_order() -> None:
    assert len(ATTRIBUTES) == 40
    assert ATTRIBUTES[:3] == ("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive")
    assert ATTRIBUTES[-1] == "Young"
    assert list(ATTRIBUTES) == sorted(ATTRIBUTES)  # CelebA's order is the alphabet's


@pytest.mark.parametrize("node", NETWORK.nodes, ids=lambda node: node.name)
def test_stated_moments_are_exact(node: Node) -> None:
    mean, *joint = exact_moments(NETWORK, node)
    assert mean == pytest.approx(node.marginal, abs=1e-9)
    for both, (parent, phi) in zip(joint, node.correlations.items(), strict=True):
        other = MARGINALS[parent]
        scale = np.sqrt(mean * (1 - mean) * other * (1 - other))
        assert (both - mean * other) / scale == pytest.approx(phi, abs=1e-8)


def test_samples_have_the_moments(many: np.ndarray) -> None:
    deviations = np.abs(many.mean(axis=0) - np.array(list(MARGINALS.values())))
    assert deviations.max() < 5 * 0.5 / np.sqrt(len(many))
    correlations = np.corrcoef(many.T)
    for (child, parent), phi in {**STATED, **FURTHER}.items():
        assert correlations[COLUMN[child], COLUMN[parent]] == pytest.approx(phi, abs=0.015)


def test_exclusions_are_soft_but_rare(many: np.ndarray) -> None:
    for child, others in EXCLUDED_BY.items():
        for other in others:
            together = many[:, COLUMN[child]] & many[:, COLUMN[other]]
            assert together.mean() < 2 * EXCLUDED
    assert many[many[:, COLUMN["Bald"]] == 1][:, COLUMN["Male"]].mean() > 0.99
    assert all(((table > 0) & (table < 1)).all() for table in NETWORK.tables)
    assert np.isfinite(log_probability(np.ones((1, 40), dtype=int))).all()


def test_probabilities_of_a_small_network_sum_to_one() -> None:
    nodes = [Node("a", 0.4), Node("b", 0.3, {"a": 0.2}), Node("c", 0.2, {"a": -0.1}, (), ("b",))]
    everything = np.array(list(product((0, 1), repeat=3)))
    probabilities = np.exp(Network(nodes).log_probability(everything))
    assert probabilities.sum() == pytest.approx(1)
    assert probabilities @ everything == pytest.approx([0.4, 0.3, 0.2])


def test_log_probability_is_a_naive_product() -> None:
    for row in sample(20, np.random.default_rng(1)):
        total = 0.0
        for node in NETWORK.nodes:
            code = int("".join(str(row[COLUMN[p]]) for p in node.parents) or "0", 2)
            p_one = NETWORK.tables[NETWORK.column[node.name]][code]
            total += np.log(p_one if row[COLUMN[node.name]] else 1 - p_one)
        assert log_probability(row[None])[0] == pytest.approx(total)


def test_log_probability_ranks_and_ignores_the_unlabelled() -> None:
    usual = vector("Young", "No_Beard")
    rare = vector("Young", "No_Beard", "Goatee", "Wearing_Lipstick", "Male")
    attractive = vector("Young", "No_Beard", "Attractive")
    unknown = np.where(np.array(ATTRIBUTES) == "Attractive", -1, usual)
    scores = log_probability(np.stack([usual, rare, attractive, unknown]))
    assert scores[0] > scores[1] + 5
    assert scores[0] == scores[2] == scores[3]


def test_moments_out_of_reach_are_clipped() -> None:
    network = Network([Node("a", 0.5), Node("b", 0.1, {"a": 0.9})])
    assert network.tables[1] == pytest.approx([FLOOR, 0.1 + 0.9 * np.sqrt(0.09)])


def test_drawing_is_a_function_of_attributes_and_seed() -> None:
    face = vector("Young", "No_Beard")
    assert draw(face, 3).dtype == np.uint8
    assert np.array_equal(draw(face, 3), draw(face.tolist(), 3))
    assert not np.array_equal(draw(face, 3), draw(face, 4))
    assert draw(face, 3, size=48).shape == (48, 48, 3)


@pytest.mark.parametrize("name", LABELLED)
def test_every_attribute_is_visible(name: str) -> None:
    """At least five pixels change by more than 40 grey levels, in the median of a few faces."""
    changed = []
    for seed in range(8):
        base = vector("Young", "No_Beard", "Brown_Hair", *(["Male"] if seed % 2 else []))
        if name.endswith("_Hair"):
            base[COLUMN["Brown_Hair"]] = 0
        off, on = base.copy(), base.copy()
        off[COLUMN[name]], on[COLUMN[name]] = 0, 1
        change = np.abs(draw(on, seed).astype(int) - draw(off, seed))
        changed.append((change.max(axis=-1) > 40).sum())
    assert np.median(changed) >= 5


def test_the_unlabelled_is_invisible() -> None:
    assert np.array_equal(draw(vector("Male", "Attractive"), 0), draw(vector("Male"), 0))


def test_contradictions_are_drawn() -> None:
    assert draw(np.ones(40, dtype=int), 0).std() > 10


def test_pool_depends_on_the_index_alone() -> None:
    images, attributes = avatar_pool(range(6), pool="generator")
    assert images.shape == (6, 32, 32, 3)
    assert attributes.shape == (6, 40)
    again, same = avatar_pool([4, 2], pool=Pool.GENERATOR)
    assert np.array_equal(again, images[[4, 2]])
    assert np.array_equal(same, attributes[[4, 2]])


def test_pools_have_no_picture_in_common() -> None:
    everything = [
        image.tobytes() for pool in Pool for image in avatar_pool(range(20), pool=pool)[0]
    ]
    assert len(set(everything)) == 20 * len(Pool)


def test_unknown_pool_is_named() -> None:
    with pytest.raises(ValueError, match="pool is 'real'; give one of train, val, test, generator"):
        avatar_pool([0], pool="real")


def test_empty_pool() -> None:
    images, attributes = avatar_pool([], pool="labeler", size=16)
    assert images.shape == (0, 16, 16, 3)
    assert attributes.shape == (0, 40)


def test_table_is_written(tmp_path: Path) -> None:
    table = avatar_table(tmp_path / "deep" / "avatars", **TINY)
    assert list(table.columns) == ["file_name", "split", "source", *ATTRIBUTES, "path"]
    assert table["split"].value_counts().to_dict() == TINY
    assert set(table["source"]) == {"real"}
    assert table["Attractive"].isna().all()
    assert table[LABELLED].isin([0, 1]).all(axis=None)
    images, attributes = avatar_pool(range(4), pool="train")
    first = table[table["split"] == "train"].reset_index(drop=True)
    for index, name in enumerate(first["file_name"]):
        with Image.open(tmp_path / "deep" / "avatars" / name) as picture:
            assert np.array_equal(np.asarray(picture), images[index])
    wanted = pd.DataFrame(attributes, columns=list(ATTRIBUTES))[LABELLED]
    assert np.array_equal(first[LABELLED].to_numpy(dtype=int), wanted.to_numpy())
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["avatars"]


def test_table_is_reused(tmp_path: Path) -> None:
    table = avatar_table(tmp_path, **TINY)  # an empty folder that exists is taken
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    pd.testing.assert_frame_equal(avatar_table(tmp_path, **TINY), table)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_table_of_other_settings_is_refused(tmp_path: Path) -> None:
    avatar_table(tmp_path, **TINY)
    with pytest.raises(ValueError, match=r"holds avatars with .*'seed': 0.* give another path"):
        avatar_table(tmp_path, **TINY, seed=1)


def test_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(
        ValueError, match="holds other files; avatars go into an empty or absent folder"
    ):
        avatar_table(tmp_path, **TINY)
    with pytest.raises(ValueError, match=r"thesis.txt is a file; avatars go into a folder"):
        avatar_table(tmp_path / "thesis.txt", **TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_damaged_record_is_named_in_one_line(tmp_path: Path) -> None:
    avatar_table(tmp_path, **TINY)
    (tmp_path / "avatars.json").write_text("{")
    with pytest.raises(ValueError, match=r"avatars\.json is damaged; .*or give another path$"):
        avatar_table(tmp_path, **TINY)


def test_two_runs_draw_one_folder_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower one ended with "Directory not empty"."""
    pool = module.avatar_pool

    def slow(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(module, "avatar_pool", pool)
        avatar_table(tmp_path / "a", **TINY)  # the other, from beginning to end
        return pool(*arguments, **options)

    monkeypatch.setattr(module, "avatar_pool", slow)
    first, second = (avatar_table(tmp_path / name, **TINY) for name in "ab")
    pd.testing.assert_frame_equal(first.drop(columns="path"), second.drop(columns="path"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_drawing_is_the_one_the_shipped_weights_know() -> None:
    """Golden numbers of the drawing that generator and labeler are trained on (version 1).

    A change here means: train both again and raise the table's version.
    """
    images, _ = avatar_pool(range(50), pool="generator")
    assert images.mean(axis=(0, 1, 2)) == pytest.approx([147.7, 129.2, 115.4], abs=0.3)
    assert images.std(axis=(0, 1, 2)) == pytest.approx([50.4, 49.7, 49.9], abs=0.3)
