/* The lock word: a plane's host-wide lock in one word of its manifest, for planes whose processes all have the core.

   What the word holds, from below:

       owner    14 bits  mark of who has the lock: its slot + 1; 0: nobody has it
       OFFERED   1 bit   it is offered to the owner, who has not taken it yet
       AWAITED   1 bit   somebody may sleep
       heir     14 bits  mark of who has waited long and is offered it next; 0: nobody
       term     32 bits  + 1 the first time that each process takes it

   All of it changes by compare-and-swap, so all of it changes at once: there is no moment at which somebody is neither heir nor
   owner, and whoever is killed at any store has changed nothing, or all. A process has one mark, and takes the word holding the
   mutex between its threads (``system/hostlock.py``), so each function here runs for one thread at a time.

   Rule 1. Who has a mark holds the byte of that mark in the token file: an OFD lock, which the kernel drops when the memory of
   the process is gone. A free byte means: no store of that process can come any more. The first marks are the slots of the
   plane; those above are seats, for who has no slot: who joins, and who only looks.

   Rule 2. The lock is taken from its owner in two cases: the owner's byte is free, or it was only offered. So who is stopped
   with the lock in hand keeps it, and who is stopped before it took it holds nobody up.
   It is taken by a swap from exactly the value that was seen before the kernel was asked. Could that value have come back
   meanwhile, by a later process with the same mark? No: its first taking makes the term larger than any that an earlier process
   of that mark had seen, and the term never goes back. So the same mark in the same term is the same process; its byte was free
   after it had the lock, so it is dead, or has given the lock back and left the plane, and the value is not there any more.
   A process that finds its own mark there, without an offer, finds what an earlier process of the mark left, and goes on with it.

   Rule 3. It barges: a free lock is anybody's, also while others sleep. But who has waited FAIR_NS says so as the heir; who gives
   the lock back offers it to the heir, and nobody else can have it for OFFER_NS. Then whoever sleeps takes it away again.

   Rule 4. Nobody depends on being woken. Who gives back may be killed before it wakes anybody, and who is woken may be killed
   before it takes; so each sleep is a slice, and after it the owner's byte is asked for.

   Rule 5. ``give`` takes back whatever the word says of this process: that it has the lock, was offered it, or is the heir. It
   is what an interrupted wait ends with, too. In the child of a fork, also of one that C code makes, it does nothing.

   Order of memory: taking is an acquire, giving back a release, of the same word. Between two owners there are only swaps by
   others, which C11 calls a release sequence: whoever takes the lock sees all that its last owner stored, on x86 because a
   locked instruction is a full barrier, on arm64 because ``casal``, or ``ldaxr`` and ``stlxr``, are what that needs. From one
   who was killed it is taken after a system call that found its byte free; the kernel dropped that under its own lock, after the
   last store. What is read without the lock after it was given back (``awaited`` of a queue) was used to the barrier of a
   system call: on x86 each swap is one, elsewhere ``swap`` asks for one.  */

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernel's futex is the low half of the word"
#endif

#define OWNER 0x3fffull
#define OFFERED (1ull << 14)
#define AWAITED (1ull << 15)
#define HEIR_BITS_BELOW 16
#define HEIR (OWNER << HEIR_BITS_BELOW)
#define TERM (1ull << 32)

#define SPINS 60              /* looks at the word before the first sleep, of some 40 ns each: a small put takes 1 µs */
#define FAIR_NS 5000000ull    /* who has waited so long is the heir */
#define OFFER_NS 2000000ull   /* how long an offer stands */
#define SLICE_NS 10000000ull  /* of sleep */
#define LONG_NS 100000000ull  /* of who has waited that long already */
#define MOST_SWAPS (1 << 20)  /* that fail: more say that somebody plays with the word */

typedef struct LockWord {
    PyObject_HEAD
    Py_buffer words; /* the manifest: it cannot go while we look at it */
    u64 *word;
    u64 mark, marks; /* ours, and how many there can be */
    int tokens;      /* descriptor of the token file, with the byte of our mark */
    off_t offset;    /* which shows that it is still our own description, as in ``HostLock.check`` */
    u64 generation;  /* of the process */
    int has_had_it;  /* so our term has begun */
} LockWord;

static inline u64 owner_of(u64 word) {
    return word & OWNER;
}

static inline u64 heir_of(u64 word) {
    return (word & HEIR) >> HEIR_BITS_BELOW;
}

/* The only store to the word. ``*seen`` is what it held, if that was something else. */
static inline int swap(LockWord *self, u64 *seen, u64 wanted) {
    int done = __atomic_compare_exchange_n(self->word, seen, wanted, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
#ifndef __x86_64__
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
    if (done)
        count_store();
    return done;
}

static long futex(LockWord *self, int operation, u32 value, const struct timespec *until, u32 bits) {
    return syscall(SYS_futex, self->word, operation, value, until, NULL, bits);
}

/* Which sleepers are woken for a mark: it, and who has the same bit. */
static inline u32 bit_of(u64 mark) {
    return 1u << (mark & 31);
}

static inline int is_our_process(LockWord *self) {
    return *this_process == self->generation;
}

static inline int has_its_token(LockWord *self) {
    return is_our_process(self) && lseek(self->tokens, 0, SEEK_CUR) == self->offset;
}

/* Whether the process of a mark lives; where the kernel cannot be asked, it does. */
static int is_alive(LockWord *self, u64 mark) {
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)(mark - 1), .l_len = 1};
    return fcntl(self->tokens, F_OFD_GETLK, &range) != 0 || range.l_type != F_UNLCK;
}

