"""A ``DataLoader`` of torch over records, under every start method. CI installs torch for these."""

from __future__ import annotations

import pickle
from typing import Any

import psutil
import pytest

import shmplane

torch: Any = pytest.importorskip("torch")

COUNT, WORKERS = 20_000, 2


class Samples:
    """A dataset over whatever has samples; each tells which process decoded it, and that one's private bytes."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[int, int, int, int]:
        sample = self.samples[index]
        process = psutil.Process()
        private = process.memory_full_info().uss if index % 500 == 0 else 0
        return index, sample["label"] + len(sample["text"]), process.pid, private


def sample(number: int) -> dict[str, Any]:
    return {"text": f"this is the text of sample {number} " * 5, "label": number % 10}


def load(samples: Any, method: str) -> tuple[dict[int, int], dict[int, int]]:
    """What each index gave, and the most private bytes of each worker."""
    loader = torch.utils.data.DataLoader(
        Samples(samples), batch_size=500, num_workers=WORKERS, multiprocessing_context=method
    )
    found: dict[int, int] = {}
    private: dict[int, int] = {}
    for indices, values, pids, nbytes in loader:
        found.update(zip(indices.tolist(), values.tolist(), strict=True))
        for pid, its in zip(pids.tolist(), nbytes.tolist(), strict=True):
            private[pid] = max(private.get(pid, 0), its)
    return found, private


@pytest.mark.timeout(300)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_a_loader_read_records_that_none_of_them_has_a_copy_of(plane: shmplane.Plane, method: str) -> None:
    plane["samples"] = shmplane.Records(map(sample, range(COUNT)))
    found, private = load(plane["samples"], method)
    assert found == {number: number % 10 + len(sample(number)["text"]) for number in range(COUNT)}
    assert len(private) == WORKERS
    assert len(pickle.dumps(Samples(plane["samples"]))) < 1_000
    as_list = [sample(number) for number in range(COUNT)]
    _, with_list = load(as_list, method)
    nbytes = len(pickle.dumps(as_list))
    if method != "fork":  # whose workers come to a copy bit by bit, with the counts of references
        assert min(with_list.values()) - max(private.values()) > nbytes // 2
