/* The core: the common path of small operations on a plane, in front of the complete Python code.

   Rule 1. Python stays the truth. Each operation here first looks at everything that it will need; where anything is unusual
   (a segment that has to be made, a waiter, a time to live, a chain that leads nowhere, a lock that is not free) it returns None
   before its first store, and ``manifest/transaction.py`` does it, or says what is wrong. So each rare case is written once.

   Rule 2. The stores are those of the Python code, in its order; that order is argued there. A test runs both on the same
   operations and compares all words.

   Rule 3. Whatever is read from a plane may have been written by somebody hostile, also at this very moment. A word that says
   where to read or store is read once, into a variable, and compared with the rows that its table has and that memory stands
   behind (``enter``); a count that is about to grow is far from wrapping around (``odd``); a chain is followed for so many steps
   and no further. Nothing that a plane holds can end this process.

   Rule 4. From taking the lock to giving it back, the GIL is held and nothing is called that could run Python code: no
   container is made (Python 3.11 looks for garbage then), no attribute is asked for but slots, no system call blocks. So no
   signal handler, finalizer, fork hook or other thread of this process ever stands between two stores.

   Rule 5. A store of a word is ``SET`` or ``set_word``; bytes (a name's text, a body) are copied only to where no word says
   yet that they are there. Each store is a release store of one aligned word, a plain ``mov`` on x86 and ``stlr`` on arm64:
   no store is seen before one that was made earlier. Whoever reads without the lock (``Reader.is_seen``,
   ``Plane.__getitem__``) is Python code, whose loads are ordered by x86, and on arm64 by nothing but what depends on them;
   what does so here has its order in ``glance.h``. Who has the lock needs no order of its own: taking either kind is an
   acquire and giving it back a release, the one because the kernel's lock is a barrier on both sides, the other as
   ``lockword.h`` says. After each one a test can have the process killed: what ships is what was killed.  */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000  /* one build serves every Python from 3.11 on */
#define _GNU_SOURCE 1              /* F_OFD_SETLK, MADV_WIPEONFORK */
#include <Python.h>
#ifdef Py_GIL_DISABLED
#error "Rule 4 needs the GIL: without one the Python code is used"
#endif
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef SOURCE
#define SOURCE 0 /* crc32 of the C files here, by whoever compiles them: another one means that they are not what was built */
#endif

typedef uint64_t u64;
typedef uint32_t u32;

#include "columns.h"

/* States, as ``manifest/states.py`` has them; a test compares. */
enum { FREE = 0, CREATING = 1, LIVE = 2, DEAD = 3, USED = 2, WARM = 3 };
enum { S3FIFO = 0 }; /* in ``POLICIES`` */
#define ROW_MASK 0xffffffull
#define VERSION_BITS_BELOW 24
#define KEPT (1ull << 32)
#define SCAN_INTERVAL_NS 1000000000ull
#define NAME_NBYTES 120 /* the longest, which a row has room for */
#define SPARED 64       /* pieces of garbage that a small put leaves to others */
#define MOST_STEPS 64   /* along the chain of a bucket; a longer one is for Python, which can tell whether it ends */
#define MOST_SLABS 64
#define MOST_CLASSES 64
#define MOST_LINES 2048 /* of 64 bytes, of the largest cell */

/* A slab that this process has mapped. The reference keeps the mapping for as long as the entry stands. */
typedef struct {
    PyObject *mapping;
    char *address;
    u64 nbytes, row, id;
} slab;

typedef struct {
    PyObject_HEAD
    PyObject *kept;  /* keeps what is pointed to below */
    Py_buffer words; /* the manifest, whole; it cannot go while we look at it */
    column columns[N_COLUMNS];
    u64 leases_start, lease_row_words; /* where the lease rows lie, in words */
    u64 mark;                          /* slot + 1: in the dirty word while we write */
    u64 slot, count_row, most_tombstones;
    unsigned char class_of[MOST_LINES]; /* of a size in lines of 64 bytes */
    int lines, classes;
    u64 cell_nbytes[MOST_CLASSES];

    struct LockWord *word; /* the host-wide lock; NULL: it is a byte of this file */
    int fd;
    off_t offset;   /* which shows that it is still our own description, as in ``HostLock.check`` */
    u64 generation; /* of the process: another one after a fork; 0: this process has left the plane */
    int is_inside;  /* whoever called has the lock, and keeps it (``within``) */
    u64 now;        /* CLOCK_MONOTONIC, when it was taken last */
    int was_busy;   /* the lock was not free when ``enter`` tried last */
    PyObject *is_owned, *acquire, *release; /* of the mutex between this process's threads */
    PyObject *garbage, *popleft, *owed, *gone;       /* what the attachment has to give back */
    PyObject *leased, *creating;                      /* by row, what stands for its leases, and for blocks that are being made */

    u64 membership; /* for which ``others`` holds */
    u32 *others;    /* slots in use but for ours */
    u64 n_others;
    /* Rows in use, and those that memory stands behind: as they were bounded when the lock was taken. */
    u64 blocks_high, blocks_reserved, segments_high, segments_reserved, names_high, names_reserved;
    slab slabs[MOST_SLABS];
} Core;

/* ------------------------------------------------------------------------------------------ stores */

static long stop_at_store = -1, stores; /* of the test that has the process killed at a store */

