"""``shmplane demo``: the main job, on real data, with a killed worker in the middle.

``story`` tells it; ``data`` reads the input, ``questions`` says what is computed, ``workers`` are the processes that
do it, ``crash`` kills one of them, ``change`` edits and appends, ``report`` shows the results.
"""
