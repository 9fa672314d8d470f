"""How processes wait for each other: versions, locks, semaphores, the limits and counts of connection pools."""
