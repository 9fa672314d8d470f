/* Permits of semaphores: taken and given back in one call each, and handed to who waits for one.

   Rule 1. A permit is counted in a word of its holder's row (``manifest/coordination.py``), and has its claim in ``ready`` of this
   process's part (``plane/coordination/claims.py``). Here both change in one call, in which neither an interrupt nor another
   thread comes: there is no moment at which a permit is held that nobody can give back, or given back that somebody has.

   Rule 2. Python does it when too many are held, when our word is not what our part says, when the row has gone to another name,
   and when it is not plain whose turn it is: who stands in line takes here only the one permit that is free, as the first of
   all and the only one of this process, and joins it as the only one when none is free. So a process that is suspect changes
   nothing but what an audit would leave as it is.

   Rule 3. A process's row of permits and tickets is read only while it ``coordinates``: others' have no memory behind them.

   Rule 4. The stores are those of ``Coordination.try_take`` and ``show_ticket``, or ``give``, between the two of the dirty word.
   What is said to the part and the claim comes before them, since it may fail; that are numbers and slots, which no Python code
   stands behind. Whoever is killed in between has neither any more.

   Rule 5. Who is next is woken with the lock given back, so that it finds that free. Whoever is killed before that, or wakes
   somebody who is dead, holds up the others until they look again by themselves, in 100 ms.

   What is called is a function of C that knows core, part and more: as ``release`` it is an attribute of each ``Semaphore``, with
   no Python code above it.  */

/* What such a function is bound to. ``ADDRESS`` is that of the part's numbers, which ``NUMBERS`` keeps. */
enum { OF_CORE, OF_NUMBERS, OF_ADDRESS, OF_READY, OF_WAITERS, OF_KIND, OF_OPENS, OF_PYTHON, OF_RESULT, N_BOUND };
enum { PART_ROW, PART_GENERATION, PART_HELD, N_NUMBERS };

/* In s, as ``WAIT_BOUNDS`` of ``manifest/counting.py``; a test compares. */
static const double wait_bounds[] = {1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0};

static PyObject *listed_text, *taken_text, *is_done_text, *ticket_text, *since_text, *waits_text, *append_text,
    *attachment_text, *leave_text;

static int know_permit_texts(void) {
    return (listed_text = PyUnicode_InternFromString("listed")) && (taken_text = PyUnicode_InternFromString("taken")) &&
           (is_done_text = PyUnicode_InternFromString("is_done")) && (ticket_text = PyUnicode_InternFromString("ticket")) &&
           (since_text = PyUnicode_InternFromString("since")) && (waits_text = PyUnicode_InternFromString("waits")) &&
           (append_text = PyUnicode_InternFromString("append")) && (attachment_text = PyUnicode_InternFromString("attachment")) &&
           (leave_text = PyUnicode_InternFromString("leave_if_idle"));
}

/* Words of one process, a word per semaphore: permits held, then tickets, then what is wished for (``Manifest.permits_starts``). */
static inline u64 *permit_word(Core *self, u64 slot, u64 row) {
    u64 semaphores = self->columns[Semaphores_state].rows, processes = self->columns[Processes_state].rows;
    return (u64 *)self->words.buf + self->leases_start + processes * self->lease_row_words + slot * 3 * semaphores + row;
}

static inline u64 *ticket_word(Core *self, u64 slot, u64 row) {
    return permit_word(self, slot, row) + self->columns[Semaphores_state].rows;
}

/* A semaphore: our word, what that holds and how many are free besides, our ticket, and the first one of others. */
typedef struct {
    u64 row, held, free, ticket, other, other_slot, *word, *numbers;
} semaphore;

