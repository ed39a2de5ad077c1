// A driver, an NVRTC and a cuBLASLt that run on the CPU, so that the whole program runs without a GPU: memory is the heap, work
// outside a capture runs at once, a graph is the list of what was captured, kernels are compiled for the emulator (tests/emu).
// Stricter than the real ones: a capture that allocates or waits is refused, fresh memory is not zero, cuBLASLt fails in a context
// that was made again.
// Compiled three times, with DRIVER, NVRTC or CUBLASLT defined. Of the environment: STANDIN_EMULATOR, the folder of emu.h;
// STANDIN_KERNELS, a folder for compiled kernels; STANDIN_MIB, the memory of the device; STANDIN_REFUSES, a compute capability
// (as 90) whose machine code the driver refuses; STANDIN_PRODUCTS, which products cuBLASLt lacks (`none`:
// it has none, `no-bias`: none with a bias, `broken`: what it suggests does not run); STANDIN_OPENS, a file that is told at the end how often a context was made and a
// device opened (cuBLASLt is asked for a handle once a device). Meant for Linux and one process a device.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_ARGS = 48 };
typedef struct {
    int type; /* 0 f32, 14 bf16 */
    uint64_t rows, columns;
    int64_t leading;
} Layout;
typedef struct {
    int transpose_a, transpose_b, epilogue, compute;
    uint64_t bias;
} Desc;
typedef struct {
    unsigned (*sizes)(unsigned*);
    void (*run)(const unsigned*, const unsigned*, unsigned, void**, unsigned);
    int shared_room;
} Function;
typedef struct {
    int kind; /* 0 fill, 1 copy, 2 kernel, 3 product */
    uint64_t to, from, bytes;
    Function* function;
    unsigned grid[3], block[3], shared, num_args;
    uint64_t args[MOST_ARGS];
    Desc desc;
    Layout a, b, d;
    uint64_t pa, pb, pc, pd;
    float alpha, beta;
} Op;

