"""The columns of a plane's manifest: what is shared, what each word means, and who writes it.

Facts are what a crash must not lose: states, name words, versions, places, leases. Everything marked *derived* (chains,
counters, reference counts) follows from the facts and is built again by recovery when the lock was left dirty.
So the order of stores matters for facts only.
"""

from __future__ import annotations

from ..tables import Column, Table, Text, column, columns, text

__all__ = [
    "Blocks",
    "Buckets",
    "Classes",
    "Counters",
    "Ghosts",
    "Groups",
    "Header",
    "Leases",
    "Meters",
    "Names",
    "Permits",
    "Processes",
    "Readings",
    "Recycled",
    "Segments",
    "Semaphores",
    "Tickets",
    "Wakes",
    "Wishes",
]

#: blocks that one block may refer to; more are merged
MAX_REFERENCES = 16
#: of a histogram of waits, by how long they took
WAIT_BUCKETS = 13
#: of a group: the small FIFO, and one per power-of-two size
QUEUES = 48


class Header(Table):
    magic: Column = column("b'shmplane' as a word; the first thing a joiner checks")
    format: Column = column("version of the format")
    fingerprint: Column = column("of all columns; another one means another release")
    instance: Column = column("random; tells one plane of a name from the next")
    created: Column = column("time_ns of creation")
    max_blocks: Column = column("rows of the block table")
    max_processes: Column = column("rows of the process table")
    temporary: Column = column("1: destroyed with its last process")
    capacity: Column = column("B of segments at most; by resize")
    recycle: Column = column("B of freed segments that stay warm; by resize")
    dirty: Column = column("slot + 1 of the process inside a transaction, 0 outside; left set by a killed one")
    holder: Column = column("slot + 1 of the last process that took the lock; for messages only")
    destroyed: Column = column("1 from the moment the plane ends; never goes back")
    scanned: Column = column("monotonic_ns of the last look at the tokens")
    membership: Column = column("+1 whenever a process row is taken or given back")
    next_segment: Column = column("id of the next segment; from a random number on, and never used again")
    blocks_high: Column = column("block rows ever used; rows above are all zero")
    blocks_reserved: Column = column("block rows, and words of each used lease row, backed by memory")
    segments_high: Column = column("segment rows ever used")
    segments_reserved: Column = column("segment rows backed by memory")
    names_high: Column = column("name rows ever used")
    names_reserved: Column = column("name rows backed by memory")
    semaphores_high: Column = column("semaphore rows ever used")
    semaphores_reserved: Column = column("semaphore rows backed by memory")
    free_blocks: Column = column("derived: chain of free rows that own no cell, row + 1")
    free_segments: Column = column("derived: chain of free segment rows, row + 1")
    tombstones_head: Column = column("derived: oldest name row without a block, row + 1")
    tombstones_tail: Column = column("derived: youngest name row without a block, row + 1")
    tombstones: Column = column("derived: length of that queue")
    lost_version: Column = column("highest version of all names whose row was used again; new rows go on above it")
    used_nbytes: Column = column("derived: B of segments in memory with live blocks")
    recycled_nbytes: Column = column("derived: B of segments kept warm")
    spilled_nbytes: Column = column("derived: B of segments in the spill directory")
    moves: Column = column("+1 whenever a segment moved; what is known of places without a lease holds while it stands")
    spiller: Column = column("slot + 1 of the process that moves segments to the spill directory, 0: nobody; a futex")
    live_blocks: Column = column("derived: blocks that are not free")
    live_names: Column = column("derived: names with a block")
    next_ticket: Column = column("the last ticket given to a waiter; smaller tickets are served first")
    watchers: Column = column("derived: processes with a nonzero watching word")
    lingering: Column = column("derived: blocks with a linger time")
    kept: Column = column("derived: blocks that are kept for a process")
    expiring: Column = column("derived: blocks whose name goes at a time")
    expiry_hand: Column = column(
        "block row where the next look for names whose time has come begins; any value is right"
    )
    ghosts_reserved: Column = column("ghost rows backed by memory")
    meters_high: Column = column("meter rows ever used")
    folding: Column = column(
        "bit 0: which of the two base rows counts; above: slot + 1 whose readings are in it already"
    )
    counted: Column = column("the same for the counters")
    lock: Column = column("kind of the plane's lock, for life: 0 a byte of the lock file, 1 the next word")
    lock_word: Column = column(
        "who has that lock, who waits for it and who gets it next, packed (``core/lockword.h``); by compare-and-swap; its "
        "low half is a futex; apart from other words, since whoever waits looks at it"
    )


class Processes(Table):
    state: Column = column("1: in use; by its owner when it joins, 0 by its owner or whoever finds its token free")
    pid: Column = column("as the process sees itself; for display only")
    namespace: Column = column("inode of its PID namespace; for display only")
    joined: Column = column("time_ns")
    coordinates: Column = column("1: its permit and ticket rows are backed by memory and may be read")
    watching: Column = column("a bit per hash of a name that it waits for; by its owner, under the lock")
    metered: Column = column("1: its readings are backed by memory and may be read")