/* Under the lock: whether it is as usual. */
static int find_semaphore(Core *self, PyObject *bound, semaphore *found) {
    u64 high = HEAD(semaphores_high), reserved = HEAD(semaphores_reserved), slot = self->slot;
    u64 *numbers = found->numbers = PyLong_AsVoidPtr(PyTuple_GetItem(bound, OF_ADDRESS)), row = found->row = numbers[PART_ROW];
    if (high > reserved || reserved > self->columns[Semaphores_state].rows || row >= high || !GET(Processes_coordinates, slot) ||
        GET(Semaphores_generation, row) != numbers[PART_GENERATION] || GET(Semaphores_state, row) != 1)
        return 0;
    found->word = permit_word(self, slot, row);
    found->held = get_word(found->word);
    found->ticket = get_word(ticket_word(self, slot, row));
    found->free = GET(Semaphores_permits, row);
    found->other = NOWHERE;
    for (u64 i = 0; i <= self->n_others; i++) {
        u64 each = i < self->n_others ? self->others[i] : slot;
        if (!GET(Processes_coordinates, each))
            continue;
        u64 held = get_word(permit_word(self, each, row)), ticket = get_word(ticket_word(self, each, row));
        if (held > found->free)
            return 0;
        found->free -= held;
        if (each != slot && ticket && ticket < found->other)
            found->other = ticket, found->other_slot = each;
    }
    return found->held == numbers[PART_HELD] && (PyObject_Size(self->garbage) == 0 || end_leases(self));
}

/* Since when a claim has waited in line, and with which ticket: 0 for one that does not. */
static u64 ticket_of(PyObject *claim, double *since) {
    PyObject *number = PyObject_GetAttr(claim, ticket_text), *time = PyObject_GetAttr(claim, since_text);
    u64 ticket = number != NULL ? PyLong_AsUnsignedLongLong(number) : NOWHERE;
    *since = time != NULL ? PyFloat_AsDouble(time) : 0;
    Py_XDECREF(number);
    Py_XDECREF(time);
    return PyErr_Occurred() ? NOWHERE : ticket;
}

enum { TAKES, JOINS, NOT_PLAIN };

/* What the claim is to do. Where a permit is free and it is not plain whose turn it is, Python says. */
static int turn_of(const semaphore *found, PyObject *waiters, PyObject *claim, u64 ticket) {
    Py_ssize_t n = PyObject_Size(waiters);
    if (ticket) {
        PyObject *first = n == 1 ? PySequence_GetItem(waiters, 0) : NULL;
        Py_XDECREF(first);
        return first == claim && found->ticket == ticket && ticket < found->other && found->free == 1 ? TAKES : NOT_PLAIN;
    }
    if (n || found->ticket || (found->free && found->other != NOWHERE))
        return NOT_PLAIN;
    PyObject *waits = found->free ? NULL : PyObject_GetAttr(claim, waits_text);
    Py_XDECREF(waits);
    return found->free ? TAKES : waits == Py_True ? JOINS : NOT_PLAIN;
}

/* Set a slot of a claim to a number that is made for it; 0: there was no memory. */
static int set_number(PyObject *claim, PyObject *text, PyObject *number) {
    int is_set = number != NULL && PyObject_SetAttr(claim, text, number) == 0;
    Py_XDECREF(number);
    return is_set;
}

/* Take a permit for the claim, which has waited for so long. */
static int take_permit(Core *self, PyObject *bound, PyObject *claim, const semaphore *found, double seconds) {
    size_t bucket = 0;
    for (size_t i = 0; i < sizeof(wait_bounds) / sizeof(wait_bounds[0]); i++)
        bucket += seconds > wait_bounds[i];
    u64 *count = AT(Counters_permit_waits, self->count_row) + bucket;
    if (!(seconds >= 0 && seconds < 1e9) || odd(get_word(count) | GET(Counters_permit_waited_ns, self->count_row)) ||
        PyList_Append(PyTuple_GetItem(bound, OF_READY), claim) < 0)
        return 0;
    PyObject_SetAttr(claim, listed_text, Py_True);
    PyObject_SetAttr(claim, taken_text, Py_True);
    PyObject_SetAttr(claim, is_done_text, Py_True);
    if (found->ticket) {
        PySequence_DelItem(PyTuple_GetItem(bound, OF_WAITERS), 0);
        set_number(claim, ticket_text, PyLong_FromLong(0)); /* one of those that Python has */
    }
    found->numbers[PART_HELD] = found->held + 1;
    begin(self);
    SET_HEAD(dirty, self->mark);
    set_word(found->word, found->held + 1);
    if (found->ticket)
        set_word(ticket_word(self, self->slot, found->row), 0);
    set_word(count, get_word(count) + 1);
    if (found->ticket)
        COUNT(permit_waited_ns, (u64)(seconds * 1e9));
    SET_HEAD(dirty, 0);
    return 1;
}