/* Swap ourselves in as the owner.

   Who has slept says ``has_slept``: others may sleep as well, and whoever gave the lock back has woken nobody but us. */
static int become_owner(LockWord *self, u64 *seen, int has_slept) {
    u64 wanted = (*seen & ~(OWNER | OFFERED)) | self->mark | (has_slept ? AWAITED : 0);
    if (heir_of(*seen) == self->mark)
        wanted &= ~HEIR;
    if (!self->has_had_it)
        wanted += TERM;
    if (!swap(self, seen, wanted))
        return 0;
    self->has_had_it = 1;
    return 1;
}

/* Take the lock if it is free, or ours already: offered to us, or left by an earlier process of our mark. */
static int take_word(LockWord *self, int has_slept) {
    if (!has_its_token(self))
        return 0;
    u64 seen = get_word(self->word);
    for (int failed = 0; failed < MOST_SWAPS; failed++) {
        u64 owner = owner_of(seen);
        if (owner != 0 && owner != self->mark)
            return 0;
        if (become_owner(self, &seen, has_slept))
            return 1;
    }
    return 0;
}

/* Rule 5 */
static void give_word(LockWord *self) {
    if (!is_our_process(self))
        return;
    u64 seen = get_word(self->word);
    for (int failed = 0; failed < MOST_SWAPS; failed++) {
        u64 wanted = seen, heir;
        int is_ours = owner_of(seen) == self->mark;
        if (heir_of(seen) == self->mark)
            wanted &= ~HEIR;
        heir = heir_of(wanted);
        if (heir > self->marks)
            heir = 0;
        if (is_ours) {
            wanted &= ~(OWNER | OFFERED | HEIR);
            wanted = heir ? wanted | heir | OFFERED : wanted & ~AWAITED;
        }
        if (wanted == seen)
            break;
        if (!swap(self, &seen, wanted))
            continue;
        if (is_ours && heir)
            futex(self, FUTEX_WAKE_BITSET, INT_MAX, NULL, bit_of(heir));
        else if (is_ours && (seen & AWAITED))
            futex(self, FUTEX_WAKE, 1, NULL, 0);
        break;
    }
}

/* Rule 2. Who takes it from ``seen``, which was read before, may; 1: it is ours. */
static int take_away(LockWord *self, u64 seen, int also_offers) {
    u64 owner = owner_of(seen);
    if (owner == 0 || owner == self->mark)
        return take_word(self, 1);
    return (((seen & OFFERED) && also_offers) || !is_alive(self, owner)) && become_owner(self, &seen, 1);
}

/* Say that somebody sleeps, and after a while that we are next. Returns the word as it was then; 0: it is to be had. */
static u64 say_we_wait(LockWord *self, u64 waited) {
    u64 seen = get_word(self->word);
    for (int failed = 0; failed < MOST_SWAPS; failed++) {
        u64 wanted = seen | AWAITED;
        if (owner_of(seen) == 0 || owner_of(seen) == self->mark)
            return 0;
        if (waited >= FAIR_NS && heir_of(seen) == 0)
            wanted |= self->mark << HEIR_BITS_BELOW;
        if (wanted == seen || swap(self, &seen, wanted))
            return wanted;
    }
    return 0;
}

/* Wait once; 1: it is ours, 0: not yet, -1: an exception. Who has waited 0 has not waited before. The GIL is given up.

   A signal ends the wait, so that its handler runs; the caller goes on with the time that is left. */
