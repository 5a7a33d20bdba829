/* The way out of a process, in C: what one turn of the event loop has for a connection goes out in one send(2).
 *
 * The same as server/gateway/outlet.py, which says what each function promises and stands in where there is no
 * compiler. Here a delivery costs a pointer and a system call; there it costs two calls of Python besides.
 *
 * A frame goes straight to the socket as long as the transport holds nothing back (`block` and `unblock` tell); what
 * the kernel does not take is handed to the transport, which keeps the order and says when it is through.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#ifndef MSG_NOSIGNAL /* macOS has SO_NOSIGPIPE instead; Python ignores the signal anyway */
#define MSG_NOSIGNAL 0
#endif

struct tick;

typedef struct {
    PyObject_HEAD
    struct tick *tick;
    PyObject *transport_write; /* NULL once closed */
    PyObject *first;           /* bytes, or NULL */
    PyObject *rest;            /* list of bytes, or NULL: most turns have one frame */
    unsigned long long written;
    int fd; /* -1: everything goes through the transport */
    char is_blocked;
    char is_listed;
} Outlet;

typedef struct tick {
    PyObject_HEAD
    PyObject *call_soon;
    PyObject *run;   /* bound method, made once */
    Outlet **listed; /* strong references */
    Py_ssize_t count;
    Py_ssize_t size;
    char is_awake;
} Tick;

static PyTypeObject OutletType;
static PyTypeObject TickType;

/* --- Tick --- */

static int tick_wake(Tick *self)
{
    if (self->is_awake)
        return 0;
    if (self->run == NULL) {
        self->run = PyObject_GetAttrString((PyObject *)self, "run");
        if (self->run == NULL)
            return -1;
    }
    PyObject *handle = PyObject_CallOneArg(self->call_soon, self->run);
    if (handle == NULL)
        return -1;
    Py_DECREF(handle);
    self->is_awake = 1;
    return 0;
}

static int tick_list(Tick *self, Outlet *outlet)
{
    if (outlet->is_listed)
        return 0;
    if (tick_wake(self) < 0)
        return -1;
    if (self->count == self->size) {
        Py_ssize_t size = self->size ? self->size * 2 : 64;
        Outlet **listed = PyMem_Realloc(self->listed, (size_t)size * sizeof(Outlet *));
        if (listed == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->listed = listed;
        self->size = size;
    }
    self->listed[self->count++] = (Outlet *)Py_NewRef(outlet);
    outlet->is_listed = 1;
    return 0;
}

/* --- Outlet --- */

static int outlet_put(Outlet *self, PyObject *frame)
{
    if (self->transport_write == NULL)
        return 0;
    if (self->first == NULL) {
        if (tick_list(self->tick, self) < 0)
            return -1;
        self->first = Py_NewRef(frame);
        return 0;
    }
    if (self->rest == NULL) {
        self->rest = PyList_New(0);
        if (self->rest == NULL)
            return -1;
    }
    return PyList_Append(self->rest, frame);
}

/* Take out what waits, as one bytes object; NULL without an error when nothing does. */
static PyObject *outlet_take(Outlet *self)
{
    PyObject *first = self->first, *rest = self->rest;
    self->first = self->rest = NULL;
    if (rest == NULL)
        return first;
    Py_ssize_t count = PyList_GET_SIZE(rest), total = PyBytes_GET_SIZE(first);
    for (Py_ssize_t i = 0; i < count; i++)
        total += PyBytes_GET_SIZE(PyList_GET_ITEM(rest, i));
    PyObject *joined = PyBytes_FromStringAndSize(NULL, total);
    if (joined != NULL) {
        char *to = PyBytes_AS_STRING(joined);
        memcpy(to, PyBytes_AS_STRING(first), PyBytes_GET_SIZE(first));
        to += PyBytes_GET_SIZE(first);
        for (Py_ssize_t i = 0; i < count; i++) {
            PyObject *frame = PyList_GET_ITEM(rest, i);
            memcpy(to, PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame));
            to += PyBytes_GET_SIZE(frame);
        }
    }
    Py_DECREF(first);
    Py_DECREF(rest);
    return joined;
}

