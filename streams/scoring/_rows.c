/* Rows of numbers out of a batch of JSON events, without a Python object for each number.
 *
 * One RowReader knows one layout: where device, time and features stand. `read` goes once over each event, checks
 * all of it against RFC 8259 and UTF-8, writes features into the caller's float64 array and makes one str (kept
 * from event to event) and one int for each event. It either reads the whole batch or says None, and then another
 * reader decides. So everything that is rare or that JSON readers may see differently is left to the others:
 * escapes in names of interest and in the device, names of interest that come twice, whole numbers written -0,
 * numbers that are not finite, deep nesting, halves of surrogate pairs, times that are no plain whole number.
 *
 * Invariants:
 *   an event is read only if every place of the layout was found, each once, with a value of its kind
 *   a number is the float64 nearest to its text, ties to even, as Python's float() has it
 *   no Python code runs while a batch is read: the values are held by a tuple of our own, and nothing that the
 *   garbage collector follows is made
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_json.h"
#include "_numbers.h"

enum {
    DEVICE_CHARACTERS_MAX = 256,
    DEVICES_KEPT = 1 << 14, /* slots for names, of which a later one takes the place of an earlier */
    KEPT_BYTES_MAX = 64,    /* longer names are made anew each time, so what is kept stays below 4 MB */
    TIME_DIGITS_MAX = 18,   /* fits int64 */
};

/* What stands at a place. Numbers from FEATURE on are the features' own. */
enum { OBJECT = -3, DEVICE = -2, TIME = -1, FEATURE = 0 };

/* A place of the layout: the member `name` of an object, and, when it is an object itself, what is in it. */
typedef struct Place {
    char *name; /* UTF-8; holds nothing that JSON would escape */
    Py_ssize_t length;
    Py_ssize_t kind;
    uint64_t seen_in;        /* the number of the event in which it was found last */
    struct Place *members;   /* of an object, sorted by length and bytes */
    Py_ssize_t member_count;
    Py_ssize_t first;        /* the member that came first in the last event */
    Py_ssize_t next;         /* the sibling that came after this place in the last event */
    int is_row;              /* an array in place of the object holds the features in order */
} Place;

typedef struct {
    PyObject_HEAD
    Place root;
    Py_ssize_t feature_count;
    Py_ssize_t needed; /* places that each event must have */
    int device_from_key;
    int64_t time_times, time_by; /* to milliseconds; one of them is 1 */
    int64_t time_limit_ms;
    uint64_t events; /* read so far, so no number comes twice */
    PyObject *powers; /* bytes: high and low half of the mantissa and the binary exponent of powers of ten */
    PyObject **kept;  /* DEVICES_KEPT names or NULL */
} RowReader;

/* One event while it is read. */
typedef struct {
    RowReader *reader;
    Cursor text;
    uint64_t number;
    Py_ssize_t found;
    double *row;
    PyObject *device; /* owned */
    int64_t time_ms;
} Event;

static Verdict
read_feature(Event *event, Py_ssize_t feature)
{
    Cursor text = event->text; /* a copy that the compiler keeps in registers */
    Verdict verdict = read_number(&text, PyBytes_AS_STRING(event->reader->powers), &event->row[feature]);
    event->text = text;
    return verdict;
}

/* A time: a plain whole number of the layout's unit, in range. */
static Verdict
read_time(Event *event)
{
    Number number;
    if (!take_number(&event->text, &number) || !number.is_whole || number.is_negative ||
        number.digits > TIME_DIGITS_MAX) {
        return DOUBTFUL;
    }
    int64_t time = (int64_t)number.mantissa;
    if (time > INT64_MAX / event->reader->time_times) {
        return DOUBTFUL;
    }
    event->time_ms = time * event->reader->time_times / event->reader->time_by;
    return event->time_ms < event->reader->time_limit_ms ? READ : DOUBTFUL;
}

/* ---- devices ---- */

