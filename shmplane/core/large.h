/* A block with a segment for itself: reserved, written by Python outside the lock, and published.

   Rule 1. What is reserved is warm (``warm.h``), so nothing has to be made for it. Its row is CREATING, and the object that stands
   for it in Python is entered before: if that is garbage, or this process is, the row is given back.
   Rule 2. Only the process that reserved a row publishes it, once: while its object is the one that is entered for it.
   Rule 3. Nothing is written to a segment but through a mapping that Python said is of this file, all of which has memory behind
   it (``know``), and that is kept while it is written to. The lock is not held then, and of what is larger not the GIL.  */

#define WITHOUT_GIL_NBYTES (128u << 10)
#define IN_TWO_NBYTES (8u << 20) /* what is copied by two threads is Python's to copy */

/* ``Allocation.block_row``, told beforehand: a row that owns no cell. */
static int find_row(Core *self, u64 *row, int *is_new) {
    u64 following = HEAD(free_blocks);
    *is_new = !following;
    *row = following ? following - 1 : self->blocks_high;
    return *row < (following ? self->blocks_high : self->blocks_reserved) && GET(Blocks_state, *row) == FREE;
}

/* Make an object known as what stands for a row, and for nothing before. */
static int enter_creation(Core *self, PyObject *tracked, PyObject *row, PyObject *segment) {
    return row != NULL && segment != NULL && PyObject_SetAttr(tracked, key_text, row) == 0 &&
           PyObject_SetAttr(tracked, segment_row_text, segment) == 0 &&
           PyDict_GetItemWithError(self->creating, row) == NULL && !PyErr_Occurred() &&
           PyDict_SetItem(self->creating, row, tracked) == 0;
}

/* What a call of ``reserve`` found. */
typedef struct {
    u64 row, segment, id, nbytes;
} reservation;

/* ``Transaction.name_row`` and ``begin_large``. With no text the block will have no name. 0: nothing was stored. */
static int reserve(Core *self, naming *name, u64 nbytes, PyObject *tracked, reservation *got) {
    warm found = {0};
    u64 row = 0;
    int is_new = 0, is_usual = 1;
    if (!enter(self))
        return 0;
    if (PyObject_Size(self->garbage) > 0)
        is_usual = end_leases(self);
    is_usual = is_usual && (!name->length || look_up(self, name)) && find_warm(self, nbytes, &found) &&
               find_row(self, &row, &is_new) && !odd(HEAD(live_blocks));
    if (is_usual) {
        PyObject *row_object = PyLong_FromUnsignedLongLong(row), *segment_object = PyLong_FromUnsignedLongLong(found.row);
        is_usual = enter_creation(self, tracked, row_object, segment_object);
        Py_XDECREF(row_object);
        Py_XDECREF(segment_object);
    }
    if (!is_usual) {
        PyErr_Clear();
        leave(self);
        return 0;
    }

    begin(self);
    SET_HEAD(dirty, self->mark);
    if (name->length)
        add_missing(self, name);
    take_warm(self, &found);
    if (is_new)
        SET_HEAD(blocks_high, row + 1);
    else
        SET_HEAD(free_blocks, GET(Blocks_next, row));
    SET(Blocks_cell, row, 0);
    SET(Blocks_segment, row, found.row + 1);
    SET(Blocks_offset, row, 0);
    SET(Blocks_owner, row, self->mark);
    clear_row(self, row);
    SET(Blocks_state, row, CREATING);
    ADD_HEAD(live_blocks, 1);
    SET_HEAD(dirty, 0);
    *got = (reservation){row, found.row, GET(Segments_id, found.row), found.nbytes};
    leave(self);
    return 1;
}

/* ``Transaction.fill`` and ``publish`` of what was reserved, and is known by ``creation``; NULL: nothing was stored. */
static PyObject *publish_reserved(Core *self, naming *name, PyObject *row_object, u64 row, const contents *what,
                                  PyObject *creation, PyObject *tracked) {
    u64 segment = 0;
    int is_usual = 1;
    if (!enter(self))
        return NULL;
    if (PyObject_Size(self->garbage) > SPARED)
        is_usual = end_leases(self);
    is_usual = is_usual && look_up(self, name) && row < self->blocks_high && GET(Blocks_state, row) == CREATING &&
               GET(Blocks_owner, row) == self->mark && !GET(Blocks_cell, row) &&
               (segment = GET(Blocks_segment, row) - 1) < self->segments_high && GET(Segments_state, segment) == USED &&
               !GET(Segments_place, segment) &&
               !odd(what->nbytes) && can_point(self, name, row) && PyDict_GetItemWithError(self->creating, row_object) == creation &&
               (tracked == NULL || enter_new_lease(self, row_object, tracked));
    if (!is_usual) {
        PyErr_Clear();
        leave(self);
        return NULL;
    }

    begin(self);
    SET_HEAD(dirty, self->mark);
    add_missing(self, name);
    fill(self, row, what);
    point(self, name, row, tracked != NULL);
    PyDict_DelItem(self->creating, row_object);
    return leave_published(self, name, row, segment, 0, tracked != NULL);
}