static int outlet_send(Outlet *self)
{
    PyObject *data = outlet_take(self);
    if (data == NULL)
        return PyErr_Occurred() ? -1 : 0;
    if (self->transport_write == NULL) {
        Py_DECREF(data);
        return 0;
    }
    Py_ssize_t size = PyBytes_GET_SIZE(data), sent = 0;
    self->written += (unsigned long long)size;
    if (self->fd >= 0 && !self->is_blocked) {
        do
            sent = send(self->fd, PyBytes_AS_STRING(data), (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        if (sent == size) {
            Py_DECREF(data);
            return 0;
        }
        /* Full, or gone: the transport waits for room, or finds the error itself and closes. */
        if (sent < 0)
            sent = 0;
    }
    if (sent > 0) {
        PyObject *left = PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + sent, size - sent);
        Py_DECREF(data);
        if (left == NULL)
            return -1;
        data = left;
    }
    PyObject *write = Py_NewRef(self->transport_write); /* a pause may close us */
    PyObject *done = PyObject_CallOneArg(write, data);
    Py_DECREF(write);
    Py_DECREF(data);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int check_frame(PyObject *frame)
{
    if (PyBytes_CheckExact(frame))
        return 0;
    PyErr_SetString(PyExc_TypeError, "a frame is bytes");
    return -1;
}

static PyObject *Outlet_write(Outlet *self, PyObject *frame)
{
    if (check_frame(frame) < 0 || outlet_put(self, frame) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *Outlet_flush(Outlet *self, PyObject *unused)
{
    (void)unused;
    if (outlet_send(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *Outlet_block(Outlet *self, PyObject *unused)
{
    (void)unused;
    self->is_blocked = 1;
    Py_RETURN_NONE;
}

static PyObject *Outlet_unblock(Outlet *self, PyObject *unused)
{
    (void)unused;
    self->is_blocked = 0;
    Py_RETURN_NONE;
}

static PyObject *Outlet_close(Outlet *self, PyObject *unused)
{
    (void)unused;
    self->fd = -1;
    Py_CLEAR(self->transport_write);
    Py_CLEAR(self->first);
    Py_CLEAR(self->rest);
    Py_RETURN_NONE;
}

static PyObject *Outlet_written(Outlet *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(self->written);
}

static int Outlet_traverse(Outlet *self, visitproc visit, void *arg)
{
    Py_VISIT(self->tick);
    Py_VISIT(self->transport_write);
    Py_VISIT(self->rest);
    return 0;
}

static int Outlet_clear(Outlet *self)
{
    Py_CLEAR(self->tick);
    Py_CLEAR(self->transport_write);
    Py_CLEAR(self->first);
    Py_CLEAR(self->rest);
    return 0;
}

static void Outlet_dealloc(Outlet *self)
{
    PyObject_GC_UnTrack(self);
    Outlet_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef Outlet_methods[] = {
    {"write", (PyCFunction)Outlet_write, METH_O, "Send a frame at the end of this turn of the loop."},
    {"flush", (PyCFunction)Outlet_flush, METH_NOARGS, "Send now what was written in this turn."},
    {"block", (PyCFunction)Outlet_block, METH_NOARGS, "The transport holds bytes back: go behind them."},
    {"unblock", (PyCFunction)Outlet_unblock, METH_NOARGS, "The transport is empty again."},
    {"close", (PyCFunction)Outlet_close, METH_NOARGS, "Drop what waits and take no more."},
    {NULL},
};

static PyGetSetDef Outlet_getset[] = {
    {"written", (getter)Outlet_written, NULL, "Bytes that left so far, for the kernel or the transport.", NULL},
    {NULL},
};

static PyTypeObject OutletType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "server.gateway._outlet.Outlet",
    .tp_doc = "The way out of one connection; made by Tick.outlet.",
    .tp_basicsize = sizeof(Outlet),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_traverse = (traverseproc)Outlet_traverse,
    .tp_clear = (inquiry)Outlet_clear,
    .tp_dealloc = (destructor)Outlet_dealloc,
    .tp_methods = Outlet_methods,
    .tp_getset = Outlet_getset,
};

/* --- Tick, for Python --- */

static PyObject *Tick_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *call_soon;
    static char *names[] = {"call_soon", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O", names, &call_soon))
        return NULL;
    Tick *self = (Tick *)type->tp_alloc(type, 0);
    if (self != NULL)
        self->call_soon = Py_NewRef(call_soon);
    return (PyObject *)self;
}

static PyObject *Tick_outlet(Tick *self, PyObject *args)
{
    PyObject *write;
    int fd;
    if (!PyArg_ParseTuple(args, "Oi", &write, &fd))
        return NULL;
    Outlet *outlet = PyObject_GC_New(Outlet, &OutletType);
    if (outlet == NULL)
        return NULL;
    outlet->tick = (Tick *)Py_NewRef(self);
    outlet->transport_write = Py_NewRef(write);
    outlet->first = outlet->rest = NULL;
    outlet->written = 0;
    outlet->fd = fd;
    outlet->is_blocked = outlet->is_listed = 0;
    PyObject_GC_Track(outlet);
    return (PyObject *)outlet;
}

static PyObject *Tick_broadcast(Tick *self, PyObject *const *args, Py_ssize_t count)
{
    (void)self;
    if (count != 2 || !PyTuple_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "broadcast takes a tuple of outlets and a frame");
        return NULL;
    }
    if (check_frame(args[1]) < 0)
        return NULL;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args[0]); i++) {
        PyObject *outlet = PyTuple_GET_ITEM(args[0], i);
        if (!Py_IS_TYPE(outlet, &OutletType)) {
            PyErr_SetString(PyExc_TypeError, "broadcast takes a tuple of outlets and a frame");
            return NULL;
        }
        if (outlet_put((Outlet *)outlet, args[1]) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *Tick_run(Tick *self, PyObject *unused)
{
    (void)unused;
    Outlet **listed = self->listed;
    Py_ssize_t count = self->count;
    self->listed = NULL;
    self->count = self->size = 0;
    self->is_awake = 0; /* what is written from here on belongs to the next turn */
    for (Py_ssize_t i = 0; i < count; i++)
        listed[i]->is_listed = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (outlet_send(listed[i]) < 0)
            PyErr_WriteUnraisable((PyObject *)listed[i]);
        Py_DECREF(listed[i]);
    }
    if (self->listed == NULL) { /* keep the memory for the next turn */
        self->listed = listed;
        self->size = count;
    }
    else
        PyMem_Free(listed);
    Py_RETURN_NONE;
}

static int Tick_traverse(Tick *self, visitproc visit, void *arg)
{
    Py_VISIT(self->call_soon);
    Py_VISIT(self->run);
    for (Py_ssize_t i = 0; i < self->count; i++)
        Py_VISIT(self->listed[i]);
    return 0;
}

static int Tick_clear(Tick *self)
{
    Py_CLEAR(self->call_soon);
    Py_CLEAR(self->run);
    while (self->count > 0)
        Py_DECREF(self->listed[--self->count]);
    return 0;
}

static void Tick_dealloc(Tick *self)
{
    PyObject_GC_UnTrack(self);
    Tick_clear(self);
    PyMem_Free(self->listed);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef Tick_methods[] = {
    {"outlet", (PyCFunction)Tick_outlet, METH_VARARGS, "Make the way out of one connection."},
    {"broadcast", (PyCFunction)(void (*)(void))Tick_broadcast, METH_FASTCALL, "Write one frame to many outlets."},
    {"run", (PyCFunction)Tick_run, METH_NOARGS, "Send now what was written in this turn."},
    {NULL},
};

static PyTypeObject TickType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "server.gateway._outlet.Tick",
    .tp_doc = "The end of each turn of one event loop.",
    .tp_basicsize = sizeof(Tick),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = Tick_new,
    .tp_traverse = (traverseproc)Tick_traverse,
    .tp_clear = (inquiry)Tick_clear,
    .tp_dealloc = (destructor)Tick_dealloc,
    .tp_methods = Tick_methods,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "server.gateway._outlet",
    .m_doc = "server/gateway/outlet.py in C.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__outlet(void)
{
    if (PyType_Ready(&OutletType) < 0 || PyType_Ready(&TickType) < 0)
        return NULL;
    PyObject *self = PyModule_Create(&module);
    if (self == NULL || PyModule_AddObjectRef(self, "Outlet", (PyObject *)&OutletType) < 0 ||
        PyModule_AddObjectRef(self, "Tick", (PyObject *)&TickType) < 0) {
        Py_XDECREF(self);
        return NULL;
    }
    return self;
}