class Blocks(Table):
    state: Column = column("BlockState; the last word stored, so a half-written row is never visible")
    kind: Column = column("Kind; beside the state, since both are counted over all rows")
    generation: Column = column("+1 per reuse of the row; a handle with another value is stale")
    owner: Column = column(
        "slot + 1 of the process that is creating it; of a live block, with bit 32 set, of the one it is kept for; with bit 33 "
        "set, row + 1 of the queue it is an item of, and above 16 bits slot + 1 of the process that has taken it, or with "
        "bit 34 set as well, of the queue whose ring it is"
    )
    segment: Column = column("segment row + 1; of a free row: where its cell lies (derived)")
    offset: Column = column("B from the start of the segment")
    cell: Column = column("B of its cell in a slab; 0: it has the segment to itself")
    body_nbytes: Column = column("B of the value")
    stored_nbytes: Column = column("B in its own segment before its frame; grows in a block of pages")
    frame_nbytes: Column = column("B of the frame, which lies behind what is stored at the next multiple of 8")
    frame_crc: Column = column("crc32 of the frame")
    version: Column = column("how often its name had been published, with it; 0: anonymous")
    created: Column = column("time_ns")
    name: Column = column("name row + 1 that it was published under; 0: never")
    linger: Column = column("ns that it outlives its last lease; 0: not at all")
    expires: Column = column("monotonic_ns until which it lives without a lease")
    until: Column = column("monotonic_ns at which its name goes; 0: never")
    used: Column = column("monotonic_ns when it was published or its last lease ended, of whichever process")
    group: Column = column("group row + 1: it may be deleted when the group or the plane is full; 0: it stays")
    cost: Column = column("what it took to compute, in µs; 0: not known; of an item of a queue how often it was taken")
    seen: Column = column(
        "hits since the policy looked last; stored without the lock, so at worst it lives a round more; of an item that "
        "is being taken out of a ring the ring's head, until that moves on"
    )
    queue: Column = column(
        "derived: queue + 1 of its group that it is in, 0: none; recovery keeps the queue, not the order"
    )
    before: Column = column("derived: next one towards the head of its queue, row + 1; 0: none; of items as well")
    after: Column = column("derived: next one towards the tail of its queue, row + 1; 0: none; of items as well")
    rank: Column = column("the policy's number for it; of an item of a queue its number there")
    referenced: Column = column("derived: how many blocks refer to it")
    next: Column = column("derived: chain of free rows, row + 1")
    references: Column = column("how many of the next words are used; those blocks refer to none")
    reference: tuple[Column, ...] = columns(MAX_REFERENCES, "block row + 1 whose bytes this block shows")


class Segments(Table):
    state: Column = column("SegmentState; stored last")
    id: Column = column("the file's name; never used again")
    nbytes: Column = column("B of the file, whole pages, fixed for life")
    owner: Column = column(
        "slot + 1 of the process that is making or removing the file; else of the last one that filled it"
    )
    slab: Column = column("class + 1 of its cells; 0: one block has it all")
    bump: Column = column("B of a slab already cut into cells")
    exported: Column = column("1: other programs may have it open, so it is never used again")
    place: Column = column("where its file lies: 0 in memory, 1 in the spill directory; fixed for life")
    cells: Column = column("derived: cells of a slab in use")
    orphans: Column = column("derived: cells of a slab that no row owns, after block rows ran short")
    next: Column = column("derived: chain of free rows or of recycled segments, row + 1")


class Names(Table):
    word: Column = column("0, or block row + 1 and the version, packed: the one word to compare; never the same again")
    version: Column = column(
        "the last one published; kept after a delete; never goes back, also when the row is used again"
    )
    length: Column = column("B of the name; 0: the row is free; stored last")
    hash: Column = column("crc32 of the name")
    generation: Column = column("+1 per reuse of the row")
    queued: Column = column("derived: 1 while it is among the tombstones")
    next: Column = column("derived: next name of its bucket, row + 1")
    next_tombstone: Column = column("derived: next younger tombstone, row + 1")
    text: Text = text(15, "UTF-8 of the name")


class Buckets(Table):
    first: Column = column("derived: first name row of the bucket, row + 1")


class Classes(Table):
    free: Column = column("derived: chain of free block rows that own a cell of the class, row + 1")
    slab: Column = column("derived: segment row + 1 of the slab that still has uncut cells")
    slabs: Column = column("derived: how many slabs the class has")


class Recycled(Table):
    first: Column = column("derived: first recycled segment of the size bucket, row + 1")


class Wakes(Table):
    """A word per process to wait on; apart from the process table, since whoever wakes it writes here."""

    sequence: Column = column("+1 whenever something that the process waits for may have come; a futex")


