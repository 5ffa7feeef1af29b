"""A batch in smaller parts when memory runs out: all rows, in order, and the size remembered."""

from __future__ import annotations

import pytest
import torch

from augment.devices import Backoff


class _Memory:
    """Room for so many rows at once; notes the sizes that were tried."""

    def __init__(self, most: int) -> None:
        self.most, self.tried = most, list[int]()

    def __call__(self, rows: slice) -> list[int]:
        self.tried.append(rows.stop - rows.start)
        if rows.stop - rows.start > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(range(rows.start, rows.stop))


@pytest.mark.parametrize(
    ("batch", "most", "tried"),
    [
        (5, 8, [5]),
        (8, 3, [8, 4, 2, 2, 2, 2]),
        (7, 3, [7, 3, 3, 1]),
        (5, 1, [5, 2, 1, 1, 1, 1, 1]),
        (0, 1, []),
    ],
)
def test_parts_cover_the_batch_in_order_and_shrink_until_they_fit(
    batch: int, most: int, tried: list[int]
) -> None:
    memory = _Memory(most)
    parts = Backoff().parts(batch, memory)
    assert [row for part in parts for row in part] == list(range(batch))
    assert memory.tried == tried


def test_the_size_that_fits_is_remembered() -> None:
    backoff, memory = Backoff(), _Memory(2)
    backoff.parts(8, memory)
    memory.tried.clear()
    backoff.parts(8, memory)
    assert memory.tried == [2, 2, 2, 2]


def test_one_image_that_does_not_fit_is_an_error_and_so_is_any_other() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        Backoff().parts(4, _Memory(0))

    def broken(rows: slice) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        Backoff().parts(4, broken)