static inline void count_store(void) {
    if (__builtin_expect(stop_at_store >= 0, 0) && ++stores == stop_at_store)
        kill(getpid(), SIGKILL);
}

static inline void set_word(u64 *word, u64 value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    count_store();
}

static inline u64 get_word(const u64 *word) {
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

#define AT(c, row) (&self->columns[c].first[(row) * self->columns[c].step])
#define GET(c, row) get_word(AT(c, row))
#define SET(c, row, value) set_word(AT(c, row), value)
#define ADD(c, row, value) SET(c, row, GET(c, row) + (u64)(value)) /* by us alone: we have the lock */
#define HEAD(c) GET(Header_##c, 0)
#define SET_HEAD(c, value) SET(Header_##c, 0, value)
#define ADD_HEAD(c, value) ADD(Header_##c, 0, value)
#define COUNT(c, value) ADD(Counters_##c, self->count_row, value)

static inline u64 *lease_word(Core *self, u64 slot, u64 row) {
    return (u64 *)self->words.buf + self->leases_start + slot * self->lease_row_words + row;
}

/* No honest word of those that are added to comes near this, and Python refuses to store what does not fit. */
static inline int odd(u64 words) {
    return words >> 62 != 0;
}

static inline u64 clock_ns(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (u64)now.tv_sec * 1000000000ull + (u64)now.tv_nsec;
}

/* ---------------------------------------------------------------------------------------- the lock */

#include "crc32.h"
#include "process.h"
#include "lockword.h"

static int ofd_lock(Core *self, short type) {
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    return fcntl(self->fd, F_OFD_SETLK, &range);
}

static int take_lock(Core *self) {
    return self->word ? take_word(self->word, 0) : lseek(self->fd, 0, SEEK_CUR) == self->offset && ofd_lock(self, F_WRLCK) == 0;
}

/* Whether a call of one of the mutex's methods, which are C code and do not block, returned true. */
static int is_true(PyObject *result) {
    Py_XDECREF(result);
    return result == Py_True;
}

/* High counts what is in use, reserved what memory stands behind: behind that a page may be none (SIGBUS). */
#define BOUND(table, high, reserved)                                                                                    \
    (self->high = HEAD(high), self->reserved = HEAD(reserved), self->high <= self->reserved && self->reserved <= self->columns[table].rows)

/* Which processes may lease a block. Known for as long as no process comes or goes. */
static void look_who_is_there(Core *self) {
    u64 membership = HEAD(membership);
    if (membership == self->membership)
        return;
    self->n_others = 0;
    for (u64 slot = 0; slot < self->columns[Processes_state].rows; slot++)
        if (GET(Processes_state, slot) && slot != self->slot)
            self->others[self->n_others++] = (u32)slot;
    self->membership = membership;
}

static void leave_mutex(Core *self) {
    if (!self->is_inside)
        Py_XDECREF(PyObject_CallNoArgs(self->release));
}

static void leave(Core *self) {
    if (self->is_inside)
        return;
    if (self->word)
        give_word(self->word);
    else
        ofd_lock(self, F_UNLCK);
    leave_mutex(self);
}

static PyObject *not_to_wait; /* (False,) */

/* The mutex between this process's threads. Re-entered by its own thread, in a signal handler or finalizer, it would let us in. */
static int take_mutex(Core *self) {
    int taken = 0;
    /* One level deeper than it is given back: that may not fail for want of stack. */
    if (Py_EnterRecursiveCall(" in a plane") == 0) {
        taken = !is_true(PyObject_CallNoArgs(self->is_owned)) &&
                is_true(PyObject_Call(self->acquire, not_to_wait, NULL));
        Py_LeaveRecursiveCall();
    }
    if (!taken)
        PyErr_Clear();
    return taken;
}

/* Take the lock, if it is free and the plane is as it should be. Stores nothing; 0: all this is Python's. */
static int enter(Core *self) {
    self->was_busy = 0;
    if (self->generation == 0 || *this_process != self->generation || !(self->is_inside || take_mutex(self)))
        return 0;
    /* It may have been left while finalizers ran, as they do when what the call of a method needs is made. */
    if (self->generation == 0 || !(self->is_inside || take_lock(self))) {
        self->was_busy = self->generation != 0;
        leave_mutex(self);
        return 0;
    }
    /* A look at the tokens is due once a second; a time to come was written over, and wraps around here. */
    if (HEAD(destroyed) || HEAD(dirty) || (self->now = clock_ns(CLOCK_MONOTONIC)) - HEAD(scanned) > SCAN_INTERVAL_NS ||
        !GET(Processes_state, self->slot) || PyObject_Size(self->owed) != 0 || PyObject_Size(self->gone) != 0 ||
        odd(GET(Counters_takes, self->count_row)) || !BOUND(Blocks_state, blocks_high, blocks_reserved) ||
        !BOUND(Segments_state, segments_high, segments_reserved) || !BOUND(Names_word, names_high, names_reserved)) {
        leave(self);
        return 0;
    }
    look_who_is_there(self);
    return 1;
}

/* What every transaction begins with. From here on there are stores. */
static void begin(Core *self) {
    SET_HEAD(holder, self->mark); /* for messages */
    COUNT(takes, 1);
}

static PyObject *leave_to_python(Core *self) {
    leave(self);
    Py_RETURN_NONE;
}

/* What is returned without it. */
static PyObject *not_entered(Core *self) {
    return Py_NewRef(self->was_busy ? Py_False : Py_None);
}

/* --------------------------------------------------------------------------------- rows and their end */

enum { STAYS, GOES, UNUSUAL };

static int is_leased(Core *self, u64 row) {
    for (u64 i = 0; i < self->n_others; i++)
        if (get_word(lease_word(self, self->others[i], row)))
            return 1;
    return 0;
}

#include "warm.h"

/* A block that loses a name or our lease, and what becomes of it. */
typedef struct {
    u64 row, segment, class, nbytes, cell; /* the last one 0: it has the segment for itself */
    int fate;
} ending;

/* ``Transaction.free_unless_kept``, told beforehand. */
static ending end_of(Core *self, u64 row) {
    ending end = {.row = row, .segment = GET(Blocks_segment, row) - 1, .fate = UNUSUAL};
    if (GET(Blocks_state, row) != LIVE)
        return end;
    if (GET(Blocks_referenced, row))
        return end.fate = STAYS, end;
    if (GET(Blocks_linger, row) || GET(Blocks_owner, row) > KEPT)
        return end;
    if (is_leased(self, row))
        return end.fate = STAYS, end;
    if (GET(Blocks_references, row) || GET(Blocks_queue, row) || GET(Blocks_until, row) || end.segment >= self->segments_high ||
        GET(Segments_state, end.segment) != USED || GET(Segments_place, end.segment))
        return end;
    u64 cells = GET(Segments_cells, end.segment), live_blocks = HEAD(live_blocks);
    end.class = GET(Segments_slab, end.segment) - 1;
    end.nbytes = GET(Segments_nbytes, end.segment);
    end.cell = GET(Blocks_cell, row);
    if (!live_blocks || odd(GET(Blocks_generation, row) | cells | end.nbytes | HEAD(recycled_nbytes) | live_blocks))
        return end;
    if (end.cell ? end.class < (u64)self->classes && cells && (cells > 1 || HEAD(used_nbytes) >= end.nbytes)
                 : can_keep_warm(self, end.segment, end.nbytes))
        end.fate = GOES;
    return end;
}

/* ``Transaction._free``, if its fate is GOES. */
static void free_block(Core *self, const ending *end) {
    u64 row = end->row, segment = end->segment;
    if (end->fate != GOES)
        return;
    u64 *chain = end->cell ? AT(Classes_free, end->class) : AT(Header_free_blocks, 0);
    SET(Blocks_state, row, DEAD);
    if (end->cell)
        ADD(Segments_cells, segment, -1);
    else
        keep_warm(self, segment, end->nbytes);
    if (end->cell && !GET(Segments_cells, segment)) {
        ADD_HEAD(used_nbytes, -end->nbytes);
        ADD_HEAD(recycled_nbytes, end->nbytes);
    }
    ADD(Blocks_generation, row, 1); /* before FREE: a handle of the old block is stale when the row can be taken */
    SET(Blocks_state, row, FREE);
    SET(Blocks_next, row, get_word(chain));
    set_word(chain, row + 1);
    ADD_HEAD(live_blocks, -1);
}

/* Whether a name points to the block now; -1 when its row says what cannot be. */
static int is_named(Core *self, u64 row) {
    u64 name = GET(Blocks_name, row);
    if (name > self->names_high)
        return -1;
    return name != 0 && (GET(Names_word, name - 1) & ROW_MASK) - 1 == row;
}

/* Whether the end of a lease changes the queues of what may be evicted (``Queues.released``): with S3-FIFO, caches', it does not. */
static int is_moved_by_release(Core *self, u64 row) {
    u64 group = GET(Blocks_group, row) - 1;
    return GET(Blocks_queue, row) && (group >= self->columns[Groups_policy].rows || GET(Groups_policy, group) != S3FIFO);
}

static PyObject *key_text, *is_lease_text, *segment_row_text; /* "key" and so on: made once, since none may be made here */

/* End our leases whose objects are garbage: ``Tracked.free`` and ``Transaction.release_of``.

   Returns 1 when none is left, 0 when the next one is Python's. */
static int end_leases(Core *self) {
    PyObject *first_key, *known = NULL;
    Py_ssize_t at = 0, left;
    if (!PyDict_Next(self->leased, &at, &first_key, &known))
        return 0;
    /* Only what is of the kind that leases are known by: its attributes are slots, which no Python code stands behind. */
    PyTypeObject *kind = Py_TYPE(known);
    SET_HEAD(dirty, self->mark);
    for (left = PyObject_Size(self->garbage); left > 0; left--) {
        PyObject *one = PySequence_GetItem(self->garbage, 0), *key = NULL, *is_lease = NULL;
        u64 row = 0;
        int usual = 0;
        ending end = {.fate = STAYS};
        if (one != NULL && Py_TYPE(one) == kind) {
            key = PyObject_GetAttr(one, key_text);
            is_lease = PyObject_GetAttr(one, is_lease_text);
        }
        if (key != NULL && is_lease == Py_True && PyLong_Check(key)) {
            row = PyLong_AsUnsignedLongLong(key);
            usual = 1;
            /* A newer lease of the same row may have been taken since: then the row stays, and nothing is stored. */
            known = PyDict_GetItemWithError(self->leased, key);
            if (known == one) {
                int named = row < self->blocks_high ? is_named(self, row) : -1;
                if (!named)
                    end = end_of(self, row);
                usual = named >= 0 && end.fate != UNUSUAL && !is_moved_by_release(self, row) && !GET(Blocks_linger, row);
            }
        }
        if (usual && known == one) {
            SET(Blocks_used, row, self->now);
            set_word(lease_word(self, self->slot, row), 0);
            free_block(self, &end);
            PyDict_DelItem(self->leased, key);
        }
        if (usual)
            Py_XDECREF(PyObject_CallNoArgs(self->popleft));
        Py_XDECREF(key);
        Py_XDECREF(is_lease);
        Py_XDECREF(one);
        if (!usual || PyErr_Occurred())
            break;
    }
    SET_HEAD(dirty, 0);
    PyErr_Clear();
    return left == 0;
}

/* Among the leases of this process, before its word is set: nobody here can see it before we leave, and it may fail. */
static int enter_lease(Core *self, PyObject *row, PyObject *tracked) {
    return PyDict_GetItemWithError(self->leased, row) == NULL && !PyErr_Occurred() &&
           PyDict_SetItem(self->leased, row, tracked) == 0;
}

/* ----------------------------------------------------------------------------------------- names */

#define NOWHERE (~0ull)

/* The row of a name; NOWHERE without one. ``*is_usual`` is cleared when the chain cannot be followed. */
static u64 find_name(Core *self, const char *name, size_t length, u32 hash, int *is_usual) {
    u64 following = GET(Buckets_first, hash & (self->columns[Buckets_first].rows - 1));
    for (int step = 0; step < MOST_STEPS; step++) {
        u64 row = following - 1;
        if (!following)
            return NOWHERE;
        if (row >= self->names_high)
            break;
        if (GET(Names_hash, row) == hash && GET(Names_length, row) == length &&
            memcmp(AT(Names_text, row), name, length) == 0)
            return row;
        following = GET(Names_next, row);
    }
    *is_usual = 0;
    return NOWHERE;
}

/* Whether the row of a name can be queued among the tombstones, behind ``*tail``, or is there already. */
static int can_queue(Core *self, u64 *tail) {
    *tail = HEAD(tombstones_tail);
    return *tail <= self->names_high && !odd(HEAD(tombstones));
}

/* ``NameIndex.queue_tombstone`` */
static void queue_tombstone(Core *self, u64 row, u64 tail) {
    if (GET(Names_queued, row))
        return;
    SET(Names_queued, row, 1);
    SET(Names_next_tombstone, row, 0);
    if (tail)
        SET(Names_next_tombstone, tail - 1, row + 1);
    else
        SET_HEAD(tombstones_head, row + 1);
    SET_HEAD(tombstones_tail, row + 1);
    ADD_HEAD(tombstones, 1);
}

/* Whether ``add_name`` can: there is a row that was never used, with memory behind it, and no tombstone's turn. */
static int can_add_name(Core *self, u64 *tail) {
    return self->names_high < self->names_reserved && HEAD(tombstones) <= self->most_tombstones &&
           can_queue(self, tail) && !odd(HEAD(lost_version));
}

/* ``NameIndex.add`` */
static u64 add_name(Core *self, const char *name, size_t length, u32 hash, u64 tail) {
    u64 row = self->names_high++, bucket = hash & (self->columns[Buckets_first].rows - 1);
    SET_HEAD(names_high, row + 1);
    SET(Names_word, row, 0);
    SET(Names_version, row, HEAD(lost_version)); /* above all versions of names whose rows were used again */
    SET(Names_hash, row, hash);
    memcpy(AT(Names_text, row), name, length);
    SET(Names_length, row, length); /* last: now the row has a name */
    SET(Names_next, row, GET(Buckets_first, bucket));
    SET(Buckets_first, bucket, row + 1);
    queue_tombstone(self, row, tail);
    return row;
}

/* ----------------------------------------------------------------------------------------- cells */

/* A cell that a block will get, and how. */
typedef struct {
    u64 row, segment, start, class, nbytes; /* the last one of the slab */
    int is_cut;                             /* from the class's open slab: the row owns none yet */
    int is_free;                            /* and the row comes from the chain of those that own none */
    char *address;
} place;

/* Whether bytes can be put into a cell of a slab: it is what the tables say, and mapped here. */
static char *address_in(Core *self, u64 segment, u64 start, u64 class) {
    slab *known;
    u64 cell = self->cell_nbytes[class];
    if (segment >= self->segments_high || GET(Segments_state, segment) != USED || GET(Segments_place, segment) ||
        GET(Segments_slab, segment) != class + 1)
        return NULL;
    known = &self->slabs[segment % MOST_SLABS];
    /* The bound is the mapping's own. Ids are never used again, so a file that has it is the one that was mapped. */
    if (known->mapping == NULL || known->row != segment || known->id != GET(Segments_id, segment) ||
        cell > known->nbytes || start > known->nbytes - cell || start % 64)
        return NULL;
    return known->address + start;
}

/* ``Allocation.cell``, told beforehand: a free row that owns a cell, or a row and an uncut piece of the open slab. */
static int find_cell(Core *self, u64 class, place *found) {
    u64 following = GET(Classes_free, class), cells;
    found->class = class;
    found->is_cut = !following;
    if (following) {
        found->row = following - 1;
        if (found->row >= self->blocks_high || GET(Blocks_cell, found->row) != self->cell_nbytes[class])
            return 0;
        found->segment = GET(Blocks_segment, found->row) - 1;
        found->start = GET(Blocks_offset, found->row);
    } else {
        found->segment = GET(Classes_slab, class) - 1;
        if (found->segment >= self->segments_high)
            return 0;
        found->start = GET(Segments_bump, found->segment);
        following = HEAD(free_blocks);
        found->is_free = following != 0;
        found->row = following ? following - 1 : self->blocks_high;
        if (found->row >= (following ? self->blocks_high : self->blocks_reserved))
            return 0;
    }
    found->address = address_in(self, found->segment, found->start, class);
    if (found->address == NULL || GET(Blocks_state, found->row) != FREE)
        return 0;
    cells = GET(Segments_cells, found->segment);
    found->nbytes = GET(Segments_nbytes, found->segment);
    return !odd(cells | found->nbytes | HEAD(used_nbytes) | HEAD(recycled_nbytes)) &&
           (cells || HEAD(recycled_nbytes) >= found->nbytes);
}

/* Take it: ``Transaction.begin_small``. Counted at once; until the block is LIVE the cell is nobody's, which recovery finds. */
static void take_cell(Core *self, const place *cell) {
    u64 row = cell->row, nbytes = self->cell_nbytes[cell->class];
    if (!cell->is_cut) {
        SET(Classes_free, cell->class, GET(Blocks_next, row));
    } else {
        if (cell->is_free)
            SET_HEAD(free_blocks, GET(Blocks_next, row));
        else
            SET_HEAD(blocks_high, row + 1);
        SET(Segments_bump, cell->segment, cell->start + nbytes);
        if (cell->start + 2 * nbytes > cell->nbytes)
            SET(Classes_slab, cell->class, 0);
        SET(Blocks_segment, row, cell->segment + 1);
        SET(Blocks_offset, row, cell->start);
        SET(Blocks_cell, row, nbytes);
    }
    ADD(Segments_cells, cell->segment, 1);
    if (GET(Segments_cells, cell->segment) == 1) {
        ADD_HEAD(used_nbytes, cell->nbytes);
        ADD_HEAD(recycled_nbytes, -cell->nbytes);
    }
}

/* ------------------------------------------------------------------------------------- operations */

static PyObject *wrong_arguments(void) {
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "another number of arguments, or one that is too long");
    return NULL;
}

