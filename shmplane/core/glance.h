/* What is looked at without the lock, as ``Reader.is_seen`` does: whether a name surely has a block.

   Rule 1. The answer is true or not known. A chain that somebody is changing may end early or lead elsewhere; then Python asks
   under the lock. Rows are bounded as in ``enter``, and it changes nothing but what that bounds anew.
   Rule 2. What is read belongs together if the name's row was of the same generation before its word was read and after its text
   was: loads are acquire loads in this order, and a fence stands before the last one, as arm64 needs. Who stores does so in
   the other order. A row with this text, after its word was read, had that word as this name.  */

static PyObject *core_sees(Core *self, PyObject *name_object) {
    u64 length;
    int is_usual = 1, is_seen;
    const char *name = name_of(name_object, &length);
    if (name == NULL || self->generation == 0 || *this_process != self->generation || HEAD(destroyed) || HEAD(dirty) ||
        !BOUND(Blocks_state, blocks_high, blocks_reserved) || !BOUND(Names_word, names_high, names_reserved))
        Py_RETURN_NONE;
    u64 name_row = find_name(self, name, length, crc32_of(name, length), &is_usual);
    if (name_row == NOWHERE)
        Py_RETURN_NONE;
    u64 generation = GET(Names_generation, name_row), row = (GET(Names_word, name_row) & ROW_MASK) - 1;
    is_seen = row < self->blocks_high && GET(Blocks_state, row) == LIVE && !GET(Blocks_until, row) &&
              GET(Names_length, name_row) == length && memcmp(AT(Names_text, name_row), name, length) == 0;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (is_seen && GET(Names_generation, name_row) == generation)
        Py_RETURN_TRUE;
    Py_RETURN_NONE;
}
