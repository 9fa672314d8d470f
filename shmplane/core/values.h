/* Values and names as the core takes them by itself, so that a small put is one call: what is ``bytes``, or an array like one
   that was put before, under a name that anybody could have.

   Rule 1. What a frame says is Python's to decide. The core is shown a value with its frame (``learn``), and uses the frame again
   for values that say the same of themselves: the same type, and the same elements, dimensions and shape, in C order.
   Rule 2. A format of one letter, in this machine's order, says all there is about elements. Any other is never learned: dates
   have none, and of structures and texts a format leaves out what a frame says.
   Rule 3. Nothing here runs Python code: types are exact, and what their buffers are made by is C code.  */

#define KNOWN_FRAMES 64
#define KNOWN_NDIM 4
#define ON_STACK 2048

typedef struct {
    PyObject *frame; /* bytes; NULL: nothing is known here */
    u64 kind;
    u32 crc;
    char format; /* 'B' and the like; 0: bytes */
    int ndim;
    Py_ssize_t shape[KNOWN_NDIM];
} known_frame;

/* Of all planes of the process: a frame says nothing of where its block lies. */
static known_frame known_frames[KNOWN_FRAMES];
static PyTypeObject *array_type; /* that of the first array that was shown */

/* What will lie in a cell: the body, and behind a gap its frame. */
typedef struct {
    char *bytes, on_stack[ON_STACK];
    u64 nbytes, body_nbytes, frame_nbytes, kind;
    u32 frame_crc;
} rendered;

/* Read all of a body before the lock is taken: it may lie on pages of a file, and take its time or end the process. */
static int render(Core *self, rendered *to, const void *body, u64 body_nbytes, const char *frame, u64 frame_nbytes) {
    u64 before_frame = (body_nbytes + 7) & ~7ull, most = (u64)self->lines * 64 - 64;
    to->nbytes = before_frame + frame_nbytes;
    if (body_nbytes > most || frame_nbytes > most || to->nbytes > most)
        return 0; /* it gets a segment of its own */
    to->body_nbytes = body_nbytes, to->frame_nbytes = frame_nbytes;
    to->bytes = to->nbytes <= ON_STACK ? to->on_stack : PyMem_Malloc(to->nbytes);
    if (to->bytes == NULL)
        return 0;
    memcpy(to->bytes, body, body_nbytes);
    memset(to->bytes + body_nbytes, 0, before_frame - body_nbytes);
    memcpy(to->bytes + before_frame, frame, frame_nbytes);
    return 1;
}

static void forget_rendered(rendered *one) {
    if (one->bytes != one->on_stack)
        PyMem_Free(one->bytes);
}

/* What a value says of itself, and where its body is, until ``view`` is released; 0: it is nothing that the core knows. */
static int describe(PyObject *value, PyTypeObject *arrays, known_frame *said, Py_buffer *view) {
    *said = (known_frame){.ndim = 1};
    if (Py_TYPE(value) != &PyBytes_Type && Py_TYPE(value) != arrays)
        return 0;
    if (PyObject_GetBuffer(value, view, PyBUF_RECORDS_RO) < 0) {
        PyErr_Clear();
        return 0;
    }
    if (Py_TYPE(value) != &PyBytes_Type) {
        said->format = view->format != NULL && strlen(view->format) == 1 ? view->format[0] : 0;
        said->ndim = view->ndim;
        if (!said->format || !strchr("?bBhHiIlLqQefdg", said->format) || view->ndim > KNOWN_NDIM || !PyBuffer_IsContiguous(view, 'C')) {
            PyBuffer_Release(view);
            return 0;
        }
    }
    for (int i = 0; i < said->ndim; i++)
        said->shape[i] = view->shape[i];
    return 1;
}

static known_frame *place_of(const known_frame *said) {
    u64 hash = (u64)said->format * 31 + (u64)said->ndim;
    for (int i = 0; i < said->ndim; i++)
        hash = hash * 0x9e3779b97f4a7c15ull + (u64)said->shape[i];
    return &known_frames[(hash ^ hash >> 32) % KNOWN_FRAMES];
}

static int is_same(const known_frame *one, const known_frame *other) {
    return one->frame != NULL && one->format == other->format && one->ndim == other->ndim &&
           memcmp(one->shape, other->shape, sizeof one->shape) == 0;
}

/* Render a value of which the core knows how it is stored. */
static int render_known(Core *self, rendered *to, PyObject *value) {
    known_frame said, *known;
    Py_buffer view;
    int is_known;
    char *frame;
    Py_ssize_t frame_nbytes;
    if (!describe(value, array_type, &said, &view))
        return 0;
    known = place_of(&said);
    is_known = is_same(known, &said) && PyBytes_AsStringAndSize(known->frame, &frame, &frame_nbytes) == 0 &&
               render(self, to, view.buf, (u64)view.len, frame, (u64)frame_nbytes);
    to->kind = known->kind, to->frame_crc = known->crc;
    PyBuffer_Release(&view);
    return is_known;
}

static PyObject *core_learn(Core *Py_UNUSED(self), PyObject *const *args, Py_ssize_t n) {
    known_frame said, *known;
    Py_buffer view;
    char *frame;
    Py_ssize_t frame_nbytes;
    u64 kind = n == 3 ? PyLong_AsUnsignedLongLong(args[2]) : 0;
    if (n != 3 || PyErr_Occurred() || PyBytes_AsStringAndSize(args[1], &frame, &frame_nbytes) < 0)
        return wrong_arguments();
    PyTypeObject *arrays = array_type != NULL ? array_type : Py_TYPE(args[0]);
    if (!describe(args[0], arrays, &said, &view))
        Py_RETURN_NONE;
    if (array_type == NULL && said.format)
        array_type = (PyTypeObject *)Py_NewRef((PyObject *)arrays);
    PyBuffer_Release(&view);
    known = place_of(&said);
    said.frame = Py_NewRef(args[1]), said.kind = kind, said.crc = crc32_of(frame, (size_t)frame_nbytes);
    PyObject *before = known->frame;
    *known = said;
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

static int bytes_of(PyObject *object, char **start, u64 *length, Py_ssize_t most) {
    Py_ssize_t n;
    if (PyBytes_AsStringAndSize(object, start, &n) < 0 || n > most)
        return -1;
    *length = (u64)n;
    return 0;
}

/* The bytes of a block's name, as ``check_block_name`` takes it; NULL: Python says what is wrong with it. */
static const char *name_of(PyObject *object, u64 *length) {
    Py_ssize_t n;
    const char *name = PyUnicode_CheckExact(object) ? PyUnicode_AsUTF8AndSize(object, &n) : NULL;
    if (name == NULL || n < 1 || n > NAME_NBYTES) {
        PyErr_Clear();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)name[i];
        if (byte < 0x20 || byte == 0x7f || (byte == 0xc2 && (unsigned char)name[i + 1] < 0xa0))
            return NULL; /* a control character */
    }
    *length = (u64)n;
    return name;
}

static PyObject *publish(Core *self, const char *name, u64 length, rendered *body, PyObject *tracked);

static PyObject *core_assign(Core *self, PyObject *const *args, Py_ssize_t n) {
    u64 length = 0;
    const char *name = n == 2 ? name_of(args[0], &length) : NULL;
    rendered body;
    if (n != 2)
        return wrong_arguments();
    if (name == NULL || !render_known(self, &body, args[1]))
        Py_RETURN_NONE;
    return publish(self, name, length, &body, NULL);
}