static uint16_t to_bf16(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
int standin_enqueue(const Op* op, void* stream);
int standin_contexts(void);
// At the end of the process: how often something was opened.
static void standin_tell(const char* what, int count) {
    const char* path = getenv("STANDIN_OPENS");
    FILE* file = path && count ? fopen(path, "a") : 0;
    if (file) fprintf(file, "%s %d\n", what, count), fclose(file);
}

#ifdef DRIVER
enum { OK = 0, INVALID = 1, MEMORY = 2, NO_CONTEXT = 201, CAPTURING = 900, UNJOINED = 904, ISOLATION = 905 };
static uint64_t used;
static uint64_t limit(void) {
    const char* mib = getenv("STANDIN_MIB");
    return (mib ? strtoull(mib, 0, 10) : 512ull) << 20;
}
// A thread that has not bound the context gets errors.
static __thread void* current;
static pthread_mutex_t device = PTHREAD_MUTEX_INITIALIZER;
// A capture is its thread's own; streams come in by waiting for an event of it, and must be waited for before it ends.
typedef struct {
    int is_captured, is_unjoined;
} Stream;
typedef struct {
    int is_captured;
    Stream* stream;
} Event;
static __thread int capturing;
static __thread Stream *origin, *forked[64];
static __thread int num_forked;
static __thread Op* captured;
static __thread uint64_t count;
// Objects that were made and not destroyed.
static long live;
long standin_live(void) { return live; }

static float get(uint64_t base, int type, uint64_t i) {
    if (type == 0) return ((float*)base)[i];
    uint32_t u = (uint32_t)((uint16_t*)base)[i] << 16;
    float x;
    memcpy(&x, &u, 4);
    return x;
}
// A factor as floats, its inner dimension along rows; `lines` columns of it.
static float* unpacked(const Op* op, int is_b, uint64_t inner, uint64_t lines) {
    const Layout* l = is_b ? &op->b : &op->a;
    int transposed = is_b ? !op->desc.transpose_b : op->desc.transpose_a;
    if ((transposed ? l->rows : l->columns) != inner || (transposed ? l->columns : l->rows) != lines) abort();
    float* out = malloc((inner * lines + 1) * sizeof(float));
    for (uint64_t k = 0; k < inner; k++)
        for (uint64_t i = 0; i < lines; i++) {
            uint64_t at = transposed ? k + i * (uint64_t)l->leading : i + k * (uint64_t)l->leading;
            out[k * lines + i] = get(is_b ? op->pb : op->pa, l->type, at);
        }
    return out;
}
static void product(const Op* op) {
    uint64_t inner = op->desc.transpose_a ? op->a.rows : op->a.columns, rows = op->d.rows, columns = op->d.columns;
    float *a = unpacked(op, 0, inner, rows), *b = unpacked(op, 1, inner, columns), *sums = malloc((rows + 1) * sizeof(float));
    for (uint64_t c = 0; c < columns; c++) {
        memset(sums, 0, rows * sizeof(float));
        for (uint64_t k = 0; k < inner; k++)
            for (uint64_t r = 0; r < rows; r++) sums[r] += a[k * rows + r] * b[k * columns + c];
        for (uint64_t r = 0; r < rows; r++) {
            uint64_t at = r + c * (uint64_t)op->d.leading;
            float sum = op->alpha * sums[r];
            if (op->beta != 0) sum += op->beta * get(op->pc, op->d.type, at);
            if (op->desc.epilogue == 4) sum += get(op->desc.bias, op->d.type, r);
            if (op->d.type == 0) ((float*)op->pd)[at] = sum;
            else ((uint16_t*)op->pd)[at] = to_bf16(sum);
        }
    }
    free(a), free(b), free(sums);
}
static void perform(const Op* op) {
    pthread_mutex_lock(&device);
    if (op->kind == 0) memset((void*)op->to, 0, op->bytes);
    if (op->kind == 1) memcpy((void*)op->to, (void*)op->from, op->bytes);
    if (op->kind == 2) {
        void* pointers[MOST_ARGS];
        for (unsigned i = 0; i < op->num_args; i++) pointers[i] = (void*)&op->args[i];
        op->function->run(op->grid, op->block, op->shared, pointers, op->num_args);
    }
    if (op->kind == 3) product(op);
    pthread_mutex_unlock(&device);
}
int standin_enqueue(const Op* op, void* stream) {
    Stream* s = stream;
    if (!s->is_captured) return perform(op), OK;
    if (s != origin) s->is_unjoined = 1;
    captured = realloc(captured, (count + 1) * sizeof(Op));
    captured[count++] = *op;
    return OK;
}

int cuInit(unsigned flags) { return OK; }
int cuDriverGetVersion(int* v) { return *v = 13000, OK; }
int cuDeviceGetCount(int* n) { return *n = 1, OK; }
int cuDeviceGet(int* d, int ordinal) { return *d = ordinal, OK; }
int cuDeviceGetName(char* name, int len, int d) { return snprintf(name, len, "Stand-in"), OK; }
int cuDeviceTotalMem_v2(size_t* bytes, int d) { return *bytes = limit(), OK; }
int cuDeviceGetAttribute(int* value, int which, int d) { return *value = which == 75 ? 9 : which == 76 ? 0 : 1, OK; }
// One that is made again after it was destroyed has other bytes: libraries keep what they knew of the first.
static char context[64];
static int users, made;

int cuDevicePrimaryCtxRetain(void** c, int d) {
    pthread_mutex_lock(&device);
    if (!users++ && made < 63) made++;
    pthread_mutex_unlock(&device);
    return *c = &context[made], live++, OK;
}
int cuDevicePrimaryCtxRelease_v2(int d) { return users--, live--, OK; }
int standin_contexts(void) { return made; }
static void __attribute__((destructor)) tell(void) { standin_tell("contexts", made); }
int cuCtxGetCurrent(void** c) { return *c = current, OK; }
int cuCtxSetCurrent(void* c) { return current = c, OK; }
int cuStreamCreate(void** s, unsigned flags) { return *s = calloc(1, sizeof(Stream)), live++, flags == 1 ? OK : INVALID; }
int cuStreamDestroy_v2(void* s) { return free(s), live--, OK; }
int cuStreamSynchronize(void* s) { return capturing ? CAPTURING : OK; }
int cuStreamBeginCapture_v2(Stream* s, int mode) {
    if (!s || s->is_captured) return CAPTURING;
    return s->is_captured = capturing = 1, origin = s, num_forked = 0, count = 0, OK;
}
int cuStreamWaitEvent(Stream* s, Event* e, unsigned flags) {
    if (!current) return NO_CONTEXT;
    if (!e->is_captured) return s->is_captured ? ISOLATION : OK;
    if (!s->is_captured) s->is_captured = 1, forked[num_forked++] = s;
    if (s != origin) s->is_unjoined = 1;
    return e->stream->is_unjoined = 0, OK;
}
typedef struct {
    Op* ops;
    uint64_t count;
} Graph;
int cuStreamEndCapture(Stream* s, Graph** g) {
    int is_unjoined = 0;
    for (int i = 0; i < num_forked; i++) {
        is_unjoined |= forked[i]->is_unjoined;
        forked[i]->is_captured = forked[i]->is_unjoined = 0;
    }
    s->is_captured = capturing = 0;
    if (is_unjoined) return *g = 0, UNJOINED;
    *g = malloc(sizeof(Graph));
    (*g)->ops = captured, (*g)->count = count;
    captured = 0, count = 0, live++;
    return OK;
}
int cuGraphInstantiateWithFlags(Graph** exec, Graph* g, unsigned long long flags) {
    *exec = malloc(sizeof(Graph));
    (*exec)->count = g->count, (*exec)->ops = malloc(g->count * sizeof(Op)), live++;
    return memcpy((*exec)->ops, g->ops, g->count * sizeof(Op)), OK;
}
int cuGraphUpload(Graph* exec, void* s) { return OK; }
int cuGraphLaunch(Graph* exec, void* s) {
    if (!current) return NO_CONTEXT;
    for (uint64_t i = 0; i < exec->count; i++) perform(&exec->ops[i]);
    return OK;
}
int cuGraphDestroy(Graph* g) { return free(g->ops), free(g), live--, OK; }
int cuGraphExecDestroy(Graph* g) { return cuGraphDestroy(g); }
int cuMemGetInfo_v2(size_t* available, size_t* total) { return *available = limit() - used, *total = limit(), OK; }
// The size stands before the memory; fresh memory is not zero.
int cuMemAlloc_v2(uint64_t* p, size_t bytes) {
    if (capturing) return CAPTURING;
    if (!current || !bytes) return current ? INVALID : NO_CONTEXT;
    if (bytes > limit() - used) return MEMORY;
    char* base = aligned_alloc(256, (bytes + 511) / 256 * 256);
    memset(base, 0xff, bytes + 256), *(size_t*)base = bytes;
    return *p = (uint64_t)base + 256, used += bytes, live++, OK;
}
int cuMemFree_v2(uint64_t p) {
    char* base = (char*)p - 256;
    used -= *(size_t*)base, live--, free(base);
    return OK;
}
int cuMemHostAlloc(void** p, size_t bytes, unsigned flags) { return *p = malloc(bytes), live++, current ? OK : INVALID; }
int cuMemFreeHost(void* p) { return free(p), live--, OK; }
static int move(uint64_t to, uint64_t from, uint64_t bytes, void* s) {
    Op op = {.kind = 1, .to = to, .from = from, .bytes = bytes};
    if (!current) return NO_CONTEXT;
    return bytes ? standin_enqueue(&op, s) : INVALID;
}
int cuMemsetD8Async(uint64_t p, unsigned char v, size_t n, void* s) {
    Op op = {.kind = 0, .to = p, .bytes = n};
    if (!current) return NO_CONTEXT;
    return n ? standin_enqueue(&op, s) : INVALID;
}
int cuMemsetD32Async(uint64_t p, unsigned v, size_t n, void* s) { return cuMemsetD8Async(p, 0, 4 * n, s); }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t n, void* s) { return move(to, (uint64_t)from, n, s); }
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t n, void* s) { return move((uint64_t)to, from, n, s); }
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t n, void* s) { return move(to, from, n, s); }
int cuEventCreate(void** e, unsigned flags) { return *e = calloc(1, sizeof(Event)), live++, OK; }
int cuEventRecord(Event* e, Stream* s) { return e->is_captured = s->is_captured, e->stream = s, OK; }
int cuEventSynchronize(void* e) { return capturing ? CAPTURING : OK; }
int cuEventDestroy_v2(void* e) { return free(e), live--, OK; }
// An image is `c` for machine code or `p` for PTX, and the path of a library.
int cuModuleLoadData(void** m, const char* image) {
    if (*image == 'c' && getenv("STANDIN_REFUSES")) return 209;
    *m = dlopen(image + 1, RTLD_NOW | RTLD_LOCAL);
    return *m ? (live++, OK) : 200;
}
int cuModuleGetFunction(Function** f, void* m, const char* name) {
    char run[256], sizes[256];
    snprintf(run, sizeof run, "run_%s", name), snprintf(sizes, sizeof sizes, "sizes_%s", name);
    if (!dlsym(m, run)) return 500;
    *f = malloc(sizeof(Function));
    **f = (Function){dlsym(m, sizes), dlsym(m, run), 49152};
    return OK;
}
// Functions stay: graphs may hold them, as the real driver forbids.
int cuModuleUnload(void* m) { return live--, OK; }
int cuFuncGetAttribute(int* value, int which, Function* f) {
    return *value = which == 0 ? 1024 : which == 8 ? f->shared_room : 0, OK;
}
int cuFuncSetAttribute(Function* f, int which, int value) { return f->shared_room = value, value <= 232448 ? OK : INVALID; }
int cuLaunchKernel(Function* f, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned shared, void* s,
                   void** args, void** extra) {
    Op op = {.kind = 2, .function = f, .grid = {x, y, z}, .block = {bx, by, bz}, .shared = shared};
    unsigned bytes[MOST_ARGS];
    op.num_args = f->sizes(bytes);
    if (!current) return NO_CONTEXT;
    if (extra || !s || !x || !y || !z || y > 65535 || z > 65535 || x > 0x7fffffffu || shared > (unsigned)f->shared_room) return INVALID;
    if (!bx || !by || !bz || bx * by * bz > 1024) return INVALID;
    for (unsigned i = 0; i < op.num_args; i++) memcpy(&op.args[i], args[i], bytes[i]);
    return standin_enqueue(&op, s);
}
#endif