#include "values.h"
#include "glance.h"
#include "exporter.h"
#include "publish.h"

/* Publish what was rendered, which is at an end then. */
static PyObject *publish(Core *self, const char *text, u64 length, rendered *body, PyObject *tracked) {
    u64 nbytes = body->nbytes;
    naming name = {.text = text, .length = length};
    place cell = {0};
    int is_usual = 1;
    if (!enter(self)) {
        forget_rendered(body);
        return not_entered(self);
    }

    /* Everything that may be otherwise. */
    u64 class = self->class_of[(nbytes + 63) >> 6], has_cell = GET(Classes_free, class) | GET(Classes_slab, class);
    if (PyObject_Size(self->garbage) > (has_cell ? SPARED : 0)) /* a little is left to others, as by ``Attachment.add`` */
        is_usual = end_leases(self);
    is_usual = is_usual && look_up(self, &name) && find_cell(self, class, &cell) && can_point(self, &name, cell.row);
    if (is_usual && tracked != NULL) {
        PyObject *row_object = PyLong_FromUnsignedLongLong(cell.row);
        is_usual = enter_new_lease(self, row_object, tracked);
        Py_XDECREF(row_object);
    }
    if (!is_usual) {
        PyErr_Clear();
        forget_rendered(body);
        return leave_to_python(self);
    }

    begin(self);
    SET_HEAD(dirty, self->mark);
    add_missing(self, &name);
    take_cell(self, &cell);
    memcpy(cell.address, body->bytes, nbytes);
    contents what = {body->kind, body->body_nbytes, nbytes, body->frame_nbytes, body->frame_crc};
    forget_rendered(body);
    fill(self, cell.row, &what);
    clear_row(self, cell.row);
    ADD_HEAD(live_blocks, 1);
    point(self, &name, cell.row, tracked != NULL);
    return leave_published(self, &name, cell.row, cell.segment, cell.start, tracked != NULL);
}