/* The str of a device's name, a new reference: the one made last for the same bytes, if it is still kept. */
static Verdict
device_of(RowReader *reader, const char *name, Py_ssize_t length, PyObject **device)
{
    PyObject **slot = NULL;
    if (length == 0 || length > 4 * DEVICE_CHARACTERS_MAX) {
        return DOUBTFUL;
    }
    if (length <= KEPT_BYTES_MAX) {
        uint64_t hash = (uint64_t)length;
        for (Py_ssize_t at = 0; at < length; at++) {
            hash = (hash ^ (unsigned char)name[at]) * 0x9E3779B97F4A7C15u;
        }
        slot = &reader->kept[(hash >> 40) % DEVICES_KEPT];
        if (*slot != NULL) {
            Py_ssize_t kept_length;
            const char *kept = PyUnicode_AsUTF8AndSize(*slot, &kept_length);
            if (kept == NULL) {
                return FAILED;
            }
            if (kept_length == length && memcmp(kept, name, (size_t)length) == 0) {
                *device = Py_NewRef(*slot);
                return READ;
            }
        }
    }
    PyObject *made = PyUnicode_DecodeUTF8(name, length, NULL);
    if (made == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            return FAILED;
        }
        PyErr_Clear(); /* a key of a record; names in an event were checked */
        return DOUBTFUL;
    }
    if (PyUnicode_GET_LENGTH(made) > DEVICE_CHARACTERS_MAX) {
        Py_DECREF(made);
        return DOUBTFUL;
    }
    if (slot != NULL) {
        Py_XSETREF(*slot, Py_NewRef(made));
    }
    *device = made;
    return READ;
}

static Verdict
read_device(Event *event)
{
    int plain;
    if (!take(&event->text, '"')) {
        return DOUBTFUL;
    }
    const unsigned char *name = event->text.at;
    if (skip_string(&event->text, &plain) != READ || !plain) {
        return DOUBTFUL;
    }
    return device_of(event->reader, (const char *)name, event->text.at - 1 - name, &event->device);
}

/* ---- events ---- */

static int
compare_names(const char *name, Py_ssize_t length, const Place *place)
{
    if (length != place->length) {
        return length < place->length ? -1 : 1;
    }
    return memcmp(name, place->name, (size_t)length);
}