#ifdef NVRTC
typedef struct {
    char *source, *log, path[512];
    int is_ptx;
} Program;
int nvrtcVersion(int* major, int* minor) { return *major = 13, *minor = 0, 0; }
int nvrtcGetNumSupportedArchs(int* n) { return *n = 2, 0; }
int nvrtcGetSupportedArchs(int* list) { return list[0] = 80, list[1] = 90, 0; }
int nvrtcCreateProgram(Program** p, const char* source, const char* name, int n, const char** h, const char** i) {
    *p = calloc(1, sizeof(Program)), (*p)->source = strdup(source), (*p)->log = strdup("");
    return strstr(source, "#include") ? 6 : 0;
}
// Compiles for the emulator, into a file that is named by the source and its options.
int nvrtcCompileProgram(Program* p, int n, const char** options) {
    const char *folder = getenv("STANDIN_KERNELS"), *emulator = getenv("STANDIN_EMULATOR"), *compiler = getenv("CXX");
    int is_bf16 = 0;
    for (int i = 0; i < n; i++) {
        is_bf16 |= !strcmp(options[i], "-DREAL_BF16");
        p->is_ptx |= !!strstr(options[i], "=compute_");
    }
    uint64_t digest = 0xcbf29ce484222325ull + is_bf16;
    for (const char* c = p->source; *c; c++) digest = (digest ^ (unsigned char)*c) * 0x100000001b3ull;
    snprintf(p->path, sizeof p->path, "%s/standin-%016llx.so", folder, (unsigned long long)digest);
    if (!access(p->path, R_OK)) return 0;
    char unit[600], library[600], command[4096];
    snprintf(unit, sizeof unit, "%s.%d.cpp", p->path, getpid()), snprintf(library, sizeof library, "%s.%d.so", p->path, getpid());
    FILE* file = fopen(unit, "w");
    if (!file) return 11;
    fputs(p->source, file);
    for (const char* at = p->source; (at = strstr(at, "\nKERNEL("));) {
        const char *name = strchr(at, ')') + 1, *end = strchr(name, '(');
        while (*name == ' ' || *name == '\n') name++;
        fprintf(file, "\nEMU_EXPORT(%.*s)", (int)(end - name), name);
        at = end;
    }
    fputs("\n", file), fclose(file);
    snprintf(command, sizeof command, "%s -std=c++17 -O2 -ffp-contract=off -fPIC -shared -w -DEMU %s -include '%s/emu.h' '%s' -o '%s'",
             compiler ? compiler : "c++", is_bf16 ? "-DREAL_BF16" : "", emulator, unit, library);
    return system(command) || rename(library, p->path) || unlink(unit) ? 6 : 0;
}
int nvrtcGetProgramLogSize(Program* p, size_t* n) { return *n = strlen(p->log) + 1, 0; }
int nvrtcGetProgramLog(Program* p, char* log) { return strcpy(log, p->log), 0; }
int nvrtcGetCUBINSize(Program* p, size_t* n) { return *n = strlen(p->path) + 2, 0; }
int nvrtcGetCUBIN(Program* p, char* image) { return p->is_ptx ? 7 : (*image = 'c', strcpy(image + 1, p->path), 0); }
int nvrtcGetPTXSize(Program* p, size_t* n) { return nvrtcGetCUBINSize(p, n); }
int nvrtcGetPTX(Program* p, char* image) { return *image = 'p', strcpy(image + 1, p->path), 0; }
int nvrtcDestroyProgram(Program** p) { return free((*p)->source), free((*p)->log), free(*p), 0; }
#endif

