"""``shmplane demo``: the main job, on real data, with a killed worker in the middle.

``story`` tells it; ``questions`` reads the input and says what is computed, ``workers`` are the processes that do it, of which
one is killed, ``report`` shows the results.
"""
