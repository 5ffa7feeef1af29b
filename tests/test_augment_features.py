"""Features of files: extracted once, kept by content, whatever the batches and processes."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from PIL import Image
from torch import Tensor, nn

from augment.metrics import Encoder, Preprocessing
from augment.metrics import features as module
from augment.metrics.features import default_cache


def _read(path: str) -> Image.Image:
    with Image.open(path) as image:
        image.load()
    return image


extract = partial(module.extract, read=_read)

PLAIN = Preprocessing(size=4, mean=[0, 0, 0], std=[1, 1, 1])


class Counting(nn.Module):
    """The mean of each channel; counts the images it sees, and breaks after so many."""

    def __init__(self, most: int = 10**9) -> None:
        super().__init__()
        self.seen, self.most = 0, most

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        if self.seen > self.most:
            raise KeyboardInterrupt
        return images.mean(dim=(2, 3))


def _encoder(preprocessing: Preprocessing = PLAIN, most: int = 10**9) -> Encoder:
    return Encoder.of(Counting(most), preprocessing, name="counting")


def _seen(encoder: Encoder) -> int:
    assert isinstance(encoder.network, Counting)
    return encoder.network.seen


def _files(folder: Path, levels: Sequence[int]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{level}.png" for level in levels]
    for path, level in zip(paths, levels, strict=True):
        Image.new("RGB", (6 + level % 2, 6), (level, 0, 255)).save(path)
    return paths


def _expected(levels: Sequence[int]) -> np.ndarray:
    return np.array([[level / 255, 0, 1] for level in levels], dtype=np.float32)


def test_a_second_run_extracts_nothing_and_a_grown_set_only_what_is_new(tmp_path: Path) -> None:
    levels = [9, 3, 200, 4, 90]
    paths = _files(tmp_path / "a", levels)
    encoder = _encoder()
    for count, seen in ((4, 4), (4, 4), (5, 5)):
        found = extract(paths[:count], encoder, cache=tmp_path / "cache", batch_size=3)
        np.testing.assert_allclose(found, _expected(levels[:count]), rtol=1e-6)
        assert found.dtype == np.float32
        assert _seen(encoder) == seen


def test_content_counts_and_neither_name_nor_order(tmp_path: Path) -> None:
    paths = _files(tmp_path / "a", [1, 2, 3])
    extract(paths, _encoder(), cache=tmp_path / "cache")
    moved = [shutil.copy(path, tmp_path / f"moved{path.name}") for path in paths]
    twice = [*moved[::-1], moved[0]]
    encoder = _encoder()
    found = extract(twice, encoder, cache=tmp_path / "cache")
    np.testing.assert_allclose(found, _expected([3, 2, 1, 1]), rtol=1e-6)
    assert _seen(encoder) == 0


def test_another_encoder_or_another_content_is_extracted_anew(tmp_path: Path) -> None:
    paths = _files(tmp_path / "a", [1, 2])
    extract(paths, _encoder(), cache=tmp_path / "cache")
    other = _encoder(Preprocessing(size=4, mean=[0.5, 0, 0], std=[1, 1, 1]))
    found = extract(paths, other, cache=tmp_path / "cache")
    np.testing.assert_allclose(found, _expected([1, 2]) - [0.5, 0, 0], rtol=1e-6)
    Image.new("RGB", (6, 6), (7, 0, 255)).save(paths[0])
    same = _encoder()
    found = extract(paths, same, cache=tmp_path / "cache")
    np.testing.assert_allclose(found, _expected([7, 2]), rtol=1e-6)
    assert (_seen(other), _seen(same)) == (2, 1)


def test_a_run_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHARD", 2)
    levels = list(range(7))
    paths = _files(tmp_path / "a", levels)
    with pytest.raises(KeyboardInterrupt):
        extract(paths, _encoder(most=5), cache=tmp_path / "cache", batch_size=1)
    encoder = _encoder()
    found = extract(paths, encoder, cache=tmp_path / "cache", batch_size=1)
    np.testing.assert_allclose(found, _expected(levels), rtol=1e-6)
    assert _seen(encoder) == 3  # 5 were seen, 4 of them in whole shards


def test_processes_share_the_work(tmp_path: Path) -> None:
    levels = list(range(7))
    paths = _files(tmp_path / "a", levels)
    encoder = _encoder()
    folder = tmp_path / "cache" / encoder.card.key
    names = [str(path) for path in paths]
    missing = dict(zip(module._hashes(paths), names, strict=True))
    batches = partial(module._batches, encoder=encoder, read=_read, batch_size=2)
    shards = module._shards(list(missing), 2, 3)
    seen = []
    for rank in range(3):
        fabric = SimpleNamespace(global_rank=rank, world_size=3, is_global_zero=rank == 0)
        module._fill(folder, missing, shards, encoder.card, "images", batches, fabric)  # type: ignore[arg-type]
        seen.append(_seen(encoder))
    assert seen == [4, 7, 7]
    found = extract(paths, encoder, cache=tmp_path / "cache")
    np.testing.assert_allclose(found, _expected(levels), rtol=1e-6)
    assert _seen(encoder) == 7


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_the_same_images_are_encoded_together_by_any_number_of_processes(processes: int) -> None:
    hashes = [str(i) for i in range(101)]
    shards = module._shards(hashes, 8, processes)
    assert [h for shard in shards for h in shard] == hashes
    assert len(shards) <= max(processes, 1)
    assert all(len(shard) % 8 == 0 for shard in shards[:-1])


def test_a_process_that_comes_late_takes_its_own_share_of_what_was_missing(tmp_path: Path) -> None:
    """Had it looked after the first one wrote, each would leave some images to the other."""
    levels = list(range(7))
    paths = _files(tmp_path / "a", levels)
    together = threading.Barrier(2, timeout=30)

    def process(rank: int) -> np.ndarray:
        fabric = SimpleNamespace(
            global_rank=rank,
            world_size=2,
            is_global_zero=rank == 0,
            device=torch.device("cpu"),
            barrier=together.wait,
        )
        if rank:
            time.sleep(0.5)
        return extract(paths, _encoder(), cache=tmp_path / "cache", fabric=fabric)

    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(process, range(2)):
            np.testing.assert_allclose(found, _expected(levels), rtol=1e-6)


def test_the_default_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "minority-augment" / "features"
    extract(_files(tmp_path / "a", [1]), _encoder())
    assert list(default_cache().glob("*/*.safetensors"))


def test_what_cannot_be_encoded_is_refused(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(ValueError, match=r"^there are 0 images and batch_size is 64; give at"):
        extract([], _encoder(), cache=cache)
    with pytest.raises(FileNotFoundError, match=r"^1 images are missing, the first .*gone.png"):
        extract([tmp_path / "gone.png"], _encoder(), cache=cache)

    def refuse(path: str) -> Image.Image:
        raise ValueError(f"{path} does not decode as an image")

    paths = _files(tmp_path / "a", [1])
    with pytest.raises(ValueError, match=r"1.png does not decode as an image"):
        extract(paths, _encoder(), cache=cache, read=refuse)
    endless = Encoder.of(nn.Threshold(10.0, float("nan")), PLAIN, name="endless")
    with pytest.raises(ValueError, match=r"^encoder endless gives features that are not finite"):
        extract(paths, endless, cache=cache)
    assert not list(cache.glob("*/*.safetensors"))


def test_a_broken_shard_is_named(tmp_path: Path) -> None:
    encoder = _encoder()
    folder = tmp_path / encoder.card.key
    folder.mkdir()
    (folder / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken.safetensors is no shard of features .* delete"):
        extract(_files(tmp_path / "a", [1]), encoder, cache=tmp_path)


def test_features_do_not_depend_on_the_batches(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten())
    paths = _files(tmp_path / "a", range(0, 90, 9))
    encoder = Encoder.of(network, PLAIN, name="small")
    one = extract(paths, encoder, cache=tmp_path / "one", batch_size=1)
    many = extract(paths, encoder, cache=tmp_path / "many", batch_size=64)
    np.testing.assert_allclose(one, many, rtol=1e-5)


def test_without_a_fabric_the_encoder_stays_where_the_caller_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: list[str] = []
    encoder = _encoder()
    monkeypatch.setattr(encoder, "to", lambda device: moves.append(str(device)))
    paths = _files(tmp_path / "a", [1])
    extract(paths, encoder, cache=tmp_path / "cache")
    assert not moves
    extract(paths, encoder, cache=tmp_path / "cache", fabric=Fabric(accelerator="cpu", devices=1))
    assert moves == ["cpu"]


def test_a_grey_image_is_taken_as_rgb(tmp_path: Path) -> None:
    path = _files(tmp_path / "a", [1])[0]
    found = extract([path], _encoder(), cache=tmp_path, read=lambda _: Image.new("L", (5, 5), 51))
    np.testing.assert_allclose(found, [[0.2, 0.2, 0.2]], rtol=1e-6)