static PyObject *core_put(Core *self, PyObject *const *args, Py_ssize_t n) {
    char *name, *frame;
    u64 length, frame_nbytes;
    Py_buffer view;
    rendered body;
    int is_rendered;
    body.kind = n >= 4 ? PyLong_AsUnsignedLongLong(args[3]) : 0;
    if (n < 4 || n > 5 || PyErr_Occurred() || bytes_of(args[0], &name, &length, NAME_NBYTES) < 0 ||
        bytes_of(args[2], &frame, &frame_nbytes, PY_SSIZE_T_MAX) < 0)
        return wrong_arguments();
    if (!length || PyObject_GetBuffer(args[1], &view, PyBUF_SIMPLE) < 0) {
        PyErr_Clear();
        Py_RETURN_NONE; /* gaps, or a dtype that exports none */
    }
    is_rendered = render(self, &body, view.buf, (u64)view.len, frame, frame_nbytes);
    PyBuffer_Release(&view);
    if (!is_rendered)
        Py_RETURN_NONE;
    body.frame_crc = crc32_of(frame, frame_nbytes);
    return publish(self, name, length, &body, n == 5 ? args[4] : NULL);
}

static PyObject *core_delete(Core *self, PyObject *name_object) {
    char *name;
    u64 length, tail = 0;
    int is_usual = 1;
    ending end = {.fate = STAYS};
    if (bytes_of(name_object, &name, &length, NAME_NBYTES) < 0)
        return wrong_arguments();
    if (!enter(self))
        return not_entered(self);
    u32 hash = crc32_of(name, length);
    u64 name_row = find_name(self, name, length, hash, &is_usual);
    u64 row = (name_row == NOWHERE ? 0 : GET(Names_word, name_row) & ROW_MASK) - 1;
    is_usual = is_usual && row < self->blocks_high && GET(Blocks_state, row) == LIVE && !GET(Blocks_until, row) &&
               GET(Blocks_name, row) == name_row + 1 && HEAD(live_names) && can_queue(self, &tail) && !odd(GET(Counters_deletes, self->count_row));
    if (is_usual && PyObject_Size(self->garbage) > 0)
        is_usual = end_leases(self); /* which may be the last one on this block */
    if (is_usual && !get_word(lease_word(self, self->slot, row)))
        end = end_of(self, row);
    if (!is_usual || end.fate == UNUSUAL)
        return leave_to_python(self);

    begin(self);
    SET_HEAD(dirty, self->mark);
    SET(Names_word, name_row, 0); /* the commit */
    ADD_HEAD(live_names, -1);
    queue_tombstone(self, name_row, tail);
    COUNT(deletes, 1);
    free_block(self, &end);
    SET_HEAD(dirty, 0);
    leave(self);
    Py_RETURN_TRUE;
}