class Semaphores(Table):
    state: Column = column("1: in use; stored last")
    permits: Column = column("how many may be held in all")
    generation: Column = column("+1 per reuse of the row")
    freed: Column = column(
        "monotonic_ns of the last time that permits were offered to those who wait; of a rate: that their first one looked"
    )
    hash: Column = column("crc32 of the name")
    length: Column = column("B of the name")
    text: Text = text(17, "UTF-8 of the name, with a letter that says whose it is")
    returned: Column = column("of a rate: ns of what grants have given back, ever")
    era: Column = column(
        "of a rate: +1 whenever its terms change; its lowest bit says which of the next words count; 0: none"
    )
    arrival: tuple[Column, ...] = columns(2, "monotonic_ns at which all that was granted is paid for")
    limit: tuple[Column, ...] = columns(2, "units in a period, the bits of a double")
    per: tuple[Column, ...] = columns(2, "the period in s, the bits of a double")
    burst: tuple[Column, ...] = columns(2, "units at once, the bits of a double")
    numbered: Column = column(
        "of a queue: the number of its last item; 0: it is none; by who has the put end of its ring"
    )
    first: Column = column("derived: block row + 1 of the next item of a queue; 0: none")
    last: Column = column("derived: block row + 1 of its youngest item")
    items: Column = column("derived: how many of its items that are blocks nobody has taken")
    earliest: Column = column("derived: the number of the next item that is a block; 0: none")
    awaited: Column = column(
        "not 0: somebody may stand in line; 0: surely nobody, so its ring needs no lock of the plane"
    )
    ring: Column = column("of a queue: block row + 1 of its ring, and above 24 bits the row's generation; 0: none")
    head: Column = column("of a ring: how many were taken and where the next one is; by who has its get end")
    tail: Column = column("of a ring: how many were put in and where the next one goes; by who has its put end")


class Permits(Table):
    """A row per process, a word per semaphore."""

    held: Column = column("how many permits the process holds; by its owner, cleared once its token is free")


class Tickets(Table):
    """A row per process, a word per semaphore."""

    oldest: Column = column("ticket of its oldest waiter, 0: none; by its owner; marked by who passes it over")


class Wishes(Table):
    """A row per process, a word per semaphore."""

    wished: Column = column(
        "of a rate or queue that the process uses: 1 + ns of what its waiters wish for, of a queue 0; by its owner, cleared "
        "once its token is free"
    )


class Meters(Table):
    state: Column = column("1: in use; stored last")
    hash: Column = column("crc32 of the name")
    length: Column = column("B of the name")
    text: Text = text(15, "UTF-8 of the name")


class Readings(Table):
    """A row per process and two base rows, each with all words of all meters."""

    word: Column = column("a level or a count; by its owner, folded into the base and cleared once its token is free")


class Counters(Table):
    """A row per process, behind two base rows and one for those that join. Each word only grows; by its owner."""

    puts: Column = column("blocks published")
    gets: Column = column("blocks looked up and found; not those that the process still held")
    misses: Column = column("names looked up and not there")
    copied_nbytes: Column = column("B written into segments")
    deletes: Column = column("names deleted")
    evictions: Column = column("blocks that made room for others")
    expirations: Column = column("names whose time had come")
    conflicts: Column = column("puts and commits refused since the name had moved on")
    reclaimed: Column = column("processes that had ended without giving back what they held")
    recoveries: Column = column("transactions left unfinished and put right")
    takes: Column = column("how often it had the plane's lock")
    waited_ns: Column = column("ns that it waited for the plane's lock")
    waits: tuple[Column, ...] = columns(WAIT_BUCKETS, "how often it waited for the plane's lock, by how long")
    permit_waited_ns: Column = column("ns that its callers waited for permits")
    permit_waits: tuple[Column, ...] = columns(WAIT_BUCKETS, "permits that its callers got, by how long that took")
    spare: Column = column("0; a row is whole cache lines")


class Groups(Table):
    """Blocks that are evicted by one policy within one limit. Row 0 has no name: what is put as evictable."""

    state: Column = column("1: in use; stored last")
    hash: Column = column("crc32 of the name")
    length: Column = column("B of the name")
    policy: Column = column("how its blocks are chosen: position in POLICIES")
    limit_nbytes: Column = column("B that its blocks may take; 0: as much as the plane has")
    used_nbytes: Column = column("derived: B of the cells and segments of its blocks")
    blocks: Column = column("derived: how many they are")
    small_nbytes: Column = column("derived: B of those in queue 0")
    clock: Column = column("derived: the policy's own, what ranks start from or where its hand is")
    evictions: Column = column("blocks that the policy chose, ever")
    evicted_nbytes: Column = column("B that it chose in queue 0, ever; says how old a ghost is")
    text: Text = text(15, "UTF-8 of the name")
    heads: tuple[Column, ...] = columns(QUEUES, "derived: youngest of each queue, row + 1; 0: none")
    tails: tuple[Column, ...] = columns(QUEUES, "derived: oldest of each queue, row + 1; 0: none")


class Ghosts(Table):
    """What was evicted lately; a place by hash, whoever comes last has it. A wrong word is one bad guess."""

    word: Column = column("fingerprint of group and key, and the group's evicted_nbytes then, packed; 0: empty")


class Leases(Table):
    """A row per process, a word per block; kept as rows, so it is declared for the fingerprint only."""

    held: Column = column("1: the process of the row leases the block; by its owner, cleared once its token is free")
