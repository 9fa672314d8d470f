"""Under gevent's monkey patch the greenlets of a thread take turns while one of them waits for something of a plane."""

from __future__ import annotations

import pytest

from tests.support.processes import run_python

PROGRAM = """
from gevent import monkey
monkey.patch_all()
import gevent, sys, shmplane

plane = shmplane.Plane.temporary()
seen = []

def other(*events):
    # Runs only while the greenlets that wait let it.
    for event in events:
        gevent.sleep(0.02)
        event()

{body}
plane.close()
"""
BODIES = {
    "lock": """
lock = plane.lock("l")
def turn(number):
    with lock:
        gevent.sleep(0.02)
        seen.append(number)
gevent.joinall([gevent.spawn(turn, number) for number in range(5)], timeout=20, raise_error=True)
assert seen == [0, 1, 2, 3, 4], seen
""",
    "time-out": """
lock = plane.lock("l")
lock.acquire()
waiting = gevent.spawn(lock.acquire, 0.3)
while not waiting.dead:
    gevent.sleep(0.01)
    seen.append(1)
assert isinstance(waiting.exception, shmplane.LockTimeout), waiting.exception
assert len(seen) > 3
lock.release()
""",
    "wait": """
waiting = gevent.spawn(lambda: plane.wait("x").value())
other(lambda: plane.put("x", 5))
assert waiting.get(timeout=20) == 5
""",
    "follow": """
def follow():
    for block in plane.follow("x"):
        seen.append(block.value())
        if block.version == 3:
            return
following = gevent.spawn(follow)
other(*[lambda value=value: plane.put("x", value) for value in (1, 2, 3)])
following.get(timeout=20)
assert seen == [1, 2, 3], seen
""",
    "get_or_put": """
def load():
    gevent.sleep(0.02)
    seen.append("loaded")
    return 7
asking = [gevent.spawn(plane.get_or_put, "x", load) for _ in range(4)]
assert [one.get(timeout=20) for one in asking] == [7] * 4
assert seen == ["loaded"]
""",
    "close": """
waiting = gevent.spawn(plane.wait, "x")
other(plane.close)
waiting.join(20)
assert isinstance(waiting.exception, shmplane.ClosedError), waiting.exception
""",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_greenlets_take_turns(body: str) -> None:
    pytest.importorskip("gevent")
    run_python(PROGRAM.format(body=body))