static PyObject *core_lease(Core *self, PyObject *const *args, Py_ssize_t n) {
    u64 numbers[5] = {0}, segment = 0;
    int is_free;
    for (int i = 0; i < 5 && n == 6; i++)
        numbers[i] = PyLong_AsUnsignedLongLong(args[i]);
    if (n != 6 || PyErr_Occurred())
        return wrong_arguments();
    u64 name_row = numbers[0], word = numbers[1], row = numbers[2], moves = numbers[3], segment_id = numbers[4];
    if (!enter(self))
        return not_entered(self);
    is_free = name_row < self->names_high && row < self->blocks_high && (word & ROW_MASK) - 1 == row &&
              !odd(GET(Counters_gets, self->count_row)) &&
              (PyObject_Size(self->garbage) == 0 || end_leases(self)) && /* among them may be the last lease of this very row */
              GET(Names_word, name_row) == word && HEAD(moves) == moves && GET(Blocks_state, row) == LIVE &&
              /* What was read while it moved may have the old place and the new count of moves. */
              (segment = GET(Blocks_segment, row) - 1) < self->segments_high && GET(Segments_id, segment) == segment_id &&
              enter_lease(self, args[2], args[5]);
    if (!is_free) {
        PyErr_Clear();
        return leave_to_python(self);
    }
    begin(self);
    set_word(lease_word(self, self->slot, row), 1);
    COUNT(gets, 1);
    leave(self);
    Py_RETURN_TRUE;
}

