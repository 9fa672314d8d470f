/* What an array over a body has as its ``base``: its bytes, by the buffer protocol, for as long as it keeps who owns them.
   ``codecs/borrow.py`` makes one where it would else make an object with an ``__array_interface__``, and says what it may show.

   Rule 1. It is read-only: who wants a writable buffer is refused, so NumPy refuses ``flags.writeable = True`` of all its views.
   Rule 2. No attribute leads to what it keeps; ``kept_by`` of this module does. None can be made but by ``export``.
   Rule 3. It cannot be emptied, like a tuple: whatever cycle it is in, who has an array can read it.  */

typedef struct {
    PyObject_HEAD
    char *address;
    Py_ssize_t nbytes;
    PyObject *kept;
} Exporter;

static PyObject *exporter_type;

static PyObject *export(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n) {
    u64 address = n == 3 ? PyLong_AsUnsignedLongLong(args[1]) : 0;
    Py_ssize_t nbytes = n == 3 && !PyErr_Occurred() ? PyLong_AsSsize_t(args[2]) : 0;
    if (n != 3 || PyErr_Occurred() || nbytes < 0)
        return wrong_arguments();
    Exporter *made = (Exporter *)PyType_GenericAlloc((PyTypeObject *)exporter_type, 0);
    if (made != NULL)
        made->address = (char *)(uintptr_t)address, made->nbytes = nbytes, made->kept = Py_NewRef(args[0]);
    return (PyObject *)made;
}

static PyObject *kept_by(PyObject *Py_UNUSED(module), PyObject *object) {
    PyObject *kept = Py_TYPE(object) == (PyTypeObject *)exporter_type ? ((Exporter *)object)->kept : Py_None;
    return Py_NewRef(kept);
}

static int exporter_get_buffer(PyObject *object, Py_buffer *view, int flags) {
    Exporter *self = (Exporter *)object;
    return PyBuffer_FillInfo(view, object, self->address, self->nbytes, 1, flags);
}

static PyObject *exporter_dtype(PyObject *Py_UNUSED(object), void *Py_UNUSED(more)) {
    Py_RETURN_NONE;
}

static int exporter_traverse(PyObject *object, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((Exporter *)object)->kept);
    return 0;
}

static void exporter_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    Py_XDECREF(((Exporter *)object)->kept);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyGetSetDef exporter_attributes[] = {
    {"dtype", exporter_dtype, NULL, "None: the array has its own.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot exporter_slots[] = {
    {Py_tp_doc, "The bytes behind an array, read-only."},
    {Py_tp_getset, exporter_attributes},
    {Py_tp_traverse, exporter_traverse},
    {Py_tp_dealloc, exporter_dealloc},
    {Py_bf_getbuffer, exporter_get_buffer},
    {0, NULL},
};
static PyType_Spec exporter_spec = {"shmplane.core._core.Exporter", sizeof(Exporter), 0,
                                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, exporter_slots};