/* Stand in line, as the only one of this process; a claim that has a ticket and is not in line has none. */
static int join_line(Core *self, PyObject *waiters, PyObject *claim, const semaphore *found, u64 now) {
    u64 ticket = HEAD(next_ticket) + 1;
    if (odd(ticket) || !set_number(claim, since_text, PyFloat_FromDouble((double)now / 1e9)) ||
        !set_number(claim, ticket_text, PyLong_FromUnsignedLongLong(ticket)))
        return 0;
    PyObject *done = PyObject_CallMethodObjArgs(waiters, append_text, claim, NULL);
    Py_XDECREF(done);
    if (done == NULL)
        return 0;
    begin(self);
    SET_HEAD(dirty, self->mark);
    SET_HEAD(next_ticket, ticket);
    if (!GET(Semaphores_awaited, found->row))
        SET(Semaphores_awaited, found->row, 1);
    set_word(ticket_word(self, self->slot, found->row), ticket);
    SET_HEAD(dirty, 0);
    return 1;
}

/* ``Claim.look``, or None: Python does it. Whoever called sees to the timer. */
static PyObject *permits_look(PyObject *bound, PyObject *claim) {
    Core *self = (Core *)PyTuple_GetItem(bound, OF_CORE);
    PyObject *waiters = PyTuple_GetItem(bound, OF_WAITERS);
    semaphore found;
    double since;
    u64 sequence = 0, now;
    int is_done;
    if ((PyObject *)Py_TYPE(claim) != PyTuple_GetItem(bound, OF_KIND))
        return wrong_arguments();
    u64 ticket = ticket_of(claim, &since);
    PyErr_Clear();
    if (!enter(self))
        Py_RETURN_NONE;
    now = clock_ns(CLOCK_MONOTONIC);
    int turn = find_semaphore(self, bound, &found) ? turn_of(&found, waiters, claim, ticket) : NOT_PLAIN;
    if (turn == TAKES) {
        is_done = take_permit(self, bound, claim, &found, ticket ? (double)now / 1e9 - since : 0);
    } else {
        is_done = turn == JOINS && join_line(self, waiters, claim, &found, now);
        sequence = GET(Wakes_sequence, self->slot);
    }
    PyErr_Clear();
    leave(self);
    return is_done ? PyLong_FromUnsignedLongLong(sequence) : Py_NewRef(Py_None);
}

/* Whether somebody has a ``Plane`` open here, so that this process stays in the plane; 0: perhaps. */
static int is_open(PyObject *opens) {
    PyObject *each = PyObject_GetIter(opens), *known = each == NULL ? NULL : PyIter_Next(each);
    PyObject *opened = known == NULL ? NULL : PyObject_CallNoArgs(known);
    int is_alive = opened != NULL && opened != Py_None;
    Py_XDECREF(opened);
    Py_XDECREF(known);
    Py_XDECREF(each);
    PyErr_Clear();
    return is_alive;
}

/* ``Coordination.give``; the futex of who is to be woken, or NULL. */
static u64 *give_permit(Core *self, const semaphore *found) {
    u64 row = found->row, slot = found->ticket && found->ticket < found->other ? self->slot : found->other_slot;
    int has_line = found->ticket || found->other != NOWHERE;
    begin(self);
    SET_HEAD(dirty, self->mark);
    set_word(found->word, found->held - 1);
    if (has_line) {
        SET(Semaphores_freed, row, clock_ns(CLOCK_MONOTONIC));
        SET(Wakes_sequence, slot, (GET(Wakes_sequence, slot) + 1) & 0xffffffff);
    } else if (GET(Semaphores_awaited, row)) {
        SET(Semaphores_awaited, row, 0);
    }
    SET_HEAD(dirty, 0);
    return has_line ? AT(Wakes_sequence, slot) : NULL;
}

