/* Publishing a block under a name: the second half of a put, of a small block as of a large one.

   Rule 1. First everything is looked at (``look_up``, ``can_point``), of which nothing is stored; then the row is described, and
   the name's word is stored last: whoever sees it sees all of the block. The order is that of ``Transaction.publish``.
   Rule 2. Of what the name pointed to, it is decided beforehand what becomes of it (``end_of``). What the block itself takes in
   between, a cell or a segment, is not what that gives back: nothing that is live is on a list of what is free.
   Rule 3. Who waits for the name has its wake word changed behind the commit, and is woken with the lock given back (but by
   ``within``, which keeps it). Whoever is killed in between delays them until they look again by themselves, in 100 ms.  */

/* What a block holds, as its row says it. */
typedef struct {
    u64 kind, body_nbytes, nbytes, frame_nbytes, frame_crc; /* nbytes: of all that is stored */
} contents;

/* ``Transaction.fill`` */
static void fill(Core *self, u64 row, const contents *what) {
    COUNT(copied_nbytes, what->nbytes);
    SET(Blocks_body_nbytes, row, what->body_nbytes);
    SET(Blocks_stored_nbytes, row, what->body_nbytes);
    SET(Blocks_frame_nbytes, row, what->frame_nbytes);
    SET(Blocks_frame_crc, row, what->frame_crc);
    SET(Blocks_kind, row, what->kind);
    SET(Blocks_created, row, clock_ns(CLOCK_REALTIME));
    SET(Blocks_used, row, self->now);
    SET(Blocks_group, row, 0);
}

/* ``Transaction._clear`` */
static void clear_row(Core *self, u64 row) {
    static const int cleared[] = {Blocks_references, Blocks_name, Blocks_linger, Blocks_expires, Blocks_until};
    for (size_t i = 0; i < sizeof(cleared) / sizeof(cleared[0]); i++)
        SET(cleared[i], row, 0);
}

/* A name, what it points to and what that becomes when it points elsewhere. */
typedef struct {
    const char *text;
    u64 length, hash, tail;
    u64 row, previous, version; /* NOWHERE: not known yet; the block's row + 1; of that or the one before it */
    ending end;
} naming;

/* Find the name, or room for it; 0: Python has to. */
static int look_up(Core *self, naming *name) {
    int is_usual = 1;
    name->hash = crc32_of(name->text, name->length);
    name->row = find_name(self, name->text, name->length, (u32)name->hash, &is_usual);
    if (!is_usual)
        return 0;
    if (name->row == NOWHERE)
        return can_add_name(self, &name->tail);
    name->previous = GET(Names_word, name->row) & ROW_MASK;
    name->version = GET(Names_version, name->row);
    return name->previous <= self->blocks_high && !odd(name->version);
}

/* Whether the block of a row can take the name over: nothing goes at a time, which Python sees to. */
static int can_point(Core *self, naming *name, u64 row) {
    u64 previous = name->previous - 1;
    name->end = (ending){.fate = STAYS};
    if (HEAD(expiring) || HEAD(lingering) ||
        odd(HEAD(live_blocks) | HEAD(live_names) | GET(Counters_puts, self->count_row) | GET(Counters_copied_nbytes, self->count_row)))
        return 0;
    if (!name->previous)
        return 1;
    if (!get_word(lease_word(self, self->slot, previous)))
        name->end = end_of(self, previous);
    return name->end.fate != UNUSUAL && previous != row && GET(Blocks_name, previous) == name->row + 1;
}

/* ``Transaction.name_row``, of what was looked up. */
static void add_missing(Core *self, naming *name) {
    if (name->row != NOWHERE)
        return;
    name->row = add_name(self, name->text, name->length, (u32)name->hash, name->tail);
    name->version = GET(Names_version, name->row);
}

/* Enter what stands for the lease that a new block will have: which row it gives back was not known before. */
static int enter_new_lease(Core *self, PyObject *row, PyObject *tracked) {
    return row != NULL && PyObject_SetAttr(tracked, key_text, row) == 0 && enter_lease(self, row, tracked);
}

static int is_watching(Core *self, u64 slot, u64 hash) {
    return GET(Processes_watching, slot) >> (hash & 63) & 1;
}

/* ``Coordination.wake_watchers``, but for the waking. */
static void tell_watchers(Core *self, u64 hash) {
    for (u64 slot = 0; slot < self->columns[Processes_watching].rows; slot++)
        if (is_watching(self, slot, hash))
            SET(Wakes_sequence, slot, (GET(Wakes_sequence, slot) + 1) & 0xffffffff);
}

/* Who has begun to watch since is woken for nothing. */
static void wake_watchers(Core *self, u64 hash) {
    for (u64 slot = 0; slot < self->columns[Processes_watching].rows; slot++)
        if (is_watching(self, slot, hash))
            syscall(SYS_futex, AT(Wakes_sequence, slot), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* The rest of ``Transaction.publish``, of a row that was described, and the end of the transaction. */
static void point(Core *self, const naming *name, u64 row, int is_leased) {
    u64 version = name->version + 1;
    SET(Blocks_version, row, version);
    SET(Blocks_name, row, name->row + 1);
    if (is_leased)
        set_word(lease_word(self, self->slot, row), 1);
    COUNT(puts, 1);
    SET(Blocks_state, row, LIVE);
    /* The commit: whoever sees the name's word sees all of the block. */
    SET(Names_word, name->row, (row + 1) | version << VERSION_BITS_BELOW);
    if (!name->previous)
        ADD_HEAD(live_names, 1);
    if (HEAD(watchers))
        tell_watchers(self, name->hash);
    SET(Names_version, name->row, version);
    free_block(self, &name->end);
    SET_HEAD(dirty, 0);
}

/* Leave, with True, or for who leases the block with what a ``BlockFacts`` needs. */
static PyObject *leave_published(Core *self, const naming *name, u64 row, u64 segment, u64 start, int is_leased) {
    u64 facts[] = {row, GET(Blocks_generation, row), GET(Segments_id, segment), GET(Segments_nbytes, segment), start,
                   name->version + 1, GET(Blocks_created, row), name->row + 1, HEAD(moves)};
    leave(self);
    if (HEAD(watchers))
        wake_watchers(self, name->hash);
    return is_leased ? PyBytes_FromStringAndSize((char *)facts, sizeof facts) : Py_NewRef(Py_True);
}