static int wait_for_word(LockWord *self, u64 waited, u64 left) {
    if (take_word(self, waited > 0))
        return 1;
    if (!has_its_token(self)) {
        errno = EBADF;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    for (int spin = 0; waited == 0 && left && spin < SPINS; spin++) {
#ifdef __x86_64__
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("isb");
#endif
        if (owner_of(get_word(self->word)) == 0 && take_word(self, 0))
            return 1;
    }
    u64 seen = get_word(self->word);
    if (owner_of(seen) > self->marks) {
        PyErr_Format(PyExc_ValueError, "the lock word says that %llu has it", owner_of(seen));
        return -1;
    }
    if (waited == 0 && take_away(self, seen, 0))
        return 1;
    seen = left ? say_we_wait(self, waited) : 0;
    if (seen == 0)
        return left ? take_word(self, waited > 0) : 0;

    u64 slice = waited < FAIR_NS ? FAIR_NS - waited : waited < LONG_NS ? SLICE_NS : LONG_NS;
    if ((seen & OFFERED) && slice > OFFER_NS)
        slice = OFFER_NS;
    u64 end = clock_ns(CLOCK_MONOTONIC) + (slice < left ? slice : left);
    struct timespec until = {.tv_sec = (time_t)(end / 1000000000), .tv_nsec = (long)(end % 1000000000)};
    long woken;
    int error;
    Py_BEGIN_ALLOW_THREADS
    woken = futex(self, FUTEX_WAIT_BITSET, (u32)seen, &until, bit_of(self->mark));
    error = errno;
    Py_END_ALLOW_THREADS
    if (take_word(self, 1))
        return 1;
    if (woken == 0 || error == EAGAIN)
        return 0;
    u64 now = get_word(self->word), same = ~(AWAITED | HEIR);
    return (now & same) == (seen & same) && take_away(self, now, error == ETIMEDOUT);
}

/* --------------------------------------------------------------------------------- as Python sees it */

static PyObject *word_take(LockWord *self, PyObject *Py_UNUSED(ignored)) {
    return PyLong_FromLong(!take_word(self, 0));
}

static PyObject *word_give(LockWord *self, PyObject *Py_UNUSED(ignored)) {
    give_word(self);
    Py_RETURN_NONE;
}

static PyObject *as_bool(int result) {
    return result < 0 ? NULL : PyBool_FromLong(result);
}

static PyObject *word_try_lock(LockWord *self, PyObject *Py_UNUSED(ignored)) {
    return as_bool(wait_for_word(self, 0, 0));
}

/* Seconds in a float as whole nanoseconds; some for those that are not a number, and a day for those above. */
static u64 as_ns(double seconds) {
    return seconds > 86400 ? 86400ull * 1000000000 : seconds > 0 ? (u64)(seconds * 1e9) : 0;
}

static PyObject *word_wait(LockWord *self, PyObject *const *args, Py_ssize_t n) {
    double waited = n == 2 ? PyFloat_AsDouble(args[0]) : 0, left = n == 2 ? PyFloat_AsDouble(args[1]) : 0;
    if (n != 2 && !PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "seconds that were waited, and seconds that are left");
    return PyErr_Occurred() ? NULL : as_bool(wait_for_word(self, as_ns(waited), as_ns(left)));
}

static PyObject *word_is_held_elsewhere(LockWord *self, PyObject *Py_UNUSED(ignored)) {
    u64 owner = owner_of(get_word(self->word));
    return PyBool_FromLong(owner != 0 && owner != self->mark);
}

static PyObject *word_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords)) {
    PyObject *words;
    u64 at;
    LockWord *self = (LockWord *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    int is_made = self != NULL && PyArg_ParseTuple(args, "OKKKi:LockWord", &words, &at, &self->mark, &self->marks, &self->tokens) &&
                  PyObject_GetBuffer(words, &self->words, PyBUF_WRITABLE) == 0 && (self->generation = this_generation()) != 0;
    if (is_made && (at >= (u64)self->words.len / sizeof(u64) || !self->mark || self->mark > self->marks || self->marks > OWNER)) {
        PyErr_SetString(PyExc_ValueError, "a mark or a place that cannot be");
        is_made = 0;
    }
    if (is_made && (self->offset = lseek(self->tokens, 0, SEEK_CUR)) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        is_made = 0;
    }
    if (is_made)
        self->word = (u64 *)self->words.buf + at;
    else
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void word_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyBuffer_Release(&((LockWord *)object)->words);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

#define WORD_METHOD(name, flags, doc) {#name, (PyCFunction)(void (*)(void))word_##name, flags, doc}
static PyMethodDef word_methods[] = {
    WORD_METHOD(take, METH_NOARGS, "take(): 0, and it is ours; else 1. One try."),
    WORD_METHOD(give, METH_NOARGS, "give(): whatever the word says of us, it says no more. No harm when we do not have it."),
    WORD_METHOD(try_lock, METH_NOARGS, "try_lock(): whether it is ours; also taken from who was killed.\n\n"
                                       "OSError: somebody closed our token. ValueError: somebody wrote over the word."),
    WORD_METHOD(wait, METH_FASTCALL, "wait(waited, left): wait once, after so many seconds, and for no more; whether it is ours. As try_lock."),
    WORD_METHOD(is_held_elsewhere, METH_NOARGS, "is_held_elsewhere(): whether another process has it."),
    {NULL, NULL, 0, NULL},
};
static PyType_Slot word_slots[] = {
    {Py_tp_doc, "A plane's lock word, as the process of one mark uses it: by one thread at a time."},
    {Py_tp_new, word_new},
    {Py_tp_dealloc, word_dealloc},
    {Py_tp_methods, word_methods},
    {0, NULL},
};
static PyType_Spec word_spec = {"shmplane.core._core.LockWord", sizeof(LockWord), 0, Py_TPFLAGS_DEFAULT, word_slots};
static PyObject *word_type; /* made of that, when the module is loaded */

static PyObject *can_tell_forks(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    if (this_generation() == 0)
        PyErr_Clear();
    return PyBool_FromLong(this_process != NULL);
}