/* Write a block to its segment, if this process has that mapped, outside the lock: whether it is written. */
static int write_to(Core *self, const reservation *to, const Py_buffer *body, const char *frame, u64 frame_nbytes) {
    slab *known = &self->slabs[to->segment % MOST_SLABS];
    u64 stored_nbytes = (u64)body->len, before_frame = (stored_nbytes + 7) & ~7ull, nbytes = before_frame + frame_nbytes;
    u64 page = (u64)sysconf(_SC_PAGESIZE), page_end = (nbytes + page - 1) & ~(page - 1);
    if (known->mapping == NULL || known->row != to->segment || known->id != to->id || page_end > known->nbytes)
        return 0;
    PyObject *mapping = Py_NewRef(known->mapping); /* another thread may have it forgotten meanwhile */
    char *start = known->address;
    if (stored_nbytes < WITHOUT_GIL_NBYTES) {
        memcpy(start, body->buf, stored_nbytes);
    } else {
        Py_BEGIN_ALLOW_THREADS
        memcpy(start, body->buf, stored_nbytes);
        Py_END_ALLOW_THREADS
    }
    memset(start + stored_nbytes, 0, before_frame - stored_nbytes);
    memcpy(start + before_frame, frame, frame_nbytes);
    memset(start + nbytes, 0, page_end - nbytes); /* so that nothing old can be read there */
    Py_DECREF(mapping);
    return 1;
}

static PyObject *core_reserve(Core *self, PyObject *const *args, Py_ssize_t n) {
    naming name = {0};
    char *text;
    reservation got;
    u64 nbytes = n == 3 ? PyLong_AsUnsignedLongLong(args[1]) : 0;
    if (n != 3 || PyErr_Occurred() || bytes_of(args[0], &text, &name.length, NAME_NBYTES) < 0)
        return wrong_arguments();
    name.text = text;
    if (!reserve(self, &name, nbytes, args[2], &got))
        return not_entered(self);
    return PyBytes_FromStringAndSize((char *)&got, sizeof got);
}

static PyObject *core_publish(Core *self, PyObject *const *args, Py_ssize_t n) {
    naming name = {0};
    char *text;
    u64 numbers[6] = {0};
    for (int i = 0; i < 6 && n >= 8; i++)
        numbers[i] = PyLong_AsUnsignedLongLong(args[i + 1]);
    if (n < 8 || n > 9 || PyErr_Occurred() || bytes_of(args[0], &text, &name.length, NAME_NBYTES) < 0)
        return wrong_arguments();
    name.text = text;
    contents what = {numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]};
    PyObject *done = name.length ? publish_reserved(self, &name, args[1], numbers[0], &what, args[7], n == 9 ? args[8] : NULL) : NULL;
    return done != NULL || PyErr_Occurred() ? done : not_entered(self);
}

/* Both, and the writing in between. What was reserved and not published, since that is not plain, is said: Python goes on. */
static PyObject *core_put_large(Core *self, PyObject *const *args, Py_ssize_t n) {
    naming name = {0}, again;
    char *text, *frame;
    u64 frame_nbytes, kind = n >= 5 ? PyLong_AsUnsignedLongLong(args[3]) : 0;
    Py_buffer body;
    struct {
        reservation got;
        u64 is_written;
    } said = {0};
    if (n < 5 || n > 6 || PyErr_Occurred() || bytes_of(args[0], &text, &name.length, NAME_NBYTES) < 0 ||
        bytes_of(args[2], &frame, &frame_nbytes, PY_SSIZE_T_MAX) < 0)
        return wrong_arguments();
    self->was_busy = 0;
    if (!name.length || PyObject_GetBuffer(args[1], &body, PyBUF_SIMPLE) < 0) {
        PyErr_Clear();
        Py_RETURN_NONE; /* gaps, or a dtype that exports none */
    }
    name.text = text;
    again = name;
    u64 nbytes = (((u64)body.len + 7) & ~7ull) + frame_nbytes;
    contents what = {kind, (u64)body.len, nbytes, frame_nbytes, 0};
    if ((u64)body.len >= IN_TWO_NBYTES || !reserve(self, &name, nbytes, args[4], &said.got)) {
        PyBuffer_Release(&body);
        return not_entered(self);
    }
    said.is_written = (u64)write_to(self, &said.got, &body, frame, frame_nbytes);
    what.frame_crc = crc32_of(frame, frame_nbytes);
    PyBuffer_Release(&body);
    PyObject *done = NULL, *row = said.is_written ? PyLong_FromUnsignedLongLong(said.got.row) : NULL;
    if (row != NULL)
        done = publish_reserved(self, &again, row, said.got.row, &what, args[4], n == 6 ? args[5] : NULL);
    Py_XDECREF(row);
    return done != NULL || PyErr_Occurred() ? done : PyBytes_FromStringAndSize((char *)&said, sizeof said);
}
