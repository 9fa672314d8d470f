"""What pools count, summed over the processes of a real plane."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import shmplane
from shmplane.connections import AsyncConnectionPool, ConnectionPool, host_statistics
from shmplane.manifest import MAX_METERS, OTHER_ROWS
from tests.connections.fakes import Server, until
from tests.support.forked import run_forked
from tests.support.processes import Child

if TYPE_CHECKING:
    import pytest


def pool_of(plane: shmplane.Plane, name: str = "db", **options: Any) -> ConnectionPool[Any]:
    return ConnectionPool(Server().connect, plane=plane, name=name, timeout=10, **options)


def use(pool: ConnectionPool[Any], times: int) -> None:
    for _ in range(times):
        with pool.connection():
            pass


def _counts(plane: shmplane.Plane, times: int) -> Any:
    """A child that takes a connection so often, says so, and keeps one."""
    pool = pool_of(plane)
    use(pool, times - 1)
    with pool.connection():
        seen = pool.host_stats()
        yield seen.acquires
    pool.close()
    yield "closed"


def test_a_third_process_sees_the_sum_of_two(plane: shmplane.Plane) -> None:
    watcher = pool_of(plane, min_size=0, max_size=7)
    with Child(_counts, plane, 5) as one, Child(_counts, plane, 3) as two:
        assert one.next() == 5
        assert two.next() == 8
        found = watcher.host_stats()
        assert (found.acquires, found.used, found.connects, found.pools) == (8, 2, 2, 3)
        assert found.max_size == 10 + 10 + 7
        assert found.use_time.count == 6
        assert found.wait_time.count == 8
        assert found.connect_time.count == 2
        assert [one.next(), two.next()] == ["closed", "closed"]
        found = watcher.host_stats()
        assert (found.acquires, found.used, found.closed, found.pools) == (8, 0, 2, 1)
    assert host_statistics(plane)["db"].acquires == 8
    watcher.close()
    assert host_statistics(plane)["db"].pools == 0


def test_a_killed_process_leaves_its_counts_and_nothing_else(plane: shmplane.Plane) -> None:
    with pool_of(plane) as watcher:
        for killed in range(1, 4):
            with Child(_counts, plane, 4) as child:
                child.next()
                assert watcher.host_stats().used == 1
                child.kill()
            plane.gc()
            found = watcher.host_stats()
            assert (found.acquires, found.used, found.size, found.pools) == (4 * killed, 0, 0, 1)
    assert plane.stats().processes == 1


def test_a_forked_child_counts_for_itself(plane: shmplane.Plane) -> None:
    with pool_of(plane) as pool:
        use(pool, 3)
        assert pool.host_stats().acquires == 3

        def work() -> None:
            assert pool.host_stats().acquires == 3
            use(pool, 2)
            assert pool.host_stats().acquires == 5
            assert pool.host_stats().pools == 2

        run_forked(work, 20)
        plane.gc()
        assert (pool.host_stats().acquires, pool.host_stats().pools) == (5, 1)


def test_pools_of_one_name_in_one_process_are_added_also_forgotten_ones(plane: shmplane.Plane) -> None:
    first, second = pool_of(plane), pool_of(plane)
    use(first, 2)
    use(second, 3)
    first.host_stats()
    assert second.host_stats().acquires == 5
    first.close()
    assert first.host_stats().acquires == 5
    del first
    found = second.host_stats()
    assert (found.acquires, found.pools) == (5, 1)
    second.close()


def test_counts_reach_other_processes_by_themselves(plane: shmplane.Plane) -> None:
    with pool_of(plane) as pool:
        use(pool, 3)
        until(lambda: host_statistics(plane)["db"].acquires == 3 if "db" in host_statistics(plane) else False)


def test_an_async_pool_counts_on_the_host_as_well(plane: shmplane.Plane) -> None:
    async def main() -> None:
        async with AsyncConnectionPool(Server().connect, plane=plane, name="db") as pool:
            async with pool.connection():
                assert pool.host_stats().used == 1

    asyncio.run(main())
    found = host_statistics(plane)["db"]
    assert (found.acquires, found.closed, found.pools) == (1, 1, 0)


def test_without_a_plane_the_host_is_this_pool() -> None:
    with ConnectionPool(Server().connect, name="db") as pool:
        use(pool, 2)
        assert pool.host_stats().acquires == pool.stats().acquires == 2


def test_a_pool_works_when_its_plane_is_closed(plane: shmplane.Plane) -> None:
    own = shmplane.Plane(plane.name)
    pool = pool_of(own)
    use(pool, 1)
    own.close()
    use(pool, 1)
    pool.close()
    assert pool.stats().acquires == 2


def test_names_that_nobody_uses_make_room_for_new_ones(plane: shmplane.Plane) -> None:
    def count(names: range) -> None:
        for number in names:
            pool = pool_of(plane, f"pool-{number}")
            use(pool, 1)
            assert pool.host_stats().acquires == 1
            pool.close()

    own = MAX_METERS - OTHER_ROWS
    run_forked(lambda: count(range(own)), 30)
    plane.gc()
    count(range(own, own + 3))
    assert len(host_statistics(plane)) == own


def test_names_for_which_there_is_no_room_are_counted_together_and_said_once(
    plane: shmplane.Plane, caplog: pytest.LogCaptureFixture
) -> None:
    pools = [pool_of(plane, f"pool-{number}") for number in range(MAX_METERS + 8)]
    for pool in pools:
        use(pool, 2)
        pool.host_stats()
    found = host_statistics(plane)
    own = MAX_METERS - OTHER_ROWS
    assert len(found) == own + 1
    assert found["other"].acquires == 2 * (len(pools) - own)
    assert found["other"].pools == len(pools) - own
    assert sum(one.acquires for one in found.values()) == 2 * len(pools)
    for pool in pools:
        use(pool, 1)
        pool.host_stats()
        pool.close()
        pool.host_stats()
    found = host_statistics(plane)
    assert sum(one.acquires for one in found.values()) == 3 * len(pools)
    assert sum(one.pools for one in found.values()) == 0
    (said,) = [record for record in caplog.records if record.name == "shmplane.plane"]
    assert "counted together as 'other'" in said.getMessage()
