/* Permits of semaphores: taken and given back in one call each, while nobody stands in line.

   Rule 1. A permit is counted in a word of its holder's row (``manifest/coordination.py``), and has its claim in ``ready`` of this
   process's part (``plane/coordination/claims.py``). Here both change in one call, in which neither an interrupt nor another
   thread comes: there is no moment at which a permit is held that nobody can give back, or given back that somebody has.

   Rule 2. Python does it when anybody waits or was passed over, when too many are held or none is free, when our word is not what
   our part says, and when the row has gone to another name. So nobody is ever woken here, and a process that is suspect changes
   nothing but what an audit would leave as it is.

   Rule 3. A process's row of permits and tickets is read only while it ``coordinates``: others' have no memory behind them.

   Rule 4. The stores are those of ``Coordination.try_take`` and ``give``, between the two of the dirty word: one word, and a
   count. What is said to the part and the claim comes before them, since it may fail; both are slots, which no Python code
   stands behind. Whoever is killed in between has neither any more.

   What is called is a function of C that knows core, part and more: as ``release`` it is an attribute of each ``Semaphore``, with
   no Python code above it.  */

/* What such a function is bound to. ``ADDRESS`` is that of the part's numbers, which ``NUMBERS`` keeps. */
enum { OF_CORE, OF_NUMBERS, OF_ADDRESS, OF_READY, OF_KIND, OF_OPENS, OF_PYTHON, OF_RESULT, N_BOUND };
enum { PART_ROW, PART_GENERATION, PART_HELD, N_NUMBERS };

static PyObject *listed_text, *taken_text, *is_done_text, *attachment_text, *leave_text;

static int know_permit_texts(void) {
    return (listed_text = PyUnicode_InternFromString("listed")) && (taken_text = PyUnicode_InternFromString("taken")) &&
           (is_done_text = PyUnicode_InternFromString("is_done")) && (attachment_text = PyUnicode_InternFromString("attachment")) &&
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

/* A semaphore in which nobody stands in line: our word, what that holds, and how many are free besides. */
typedef struct {
    u64 row, held, free, *word, *numbers;
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
    found->free = GET(Semaphores_permits, row);
    for (u64 i = 0; i <= self->n_others; i++) {
        slot = i < self->n_others ? self->others[i] : self->slot;
        if (!GET(Processes_coordinates, slot))
            continue;
        u64 held = get_word(permit_word(self, slot, row));
        if (held > found->free || get_word(ticket_word(self, slot, row)))
            return 0;
        found->free -= held;
    }
    return found->held == numbers[PART_HELD] && (PyObject_Size(self->garbage) == 0 || end_leases(self));
}

/* ``Claim.look`` of one that waits for nobody: True, or what ``put`` returns else. Whoever called sees to the timer. */
static PyObject *permits_take(PyObject *bound, PyObject *claim) {
    Core *self = (Core *)PyTuple_GetItem(bound, OF_CORE);
    semaphore found;
    if ((PyObject *)Py_TYPE(claim) != PyTuple_GetItem(bound, OF_KIND))
        return wrong_arguments();
    if (!enter(self))
        return not_entered(self);
    if (!find_semaphore(self, bound, &found) || !found.free || odd(GET(Counters_permit_waits, self->count_row)) ||
        PyList_Append(PyTuple_GetItem(bound, OF_READY), claim) < 0) {
        PyErr_Clear();
        return leave_to_python(self);
    }
    PyObject_SetAttr(claim, listed_text, Py_True);
    PyObject_SetAttr(claim, taken_text, Py_True);
    PyObject_SetAttr(claim, is_done_text, Py_True);
    found.numbers[PART_HELD] = found.held + 1;
    begin(self);
    SET_HEAD(dirty, self->mark);
    set_word(found.word, found.held + 1);
    COUNT(permit_waits, 1);
    SET_HEAD(dirty, 0);
    leave(self);
    Py_RETURN_TRUE;
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

/* ``LocalPermits.release`` and what is called by it, ``Claim.undo`` in a transaction of its own; the claim, or NULL. */
static PyObject *give(Core *self, PyObject *bound) {
    PyObject *ready = PyTuple_GetItem(bound, OF_READY), *claim = NULL;
    semaphore found;
    if (!enter(self))
        return NULL;
    Py_ssize_t n = PyList_Size(ready);
    if (n > 0 && (PyObject *)Py_TYPE(PyList_GetItem(ready, n - 1)) == PyTuple_GetItem(bound, OF_KIND) &&
        find_semaphore(self, bound, &found) && found.held && !GET(Semaphores_awaited, found.row)) {
        claim = Py_NewRef(PyList_GetItem(ready, n - 1));
        if (PyList_SetSlice(ready, n - 1, n, NULL) < 0)
            Py_CLEAR(claim);
    }
    if (claim != NULL) {
        PyObject_SetAttr(claim, taken_text, Py_False);
        found.numbers[PART_HELD] = found.held - 1;
        begin(self);
        SET_HEAD(dirty, self->mark);
        set_word(found.word, found.held - 1);
        SET_HEAD(dirty, 0);
    }
    leave(self);
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

static PyMethodDef take_definition = {"take", permits_take, METH_O, "Take a permit for a claim; True, None or False, as put."};
static PyMethodDef give_definition = {"release", (PyCFunction)(void (*)(void))permits_give, METH_FASTCALL,
                                      "Give a permit back; takes whatever arguments ``__exit__`` gets."};

static PyObject *core_permits(Core *self, PyObject *const *args, Py_ssize_t n) {
    u64 *end = (u64 *)self->words.buf + (u64)self->words.len / sizeof(u64);
    PyObject *now = NULL, *later = NULL, *functions = NULL, *address;
    Py_buffer numbers;
    if (n != 7 || !PyList_Check(args[1]) || permit_word(self, self->columns[Processes_state].rows, 0) > end ||
        PyObject_GetBuffer(args[0], &numbers, PyBUF_WRITABLE) < 0)
        return wrong_arguments();
    address = PyLong_FromVoidPtr(numbers.len == N_NUMBERS * sizeof(u64) ? numbers.buf : NULL);
    PyBuffer_Release(&numbers); /* a view of what has one size for good */
    if (address != NULL && PyLong_AsVoidPtr(address) != NULL) {
        now = PyTuple_Pack(N_BOUND, self, args[0], address, args[1], args[2], args[3], args[4], Py_None);
        later = PyTuple_Pack(N_BOUND, self, args[0], address, args[1], args[2], args[3], args[5], args[6]);
    }
    if (now != NULL && later != NULL)
        functions = Py_BuildValue("NNN", PyCFunction_New(&take_definition, now), PyCFunction_New(&give_definition, now),
                                  PyCFunction_New(&give_definition, later));
    Py_XDECREF(address);
    Py_XDECREF(now);
    Py_XDECREF(later);
    return functions != NULL ? functions : wrong_arguments();
}
