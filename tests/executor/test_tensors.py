"""Tensors of torch as arguments and results. CI installs torch for these."""

from __future__ import annotations

import multiprocessing
from multiprocessing import resource_sharer
from typing import Any

import pytest

from shmplane import ProcessPoolExecutor
from tests.executor import tasks

torch: Any = pytest.importorskip("torch")

SIZE = 50_000


def test_tensors_travel_in_blocks_and_can_be_written() -> None:
    kinds = {
        "plain": torch.arange(float(SIZE)),
        "half": torch.ones(SIZE, dtype=torch.bfloat16),
        "bool": torch.ones(100_000, dtype=torch.bool),
        "strided": torch.arange(float(4 * SIZE)).reshape(4, -1).T,
        "in a dict": {"weights": torch.ones(100, 1_000), "step": 3},
    }
    context: Any = multiprocessing.get_context("forkserver")  # a forked worker would have the locks of torch's threads
    with ProcessPoolExecutor(1, context) as executor:
        for name, value in kinds.items():
            before = executor.stats().sent_blocks
            found = executor.submit(tasks.same, value).result()
            pairs = [(found["weights"], value["weights"])] if isinstance(value, dict) else [(found, value)]
            for one, other in pairs:
                assert one.dtype == other.dtype, name
                assert torch.equal(one, other), name
                one[0] = 0
            assert executor.stats().sent_blocks == before + 1
        with_gradient = torch.ones(SIZE, requires_grad=True)
        assert executor.submit(tasks.same, with_gradient).result().requires_grad
        assert executor.submit(tasks.same, torch.ones(0, 3)).result().shape == (0, 3)
    resource_sharer.stop()  # torch's own way, which the one with a gradient went
