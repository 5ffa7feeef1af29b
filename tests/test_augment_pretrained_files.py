"""Files of weights: never executed, and held to the hash of their first use."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from torch import nn

from augment.pretrained.files import hold_to_hash, read_tensors, replacing, sha256_of


class _Evil:
    """Executes something when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return print, ("executed",)


def _refusal(path: Path) -> str:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        read_tensors(path)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_tensors_are_read_and_nothing_is_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.pt"
    torch.save({"a": torch.ones(2)}, path)
    assert torch.equal(read_tensors(path)["a"], torch.ones(2))
    torch.save({"a": _Evil()}, path)
    assert "is no file of tensors" in _refusal(path)
    torch.save(nn.Linear(2, 2), path)
    assert "is no file of tensors" in _refusal(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {"a": torch.ones(1)}, "epoch": 3}, "holds keys state_dict, epoch; allowed"),
        ([torch.ones(1)], "holds a list; allowed is a state dict"),
    ],
)
def test_other_contents_are_named(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "model.pt")
    assert message in _refusal(tmp_path / "model.pt")


def test_a_tensor_larger_than_its_file_is_refused_before_it_is_copied(tmp_path: Path) -> None:
    vast = torch.ones(1).expand(2**40)
    for tensor in (vast, torch.empty(2**40, device="meta")):
        torch.save({"a": torch.ones(2), "b": tensor}, tmp_path / "model.pt")
        assert "holds b, not all of whose elements are in the file" in _refusal(
            tmp_path / "model.pt"
        )


def test_an_archive_that_unpacks_to_more_than_its_size_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2**20)}, tmp_path / "stored.pt")
    with (
        ZipFile(tmp_path / "stored.pt") as stored,
        ZipFile(tmp_path / "model.pt", "w", ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    assert "it unpacks to 4," in _refusal(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "content", [b"", b"hi", b"<html>Quota exceeded</html>", b"PK\x03\x04 cut off"]
)
def test_a_failed_download_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    assert "give the .pt file as it was downloaded" in _refusal(tmp_path / "model.pt")


def test_the_hash_of_the_first_use_is_recorded_and_held(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    assert sha256_of(path) == sha256
    hold_to_hash(path, sha256)
    record = tmp_path / "model.pt.sha256"
    assert record.read_text() == f"{sha256}  model.pt\n"
    hold_to_hash(path, sha256)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.pt", "model.pt.sha256"]
    with pytest.raises(ValueError, match=f"records {sha256}; give the file that was recorded"):
        hold_to_hash(path, "0" * 64)
    assert record.read_text() == f"{sha256}  model.pt\n"


def test_a_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> int:
        raise PermissionError

    monkeypatch.setattr(Path, "open", refused)
    hold_to_hash(tmp_path / "model.pt", "0" * 64)
    assert not list(tmp_path.iterdir())


def test_the_card_arrives_after_what_it_tells_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    replace = os.replace

    def note(source: Path, target: Path) -> None:
        moved.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", note)
    with replacing(tmp_path / "model") as folder:
        for name in ("card.json", "model.safetensors", "README.md"):
            (folder / name).write_text(name)
    assert moved[-1] == "card.json"
    assert {path.name for path in (tmp_path / "model").iterdir()} == {*moved}