/* ``LocalPermits.release`` and what is called by it, ``Claim.undo`` in a transaction of its own; the claim, or NULL. */
static PyObject *give(Core *self, PyObject *bound) {
    PyObject *ready = PyTuple_GetItem(bound, OF_READY), *claim = NULL;
    u64 *woken = NULL;
    semaphore found;
    if (!enter(self))
        return NULL;
    Py_ssize_t n = PyList_Size(ready);
    if (n > 0 && (PyObject *)Py_TYPE(PyList_GetItem(ready, n - 1)) == PyTuple_GetItem(bound, OF_KIND) &&
        find_semaphore(self, bound, &found) && found.held && (!found.free || (!found.ticket && found.other == NOWHERE))) {
        claim = Py_NewRef(PyList_GetItem(ready, n - 1));
        if (PyList_SetSlice(ready, n - 1, n, NULL) < 0)
            Py_CLEAR(claim);
    }
    if (claim != NULL) {
        PyObject_SetAttr(claim, taken_text, Py_False);
        found.numbers[PART_HELD] = found.held - 1;
        woken = give_permit(self, &found);
    }
    leave(self);
    if (woken != NULL)
        syscall(SYS_futex, woken, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    return claim;
}

/* Takes whatever arguments ``__exit__`` gets. */
static PyObject *permits_give(PyObject *bound, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n)) {
    PyObject *claim = give((Core *)PyTuple_GetItem(bound, OF_CORE), bound), *attachment = NULL, *said = NULL;
    PyErr_Clear();
    if (claim == NULL) {
        said = PyObject_CallNoArgs(PyTuple_GetItem(bound, OF_PYTHON));
    } else if (is_open(PyTuple_GetItem(bound, OF_OPENS))) {
        said = Py_NewRef(Py_None);
    } else if ((attachment = PyObject_GetAttr(claim, attachment_text)) != NULL) {
        said = PyObject_CallMethodObjArgs(attachment, leave_text, NULL);
        Py_DECREF(attachment);
    }
    Py_XDECREF(claim); /* with the lock given back: what goes with it may run Python code */
    Py_XDECREF(said);
    return said == NULL ? NULL : Py_NewRef(PyTuple_GetItem(bound, OF_RESULT));
}

static PyMethodDef look_definition = {"look", permits_look, METH_O, "Take a permit for a claim, or stand in line; the wake word, or None."};
static PyMethodDef give_definition = {"release", (PyCFunction)(void (*)(void))permits_give, METH_FASTCALL,
                                      "Give a permit back; takes whatever arguments ``__exit__`` gets."};

static PyObject *core_permits(Core *self, PyObject *const *args, Py_ssize_t n) {
    u64 *end = (u64 *)self->words.buf + (u64)self->words.len / sizeof(u64);
    PyObject *now = NULL, *later = NULL, *functions = NULL, *address;
    Py_buffer numbers;
    if (n != 8 || !PyList_Check(args[1]) || permit_word(self, self->columns[Processes_state].rows, 0) > end ||
        PyObject_GetBuffer(args[0], &numbers, PyBUF_WRITABLE) < 0)
        return wrong_arguments();
    address = PyLong_FromVoidPtr(numbers.len == N_NUMBERS * sizeof(u64) ? numbers.buf : NULL);
    PyBuffer_Release(&numbers); /* a view of what has one size for good */
    if (address != NULL && PyLong_AsVoidPtr(address) != NULL) {
        now = PyTuple_Pack(N_BOUND, self, args[0], address, args[1], args[2], args[3], args[4], args[5], Py_None);
        later = PyTuple_Pack(N_BOUND, self, args[0], address, args[1], args[2], args[3], args[4], args[6], args[7]);
    }
    if (now != NULL && later != NULL)
        functions = Py_BuildValue("NNN", PyCFunction_New(&look_definition, now), PyCFunction_New(&give_definition, now),
                                  PyCFunction_New(&give_definition, later));
    Py_XDECREF(address);
    Py_XDECREF(now);
    Py_XDECREF(later);
    return functions != NULL ? functions : wrong_arguments();
}
