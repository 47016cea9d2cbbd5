/* Copies one tensor's rows out of llama.cpp while it computes (DESIGN 3.2).
 *
 * llama.cpp asks a callback about every node of its graph, some thirty times per layer and step. In Python that costs
 * the GIL each time, and an exception in it is swallowed, which would send the previous step's states on. So it is this:
 * compare the name, check the shape, copy, stop. Nothing here allocates, and nothing here decides: whatever is odd is
 * written down, and stage/capture.py turns it into a CaptureError before any row leaves.
 *
 * No ggml header is needed. ggml's functions are handed in as pointers, out of the same libraries that llama_cpp
 * loaded; of `struct ggml_tensor` only the prefix below is read (ggml.h of the pinned version, unchanged since 2023),
 * and each reading is held against ggml_nbytes(): a changed struct is a fault, never a wrong row.
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

enum { TYPE_F32 = 0 }; /* GGML_TYPE_F32 */

/* Faults, in the order in which they are looked for; the first one of a step is kept. */
enum {
    FAULT_NONE = 0,
    FAULT_TYPE = 1,
    FAULT_WIDTH = 2,
    FAULT_SHAPE = 3,
    FAULT_SPACE = 4,
    FAULT_REPEATED = 5,
    FAULT_UNREAD = 6
};

/* A NaN that no arithmetic gives. It lies in the first and last value before a read and must be gone after it. */
static const uint32_t UNREAD = 0x7fc5ca9eu;

struct tensor_prefix {
    int32_t type;
    void *buffer;
    int64_t ne[4];
    uint64_t nb[4];
};

/* One stage's capture. The caller owns it and all that it points to; the order of fields is stage/capture.py's. */
struct capture {
    const char *(*name_of)(const void *tensor);
    size_t (*bytes_of)(const void *tensor);
    void (*read)(const void *tensor, void *data, size_t offset, size_t size);
    const char *wanted;     /* the tensor's whole name, "l_out-7" */
    float *rows;            /* [capacity_rows][width] */
    int64_t width;          /* n_embd */
    int64_t capacity_rows;  /* n_ubatch */
    int64_t step;           /* the caller counts it up before each decode */
    int64_t copied_step;    /* the step whose rows lie in `rows`; -1 before the first */
    int64_t copied_rows;    /* rows of the last copy */
    int64_t calls;          /* times the tensor came with data, in all */
    int64_t steps;          /* steps in which it came, in all */
    int64_t total_rows;     /* rows copied, in all */
    int32_t fault;          /* of this step; the caller clears it */
    int32_t seen_type;      /* of the tensor, for the error's words */
    int64_t seen_ne[4];
};

static int32_t find_fault(struct capture *self, const struct tensor_prefix *tensor) {
    const int64_t *ne = tensor->ne;
    self->seen_type = tensor->type;
    memcpy(self->seen_ne, ne, sizeof self->seen_ne);
    if (self->copied_step == self->step) {
        return FAULT_REPEATED;
    }
    if (tensor->type != TYPE_F32) {
        return FAULT_TYPE;
    }
    if (ne[0] != self->width) {
        return FAULT_WIDTH;
    }
    /* A plain matrix without gaps: bytes_of() agrees only where the prefix is read as ggml means it. */
    if (ne[1] < 0 || ne[2] != 1 || ne[3] != 1 || tensor->nb[0] != sizeof(float)
        || tensor->nb[1] != sizeof(float) * (uint64_t) ne[0]) {
        return FAULT_SHAPE;
    }
    if (ne[1] > self->capacity_rows) {
        return FAULT_SPACE;
    }
    if (self->bytes_of(tensor) != sizeof(float) * (size_t) ne[0] * (size_t) ne[1]) {
        return FAULT_SHAPE;
    }
    return FAULT_NONE;
}

static bool read_rows(struct capture *self, const void *tensor, int64_t n_rows) {
    const size_t count = (size_t) self->width * (size_t) n_rows;
    float *ends[2];

    if (count == 0) {
        return true;
    }
    ends[0] = self->rows;
    ends[1] = self->rows + count - 1;
    memcpy(ends[0], &UNREAD, sizeof UNREAD);
    memcpy(ends[1], &UNREAD, sizeof UNREAD);
    self->read(tensor, self->rows, 0, sizeof(float) * count);
    return memcmp(ends[0], &UNREAD, sizeof UNREAD) != 0 && memcmp(ends[1], &UNREAD, sizeof UNREAD) != 0;
}

/* ggml_backend_sched_eval_callback. With `ask`: do we want this node? Without: its data is there; false ends the graph. */
EXPORT bool capture_eval(void *tensor, bool ask, void *user_data) {
    struct capture *self = user_data;
    const struct tensor_prefix *prefix = tensor;
    int32_t fault;

    if (ask) {
        return strcmp(self->name_of(tensor), self->wanted) == 0;
    }
    self->calls++;
    fault = find_fault(self, prefix);
    if (fault == FAULT_NONE && !read_rows(self, tensor, prefix->ne[1])) {
        fault = FAULT_UNREAD;
    }
    if (fault != FAULT_NONE) {
        if (self->fault == FAULT_NONE) {
            self->fault = fault;
        }
        return false;
    }
    self->copied_rows = prefix->ne[1];
    self->copied_step = self->step;
    self->total_rows += prefix->ne[1];
    self->steps++;
    return false;
}

/* So that Python can tell a library of another layout from its own. */
EXPORT size_t capture_size(void) {
    return sizeof(struct capture);
}