#include "permits.h"
#include "large.h"

/* The same with the lock in hand, for who had to wait for it. Nothing that could run Python code is called in here before
   ``enter``: a body is bytes, or an array of NumPy's. */
static PyObject *core_within(Core *self, PyObject *const *args, Py_ssize_t n) {
    PyObject *result = NULL;
    const char *act = n ? PyUnicode_AsUTF8AndSize(args[0], NULL) : "";
    self->is_inside = 1;
    if (act != NULL && strcmp(act, "put") == 0)
        result = core_put(self, args + 1, n - 1);
    else if (act != NULL && strcmp(act, "assign") == 0)
        result = core_assign(self, args + 1, n - 1);
    else if (act != NULL && strcmp(act, "delete") == 0 && n == 2)
        result = core_delete(self, args[1]);
    else if (act != NULL && strcmp(act, "lease") == 0)
        result = core_lease(self, args + 1, n - 1);
    else if (act != NULL && strcmp(act, "reserve") == 0)
        result = core_reserve(self, args + 1, n - 1);
    else if (act != NULL && strcmp(act, "publish") == 0)
        result = core_publish(self, args + 1, n - 1);
    self->is_inside = 0;
    return result != NULL ? result : wrong_arguments();
}

static PyObject *core_know(Core *self, PyObject *const *args, Py_ssize_t n) {
    u64 numbers[4] = {0};
    for (int i = 0; i < 4 && n == 5; i++)
        numbers[i] = PyLong_AsUnsignedLongLong(args[i]);
    if (n != 5 || PyErr_Occurred())
        return wrong_arguments();
    slab *known = &self->slabs[numbers[0] % MOST_SLABS], before = *known;
    /* The mapping owns its range until it is garbage (``system/mapping.py``, rule 1). */
    *known = (slab){.row = numbers[0], .id = numbers[1], .address = (char *)(uintptr_t)numbers[2], .nbytes = numbers[3],
                    .mapping = Py_NewRef(args[4])};
    Py_XDECREF(before.mapping);
    Py_RETURN_NONE;
}