#ifdef CUBLASLT
typedef struct {
    uint64_t data[8];
} Algorithm;
typedef struct {
    Algorithm algorithm;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
} Result;
typedef struct {
    uint64_t workspace;
    uint32_t reduction, alignment[4];
} Preference;
size_t cublasLtGetVersion(void) { return 130000; }
static int handles;
int cublasLtCreate(void** h) { return *h = malloc(1), __sync_fetch_and_add(&handles, 1), 0; }
static void __attribute__((destructor)) tell(void) { standin_tell("devices", handles); }
int cublasLtDestroy(void* h) { return free(h), 0; }
int cublasLtMatmulDescCreate(Desc** d, int compute, int scale) {
    return *d = calloc(1, sizeof(Desc)), (*d)->compute = compute, (*d)->epilogue = 1, scale == 0 ? 0 : 7;
}
int cublasLtMatmulDescDestroy(Desc* d) { return free(d), 0; }
int cublasLtMatmulDescSetAttribute(Desc* d, int which, const void* value, size_t bytes) {
    if (which == 3 && bytes == 4) return memcpy(&d->transpose_a, value, 4), 0;
    if (which == 4 && bytes == 4) return memcpy(&d->transpose_b, value, 4), 0;
    if (which == 7 && bytes == 4) return memcpy(&d->epilogue, value, 4), 0;
    if (which == 8 && bytes == 8) return memcpy(&d->bias, value, 8), 0;
    return 7;
}
int cublasLtMatrixLayoutCreate(Layout** l, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    *l = malloc(sizeof(Layout)), **l = (Layout){type, rows, columns, leading};
    return 0;
}
int cublasLtMatrixLayoutDestroy(Layout* l) { return free(l), 0; }
int cublasLtMatmulPreferenceCreate(Preference** p) { return *p = calloc(1, sizeof(Preference)), 0; }
int cublasLtMatmulPreferenceDestroy(Preference* p) { return free(p), 0; }
int cublasLtMatmulPreferenceSetAttribute(Preference* p, int which, const void* value, size_t bytes) {
    if (which == 1 && bytes == 8) return memcpy(&p->workspace, value, 8), 0;
    if (which == 3 && bytes == 4) return memcpy(&p->reduction, value, 4), 0;
    if (which >= 5 && which <= 8 && bytes == 4) return memcpy(&p->alignment[which - 5], value, 4), 0;
    return 7;
}
int cublasLtMatmulAlgoConfigGetAttribute(const Algorithm* t, int which, void* value, size_t bytes, size_t* written) {
    uint32_t found[4] = {(uint32_t)t->data[0], 20, 1, 0};
    return which < 4 && bytes == 4 ? (memcpy(value, &found[which], 4), 0) : 7;
}
int cublasLtMatmulAlgoCheck(void* h, Desc* d, Layout* a, Layout* b, Layout* c, Layout* l, Algorithm* t, Result* r) { return 0; }
// The first algorithm is one that does not run after all; alignments travel in the second.
int cublasLtMatmulAlgoGetHeuristic(void* h, Desc* d, Layout* a, Layout* b, Layout* c, Layout* l, Preference* p, int asked,
                                   Result* results, int* found) {
    // Partial sums may be kept in f32 alone: that of the sums, or an output's.
    if ((p->reduction != 2 && (p->reduction != 6 || l->type != 0)) || !p->workspace || asked < 2) return 7;
    const char* refused = getenv("STANDIN_PRODUCTS");
    if (refused && (!strcmp(refused, "none") || (!strcmp(refused, "no-bias") && d->epilogue == 4))) return 15;
    if (refused && !strcmp(refused, "broken")) return results[0] = (Result){0}, *found = 1, 0;
    results[0] = (Result){0}, results[1] = (Result){.algorithm = {{1}}};
    for (int i = 0; i < 4; i++) results[1].algorithm.data[1 + i] = p->alignment[i];
    return *found = 2, 0;
}
int cublasLtMatmul(void* h, Desc* d, const float* alpha, uint64_t pa, Layout* a, uint64_t pb, Layout* b, const float* beta,
                   uint64_t pc, Layout* c, uint64_t pd, Layout* l, const Algorithm* t, uint64_t workspace, size_t bytes, void* s) {
    uint64_t pointers[4] = {pa, pb, pc, pd};
    if (t->data[0] != 1) return 15;
    if (standin_contexts() > 1) return 13;
    for (int i = 0; i < 4; i++)
        if (!t->data[1 + i] || pointers[i] % t->data[1 + i]) return 7;
    if (!workspace || workspace % 256 || bytes != 32 << 20 || !s || a->type != b->type || d->compute != 68) return 7;
    if (d->epilogue == 4 && d->bias % 16) return 7;
    Op op = {.kind = 3, .desc = *d, .a = *a, .b = *b, .d = *l, .pa = pa, .pb = pb, .pc = pc, .pd = pd, .alpha = *alpha, .beta = *beta};
    return standin_enqueue(&op, s);
}
#endif