/* The member of this name, or -1. */
static Py_ssize_t
find_member(const Place *object, const char *name, Py_ssize_t length)
{
    Py_ssize_t low = 0, high = object->member_count;
    while (low < high) {
        Py_ssize_t middle = low + (high - low) / 2;
        int order = compare_names(name, length, &object->members[middle]);
        if (order == 0) {
            return middle;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return -1;
}

/* Pass a member's name, whose opening quotation mark is passed already; `found` is the member or -1.
 *
 * Events of one producer have their members in one order, so the one that came next in the last event is
 * compared first. A name of the layout holds no quotation mark: where its bytes and then one stand, it is it.
 */
static Verdict
read_name(Event *event, Place *object, Py_ssize_t *guess, Py_ssize_t *found)
{
    const Place *likely = &object->members[*guess];
    if (event->text.end - event->text.at > likely->length && event->text.at[likely->length] == '"' &&
        memcmp(event->text.at, likely->name, (size_t)likely->length) == 0) {
        event->text.at += likely->length + 1;
        *found = *guess;
        *guess = likely->next;
        return READ;
    }
    int plain;
    const char *name = (const char *)event->text.at;
    if (skip_string(&event->text, &plain) != READ || !plain) {
        return DOUBTFUL; /* an escaped name may be one of ours */
    }
    *found = find_member(object, name, (const char *)event->text.at - 1 - name);
    return READ;
}

static Verdict read_object(Event *event, Place *object, int depth);

static Verdict
read_row(Event *event)
{
    Py_ssize_t count = event->reader->feature_count;
    const char *powers = PyBytes_AS_STRING(event->reader->powers);
    Cursor text = event->text; /* a copy that the compiler keeps in registers */
    text.at++;                 /* the bracket */
    for (Py_ssize_t feature = 0; feature < count; feature++) {
        skip_space(&text);
        Verdict verdict = read_number(&text, powers, &event->row[feature]);
        if (verdict != READ) {
            return verdict;
        }
        skip_space(&text);
        if (!take(&text, feature + 1 < count ? ',' : ']')) {
            return DOUBTFUL;
        }
    }
    event->text = text;
    event->found += count;
    return READ;
}

static Verdict
read_place(Event *event, Place *place, int depth)
{
    if (place->seen_in == event->number) {
        return DOUBTFUL; /* twice */
    }
    place->seen_in = event->number;
    if (place->kind == OBJECT) {
        return place->is_row && *event->text.at == '[' ? read_row(event) : read_object(event, place, depth + 1);
    }
    event->found++;
    if (place->kind == DEVICE) {
        return read_device(event);
    }
    return place->kind == TIME ? read_time(event) : read_feature(event, place->kind);
}

static Verdict
read_object(Event *event, Place *object, int depth)
{
    Py_ssize_t guess = object->first, last = -1;
    if (!take(&event->text, '{')) {
        return DOUBTFUL;
    }
    skip_space(&event->text);
    if (take(&event->text, '}')) {
        return READ; /* its members are missed at the end */
    }
    for (;;) {
        Py_ssize_t found, guessed = guess;
        if (!take(&event->text, '"') || read_name(event, object, &guess, &found) != READ) {
            return DOUBTFUL;
        }
        if (found >= 0) {
            if (found != guessed) {
                *(last < 0 ? &object->first : &object->members[last].next) = found;
                guess = object->members[found].next;
            }
            last = found;
        }
        skip_space(&event->text);
        if (!take(&event->text, ':')) {
            return DOUBTFUL;
        }
        skip_space(&event->text);
        Verdict verdict = found < 0 ? skip_value(&event->text, depth + 1)
                                    : read_place(event, &object->members[found], depth);
        if (verdict != READ) {
            return verdict;
        }
        skip_space(&event->text);
        if (take(&event->text, '}')) {
            return READ;
        }
        if (!take(&event->text, ',')) {
            return DOUBTFUL;
        }
        skip_space(&event->text);
    }
}

/* One event to its row; `key` is the record's, borrowed, or NULL when the event names the device itself. */
static Verdict
read_event(RowReader *reader, PyObject *value, PyObject *key, Event *event)
{
    if (!PyBytes_CheckExact(value)) {
        return DOUBTFUL;
    }
    event->text.at = (const unsigned char *)PyBytes_AS_STRING(value);
    event->text.end = event->text.at + PyBytes_GET_SIZE(value);
    event->number = ++reader->events;
    event->found = 0;
    if (key != NULL) {
        if (!PyBytes_CheckExact(key)) {
            return DOUBTFUL;
        }
        Verdict named = device_of(reader, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), &event->device);
        if (named != READ) {
            return named;
        }
    }
    skip_space(&event->text);
    Verdict verdict = read_object(event, &reader->root, 0);
    if (verdict != READ) {
        return verdict;
    }
    skip_space(&event->text);
    return event->text.at == event->text.end && event->found == reader->needed ? READ : DOUBTFUL;
}

/* All rows; on READ `devices` and `times`, lists of their length, are full. */
static Verdict
read_batch(RowReader *reader, PyObject *values, PyObject *keys, double *numbers, PyObject *devices, PyObject *times)
{
    Py_ssize_t rows = PyTuple_GET_SIZE(values);
    for (Py_ssize_t row = 0; row < rows; row++) {
        Event event = {.reader = reader, .row = numbers + row * reader->feature_count};
        PyObject *key = keys == NULL ? NULL : PyTuple_GET_ITEM(keys, row);
        Verdict verdict = read_event(reader, PyTuple_GET_ITEM(values, row), key, &event);
        if (verdict != READ) {
            Py_XDECREF(event.device);
            return verdict;
        }
        PyList_SET_ITEM(devices, row, event.device);
        PyObject *time = PyLong_FromLongLong(event.time_ms);
        if (time == NULL) {
            return FAILED;
        }
        PyList_SET_ITEM(times, row, time);
    }
    return READ;
}

PyDoc_STRVAR(read_doc, "read(values, keys, numbers, /)\n--\n\n"
                       "Devices and times of all values, or None; `numbers` is filled row by row.");

static PyObject *
reader_read(RowReader *self, PyObject *const *arguments, Py_ssize_t count)
{
    Py_buffer numbers = {0};
    PyObject *values = NULL, *keys = NULL, *devices = NULL, *times = NULL, *result = NULL;
    if (count != 3) {
        PyErr_Format(PyExc_TypeError, "read takes values, keys and numbers, not %zd arguments", count);
        return NULL;
    }
    if (PyObject_GetBuffer(arguments[2], &numbers, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) {
        return NULL;
    }
    values = PySequence_Tuple(arguments[0]);
    keys = self->device_from_key ? PySequence_Tuple(arguments[1]) : NULL;
    if (values == NULL || (self->device_from_key && keys == NULL)) {
        goto end;
    }
    Py_ssize_t rows = PyTuple_GET_SIZE(values);
    if (numbers.format == NULL || strcmp(numbers.format, "d") != 0 ||
        numbers.len / (Py_ssize_t)sizeof(double) / self->feature_count != rows ||
        numbers.len != rows * self->feature_count * (Py_ssize_t)sizeof(double)) {
        PyErr_SetString(PyExc_ValueError, "numbers must be float64, one for each value and feature");
        goto end;
    }
    if (keys != NULL && PyTuple_GET_SIZE(keys) != rows) {
        PyErr_SetString(PyExc_ValueError, "there must be as many keys as values");
        goto end;
    }
    devices = PyList_New(rows);
    times = PyList_New(rows);
    if (devices == NULL || times == NULL) {
        goto end;
    }
    Verdict verdict = read_batch(self, values, keys, numbers.buf, devices, times);
    if (verdict == READ) {
        result = PyTuple_Pack(2, devices, times);
    } else if (verdict == DOUBTFUL) {
        result = Py_NewRef(Py_None);
    }
end:
    Py_XDECREF(devices);
    Py_XDECREF(times);
    Py_XDECREF(values);
    Py_XDECREF(keys);
    PyBuffer_Release(&numbers);
    return result;
}

/* ---- layouts ---- */

static int
order_of_places(const void *first, const void *second)
{
    const Place *place = first;
    return compare_names(place->name, place->length, second);
}

static void
free_place(Place *place)
{
    for (Py_ssize_t at = 0; at < place->member_count; at++) {
        free_place(&place->members[at]);
    }
    PyMem_Free(place->members);
    PyMem_Free(place->name);
}

static int fill_object(RowReader *reader, Place *object, PyObject *members, int depth);

/* `kind` as the layout has it: a dict of members, or the number of what stands here. -1 with an exception. */
static int
fill_place(RowReader *reader, Place *place, PyObject *name, PyObject *kind, int depth)
{
    const char *text = PyUnicode_AsUTF8AndSize(name, &place->length);
    if (text == NULL) {
        return -1;
    }
    for (Py_ssize_t at = 0; at < place->length; at++) {
        if (text[at] == '"' || text[at] == '\\' || (unsigned char)text[at] < 0x20) {
            PyErr_SetString(PyExc_ValueError, "JSON would escape something in a name");
            return -1;
        }
    }
    place->name = PyMem_Malloc((size_t)place->length + 1);
    if (place->name == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(place->name, text, (size_t)place->length + 1);
    if (PyDict_Check(kind)) {
        return fill_object(reader, place, kind, depth + 1);
    }
    place->kind = PyLong_AsSsize_t(kind);
    if (place->kind == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (place->kind < DEVICE || place->kind >= reader->feature_count) {
        PyErr_SetString(PyExc_ValueError, "a place holds what does not exist");
        return -1;
    }
    reader->needed++;
    return 0;
}

static int
fill_object(RowReader *reader, Place *object, PyObject *members, int depth)
{
    PyObject *name, *kind;
    Py_ssize_t position = 0, count = PyDict_GET_SIZE(members);
    object->kind = OBJECT;
    if (depth >= DEPTH_MAX || count == 0) {
        PyErr_SetString(PyExc_ValueError, "an object of the layout is empty, or too deep");
        return -1;
    }
    object->members = PyMem_Calloc((size_t)count, sizeof(Place));
    if (object->members == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    while (PyDict_Next(members, &position, &name, &kind)) {
        if (name == Py_None) { /* no name, a mark: an array of all features may stand in this object's place */
            object->is_row = 1;
            continue;
        }
        /* Counted first, so that a place half made is freed as well. */
        Place *place = &object->members[object->member_count++];
        if (fill_place(reader, place, name, kind, depth) < 0) {
            return -1;
        }
    }
    if (object->member_count == 0) {
        PyErr_SetString(PyExc_ValueError, "an object of the layout has a mark and no members");
        return -1;
    }
    qsort(object->members, (size_t)object->member_count, sizeof(Place), order_of_places);
    return 0;
}

static void
reader_dealloc(RowReader *self)
{
    PyTypeObject *type = Py_TYPE(self);
    free_place(&self->root);
    if (self->kept != NULL) {
        for (Py_ssize_t slot = 0; slot < DEVICES_KEPT; slot++) {
            Py_XDECREF(self->kept[slot]);
        }
        PyMem_Free(self->kept);
    }
    Py_XDECREF(self->powers);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Whether the places are one of each: the features, the time, and the device unless keys name it. */
static int
count_places(const RowReader *reader, const Place *place, unsigned char *taken)
{
    if (place->kind != OBJECT) {
        return taken[place->kind - DEVICE]++ == 0;
    }
    for (Py_ssize_t at = 0; at < place->member_count; at++) {
        if (!count_places(reader, &place->members[at], taken)) {
            return 0;
        }
    }
    return 1;
}

static int
check_places(const RowReader *reader)
{
    Py_ssize_t wanted = reader->feature_count + 1 + !reader->device_from_key;
    unsigned char *taken = PyMem_Calloc((size_t)(reader->feature_count - DEVICE), 1);
    if (taken == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int each_once = count_places(reader, &reader->root, taken) && reader->needed == wanted &&
                    taken[DEVICE - DEVICE] == !reader->device_from_key;
    PyMem_Free(taken);
    if (!each_once) {
        PyErr_SetString(PyExc_ValueError, "the layout must hold each feature, the time and the device once");
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(reader_doc,
             "RowReader(layout, feature_count, device_from_key, time_times, time_by, time_limit_ms, powers)\n--\n\n"
             "Reads events of one layout: dicts of members, with features by number, -1 for the time, -2 for the\n"
             "device; None as a name says that an array of all features may stand in the dict's place. A time is\n"
             "multiplied by `time_times`, divided by `time_by`, and must then be below the limit.");

static PyObject *
reader_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *layout, *powers;
    Py_ssize_t feature_count;
    int device_from_key;
    long long times, by, limit_ms;
    if (keywords != NULL && PyDict_GET_SIZE(keywords) != 0) {
        PyErr_SetString(PyExc_TypeError, "RowReader takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "O!npLLLS", &PyDict_Type, &layout, &feature_count, &device_from_key, &times,
                          &by, &limit_ms, &powers)) {
        return NULL;
    }
    if (feature_count < 1 || feature_count > PY_SSIZE_T_MAX / 16 || times < 1 || by < 1 ||
        PyBytes_GET_SIZE(powers) != POWERS_BYTES) {
        PyErr_SetString(PyExc_ValueError, "features, unit or powers of ten are not what they should be");
        return NULL;
    }
    RowReader *self = (RowReader *)type->tp_alloc(type, 0); /* all zero */
    if (self == NULL) {
        return NULL;
    }
    self->feature_count = feature_count;
    self->device_from_key = device_from_key;
    self->time_times = times;
    self->time_by = by;
    self->time_limit_ms = limit_ms;
    self->powers = Py_NewRef(powers);
    self->kept = PyMem_Calloc(DEVICES_KEPT, sizeof(PyObject *));
    if (self->kept == NULL) {
        PyErr_NoMemory();
    }
    if (self->kept == NULL || fill_object(self, &self->root, layout, 0) < 0 || check_places(self) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* ---- the module ---- */

static PyMethodDef reader_methods[] = {
    {"read", (PyCFunction)(void (*)(void))reader_read, METH_FASTCALL, read_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, (void *)reader_doc},
    {Py_tp_new, reader_new},
    {Py_tp_dealloc, reader_dealloc},
    {Py_tp_methods, reader_methods},
    {0, NULL},
};

static PyType_Spec reader_spec = {
    .name = "farshore.streams.scoring._rows.RowReader",
    .basicsize = sizeof(RowReader),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = reader_slots,
};

static int
module_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &reader_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int added = PyModule_AddObjectRef(module, "RowReader", type);
    Py_DECREF(type);
    if (added < 0) {
        return -1;
    }
    return PyModule_AddIntConstant(module, "POWER_MIN", POWER_MIN) < 0 ||
                   PyModule_AddIntConstant(module, "POWER_MAX", POWER_MAX) < 0
               ? -1
               : 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "farshore.streams.scoring._rows",
    .m_doc = "Rows of numbers out of JSON events; see native_reader.",
    .m_size = 0,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__rows(void)
{
    return PyModuleDef_Init(&module_definition);
}