static PyObject *core_forget(Core *self, PyObject *Py_UNUSED(ignored)) {
    for (int i = 0; i < MOST_SLABS; i++)
        Py_CLEAR(self->slabs[i].mapping);
    Py_RETURN_NONE;
}

static PyObject *core_retire(Core *self, PyObject *Py_UNUSED(ignored)) {
    self->generation = 0;
    return core_forget(self, NULL);
}

/* ------------------------------------------------------------------------------------ making a core */

/* What is said here is worked out from the limits of the plane, which were checked when it was opened (``Manifest.open``). */
static int know_tables(Core *self, const Py_buffer *layout, const Py_buffer *class_of, const Py_buffer *cells) {
    const u64 *given = layout->buf, words = (u64)self->words.len / sizeof(u64);
    int is_right = layout->len == (Py_ssize_t)(N_COLUMNS * 3 * sizeof(u64)) && class_of->len <= MOST_LINES &&
                   cells->len <= (Py_ssize_t)(MOST_CLASSES * sizeof(u64));
    for (int i = 0; is_right && i < N_COLUMNS; i++) {
        u64 start = given[3 * i], step = given[3 * i + 1], rows = given[3 * i + 2];
        self->columns[i] = (column){(u64 *)self->words.buf + start, step, rows};
        is_right = rows && step && start < words && rows - 1 <= (words - 1 - start) / step;
    }
    u64 processes = self->columns[Processes_state].rows, buckets = self->columns[Buckets_first].rows;
    if (!is_right || (buckets & (buckets - 1)) || self->slot >= processes ||
        self->count_row >= self->columns[Counters_takes].rows ||
        self->lease_row_words < self->columns[Blocks_state].rows || self->leases_start > words ||
        processes > (words - self->leases_start) / self->lease_row_words) {
        PyErr_SetString(PyExc_ValueError, "tables that this core does not know");
        return -1;
    }
    self->lines = (int)class_of->len;
    self->classes = (int)(cells->len / (Py_ssize_t)sizeof(u64));
    memcpy(self->class_of, class_of->buf, (size_t)class_of->len);
    memcpy(self->cell_nbytes, cells->buf, (size_t)cells->len);
    self->membership = ~HEAD(membership); /* not known */
    self->others = PyMem_Calloc((size_t)processes, sizeof(u32));
    return self->others == NULL ? (PyErr_NoMemory(), -1) : 0;
}

static PyObject *core_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords)) {
    PyObject *words, *mutex, *word;
    Py_buffer layout = {0}, class_of = {0}, cells = {0};
    Core *self = (Core *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    int is_made = self != NULL &&
                  PyArg_ParseTuple(args, "Oy*y*y*KKKKKiOOOOOO!O!:Core", &words, &layout, &class_of, &cells, &self->leases_start,
                                   &self->lease_row_words, &self->slot, &self->count_row, &self->most_tombstones, &self->fd,
                                   &word, &mutex, &self->garbage, &self->owed, &self->gone, &PyDict_Type, &self->leased,
                                   &PyDict_Type, &self->creating);
    if (is_made) {
        self->is_owned = PyObject_GetAttrString(mutex, "_is_owned");
        self->acquire = PyObject_GetAttrString(mutex, "acquire");
        self->release = PyObject_GetAttrString(mutex, "release");
        self->popleft = PyObject_GetAttrString(self->garbage, "popleft");
        self->kept = Py_BuildValue("NNNNOOOOOO", self->is_owned, self->acquire, self->release, self->popleft, self->garbage,
                                   self->owed, self->gone, self->leased, self->creating, word);
        self->word = Py_TYPE(word) == (PyTypeObject *)word_type ? (LockWord *)word : NULL;
        self->mark = self->slot + 1;
        self->offset = lseek(self->fd, 0, SEEK_CUR);
        is_made = self->kept != NULL && PyObject_GetBuffer(words, &self->words, PyBUF_WRITABLE) == 0 &&
                  know_tables(self, &layout, &class_of, &cells) == 0 && (self->generation = this_generation()) != 0;
    }
    PyBuffer_Release(&layout);
    PyBuffer_Release(&class_of);
    PyBuffer_Release(&cells);
    if (!is_made)
        Py_CLEAR(self);
    return (PyObject *)self;
}

/* What is owed refers to the attachment, and this to both. */
static int core_traverse(PyObject *object, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((Core *)object)->kept);
    return 0;
}

static int core_clear(PyObject *object) {
    Core *self = (Core *)object;
    Py_XDECREF(core_retire(self, NULL)); /* first: nothing that is kept is used from here on */
    Py_CLEAR(self->kept);
    return 0;
}

static void core_dealloc(PyObject *object) {
    Core *self = (Core *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    core_clear(object);
    PyMem_Free(self->others);
    PyBuffer_Release(&self->words);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

#define METHOD(name, flags, doc) {#name, (PyCFunction)(void (*)(void))core_##name, flags, doc}
static PyMethodDef core_methods[] = {
    METHOD(put, METH_FASTCALL, "put(name, body, frame, kind, tracked=None): publish a small block under a name; True, None: Python does it, or\n"
                               "False: the lock is not free. With ``tracked`` it is leased, that entered for it, and what a ``BlockFacts``\n"
                               "needs is returned: row, generation, id and bytes of the segment, offset, version, created, name_row, moves."),
    METHOD(delete, METH_O, "delete(name): take a name away; True, None: Python does it, or says that it is not there, or False, as put."),
    METHOD(lease, METH_FASTCALL, "lease(name_row, word, row, moves, segment_id, tracked): lease what the name still points to, and enter\n"
                                 "``tracked`` for it among this process's leases; True, None or False, as put."),
    METHOD(permits, METH_FASTCALL, "permits(numbers, ready, waiters, kind, opens, release, release_later, done): what takes and gives permits; see permits.h."),
    METHOD(sees, METH_O, "sees(name): True: it surely has a block; None: only the lock can tell. It takes none."),
    METHOD(assign, METH_FASTCALL, "assign(name, value): put, without a lease, a value of which the core has learned how it is stored; as put."),
    METHOD(learn, METH_FASTCALL, "learn(value, frame, kind): that a value like this one, an array or bytes, has this frame."),
    METHOD(reserve, METH_FASTCALL, "reserve(name, nbytes, tracked): a row that is CREATING, with a warm segment, and ``tracked`` entered for it;\n"
                                   "row, segment row, id and bytes of the segment; None or False, as put. Without a name: b\"\"."),
    METHOD(put_large, METH_FASTCALL, "put_large(name, body, frame, kind, creation, tracked=None): both, and the writing in between; or what reserve\n"
                                     "returns and whether it is written, when it could only be reserved."),
    METHOD(publish, METH_FASTCALL, "publish(name, row, kind, body_nbytes, nbytes, frame_nbytes, frame_crc, creation, tracked=None): what was\n"
                                   "reserved and written; as put."),
    METHOD(within, METH_FASTCALL, "within(act, ...): what \"put\", \"assign\", \"delete\", \"lease\", \"reserve\" or \"publish\" does, by whoever has\n"
                                  "the lock, and keeps it; as that, but never False."),
    METHOD(know, METH_FASTCALL, "know(row, id, address, nbytes, mapping): where a slab lies in this process; its mapping is kept."),
    METHOD(forget, METH_NOARGS, "forget(): keep no mapping any more."),
    METHOD(retire, METH_NOARGS, "retire(): do nothing any more."),
    {NULL, NULL, 0, NULL},
};
static PyType_Slot core_slots[] = {
    {Py_tp_doc, "The fast path of one process in one plane."},
    {Py_tp_new, core_new},
    {Py_tp_traverse, core_traverse},
    {Py_tp_clear, core_clear},
    {Py_tp_dealloc, core_dealloc},
    {Py_tp_methods, core_methods},
    {0, NULL},
};
static PyType_Spec core_spec = {"shmplane.core._core.Core", sizeof(Core), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, core_slots};

static PyObject *stop_at(PyObject *Py_UNUSED(module), PyObject *store) {
    long at = PyLong_AsLong(store), before = stores;
    if (PyErr_Occurred())
        return NULL;
    stop_at_store = at, stores = 0;
    return PyLong_FromLong(before);
}

static int core_exec(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &core_spec, NULL);
    word_type = PyType_FromModuleAndSpec(module, &word_spec, NULL); /* kept for good */
    exporter_type = PyType_FromModuleAndSpec(module, &exporter_spec, NULL);
    key_text = PyUnicode_InternFromString("key");
    is_lease_text = PyUnicode_InternFromString("is_lease");
    segment_row_text = PyUnicode_InternFromString("segment_row");
    not_to_wait = PyTuple_Pack(1, Py_False);
    int failed = type == NULL || word_type == NULL || exporter_type == NULL || PyModule_AddType(module, (PyTypeObject *)word_type) < 0 || key_text == NULL ||
                 is_lease_text == NULL || segment_row_text == NULL || not_to_wait == NULL || !know_permit_texts() ||
                 PyModule_AddType(module, (PyTypeObject *)type) < 0 ||
                 PyModule_AddStringConstant(module, "COLUMNS", column_names) < 0 ||
                 PyModule_AddIntConstant(module, "SOURCE", (long)SOURCE) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyMethodDef module_methods[] = {
    {"can_tell_forks", can_tell_forks, METH_NOARGS, "can_tell_forks(): whether the kernel does what cores and lock words need."},
    {"export", (PyCFunction)(void (*)(void))export, METH_FASTCALL, "export(kept, address, nbytes): a base for an array over these bytes."},
    {"kept_by", kept_by, METH_O, "kept_by(object): what it keeps; None: it is no such base."},
    {"stop_at", stop_at, METH_O, "stop_at(store): kill the process after so many stores from now, -1: never; how many there were."},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, core_exec}, {0, NULL}};
static struct PyModuleDef definition = {.m_base = PyModuleDef_HEAD_INIT, .m_name = "_core", .m_methods = module_methods,
                                        .m_slots = module_slots};

PyMODINIT_FUNC PyInit__core(void) {
    return PyModuleDef_Init(&definition);
}
