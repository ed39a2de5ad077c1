// A CPU stand-in for one CUDA device, for tests only: every CUDA thread is a fiber, blocks run one after another, barriers are
// kept per warp and per block, warp-wide operations exchange words between the lanes, asynchronous copies arrive when they are
// waited for. Not modelled: memory ordering, contraction to fused multiply-adds.
//
// Found with it: a barrier that not all threads reach (named with thread and line), reads before a missing __syncthreads()
// (run under several `order`s: 0 forward, 1 reversed, else shuffled) or a missing wait for a copy (the place holds NaN until
// then), and, with -fsanitize=address, accesses out of bounds.
#pragma once
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <utility>
#include <vector>
#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

struct dim3 {
    unsigned x, y, z;
};
struct uint4 {
    unsigned x, y, z, w;
};
struct float2 {
    float x, y;
};
struct float4 {
    float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

namespace emu {
enum class State { run, block, warp, done };

constexpr size_t stack_bytes = 128 << 10;

#if defined(__x86_64__) || defined(__aarch64__)
// Saves the callee-saved registers and the stack pointer, and goes on with another stack.
#ifdef __x86_64__
asm(R"(
.text
emu_switch:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
)");
#else
asm(R"(
.text
.p2align 2
emu_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
#endif
// The label as it stands: Mach-O would put an underscore before it.
extern "C" void emu_switch(void** save, void* load) asm("emu_switch") __attribute__((visibility("hidden")));
typedef void* Context;
inline void change(Context& from, Context& to) { emu_switch(&from, to); }
inline void prepare(Context& context, char* stack, void (*start)()) {
#ifdef __x86_64__
    // At `start` the stack looks as after a call: 8 below a multiple of 16.
    void** top = (void**)(((uintptr_t)stack + stack_bytes) & ~(uintptr_t)15);
    *--top = nullptr;
    *--top = (void*)start;
    for (int i = 0; i < 6; i++) *--top = nullptr;
#else
    // Twenty saved registers, of which x30 says where to go on.
    void** top = (void**)(((uintptr_t)stack + stack_bytes) & ~(uintptr_t)15) - 20;
    std::fill(top, top + 20, nullptr);
    top[11] = (void*)start;
#endif
    context = top;
}
#else
typedef ucontext_t Context;
inline void change(Context& from, Context& to) { swapcontext(&from, &to); }
inline void prepare(Context& context, char* stack, void (*start)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = stack_bytes;
    context.uc_link = nullptr;
    makecontext(&context, start, 0);
}
#endif

// 16 bytes on their way from global to shared memory; zeros where there is no source.
struct Copy {
    char* to;
    const void* from;
    unsigned group;
};
struct Fiber {
    Context context;
    char* stack = nullptr;
    dim3 thread;
    unsigned id = 0;
    State state = State::run;
    int line = 0;
    unsigned exchanges = 0;
    std::vector<Copy> copies;
    unsigned groups = 0;
};
struct Body {
    virtual void run() = 0;
};

inline std::vector<Fiber> fibers;
inline Fiber* current;
inline Context scheduler;
inline dim3 block_index, block_size, grid_size;
inline Body* body;
inline unsigned order = 0;
inline char* dynamic_shared = nullptr;
// Words that the lanes of a warp exchange; two sets, so that one wait an exchange is enough.
inline unsigned long long slots[32][2][32][4];

inline void copy_async(char* to, const void* from) {
    memset(to, 0xFF, 16);
    current->copies.push_back({to, from, current->groups});
}
// Copies of all committed groups but the last `most` arrive; with a negative number those of no group, too.
inline void copies_arrive(int most) {
    auto& copies = current->copies;
    size_t num = 0;
    while (num < copies.size() && (int)copies[num].group < (int)current->groups - most) {
        if (copies[num].from) memcpy(copies[num].to, copies[num].from, 16);
        else memset(copies[num].to, 0, 16);
        num++;
    }
    copies.erase(copies.begin(), copies.begin() + num);
}

inline void start() {
    body->run();
    copies_arrive(-1);
    current->state = State::done;
    change(current->context, scheduler);
    abort();
}
inline void wait(State state, int line) {
    current->state = state;
    current->line = line;
    change(current->context, scheduler);
}

inline void deadlock() {
    for (Fiber& fiber : fibers)
        if (fiber.state != State::done) {
            const char* what = fiber.state == State::warp ? "the other lanes of its warp" : "the other threads of its block";
            fprintf(stderr, "emulator: deadlock, thread %u waits for %s at line %d\n", fiber.id, what, fiber.line);
            abort();
        }
}

// Runs a warp until every lane is done or waits for the block.
inline void run_warp(const unsigned* lanes, unsigned count) {
    for (;;) {
        unsigned done = 0, at_warp = 0;
        for (unsigned i = 0; i < count; i++) {
            Fiber& fiber = fibers[lanes[i]];
            if (fiber.state == State::run) {
                current = &fiber;
                change(scheduler, fiber.context);
            }
            done += fiber.state == State::done;
            at_warp += fiber.state == State::warp;
        }
        if (at_warp == 0) return;
        if (at_warp + done != count) deadlock();
        for (unsigned i = 0; i < count; i++)
            if (fibers[lanes[i]].state == State::warp) fibers[lanes[i]].state = State::run;
    }
}

inline void run_block() {
    unsigned count = block_size.x * block_size.y * block_size.z;
    if (fibers.size() < count) fibers.resize(count);
    std::vector<unsigned> lanes(count), warps((count + 31) / 32);
    std::iota(lanes.begin(), lanes.end(), 0u);
    std::iota(warps.begin(), warps.end(), 0u);
    for (unsigned i = 0; i < count; i++) {
        Fiber& fiber = fibers[i];
        if (!fiber.stack) fiber.stack = (char*)mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        prepare(fiber.context, fiber.stack, start);
        fiber.id = i;
        fiber.thread = {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
        fiber.state = State::run;
        fiber.exchanges = 0;
        fiber.groups = 0;
    }
    std::mt19937 shuffler(order);
    auto arrange = [&](std::vector<unsigned>::iterator from, std::vector<unsigned>::iterator to) {
        if (order == 1) std::reverse(from, to);
        if (order > 1) std::shuffle(from, to, shuffler);
    };
    arrange(warps.begin(), warps.end());
    for (unsigned w = 0; w < count; w += 32) arrange(lanes.begin() + w, lanes.begin() + std::min(w + 32, count));
    for (;;) {
        for (unsigned warp : warps) run_warp(&lanes[warp * 32], std::min(32u, count - warp * 32));
        unsigned done = 0;
        for (unsigned i = 0; i < count; i++) {
            done += fibers[i].state == State::done;
            if (fibers[i].state == State::block) fibers[i].state = State::run;
        }
        if (done == count) return;
        // As on a GPU of compute capability 7 or later: a barrier waits for the threads that have not ended.
    }
}

inline void launch(const unsigned* grid, const unsigned* block, unsigned shared_bytes, Body& kernel) {
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {block[0], block[1], block[2]};
    body = &kernel;
    std::vector<char> shared(shared_bytes + 15);
    dynamic_shared = (char*)(((uintptr_t)shared.data() + 15) & ~(uintptr_t)15);
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                block_index = {x, y, z};
                memset(dynamic_shared, 0xA5, shared_bytes);
                run_block();
            }
}

// All lanes of a warp put words in; each sees all lanes' words.
template <class F> auto warp(int line, unsigned long long a, unsigned long long b, unsigned long long c, unsigned long long d, F f) {
    unsigned warp = current->id / 32, lane = current->id % 32;
    auto& set = slots[warp][current->exchanges++ % 2];
    set[lane][0] = a, set[lane][1] = b, set[lane][2] = c, set[lane][3] = d;
    wait(State::warp, line);
    return f(set, lane);
}
template <class T> unsigned long long to_bits(T value) {
    unsigned long long bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}
template <class T> T from_bits(unsigned long long bits) {
    T value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

template <class... A> struct Call : Body {
    void (*kernel)(A...);
    void** arguments;
    template <size_t... I> void unpack(std::index_sequence<I...>) { kernel(*(A*)arguments[I]...); }
    void run() override { unpack(std::index_sequence_for<A...>()); }
};
template <class... A>
void call(void (*kernel)(A...), const unsigned* grid, const unsigned* block, unsigned shared_bytes, void** arguments, unsigned count) {
    if (count != sizeof...(A)) {
        fprintf(stderr, "emulator: %u arguments for a kernel of %zu\n", count, sizeof...(A));
        abort();
    }
    Call<A...> body;
    body.kernel = kernel;
    body.arguments = arguments;
    launch(grid, block, shared_bytes, body);
}
template <class... A> unsigned sizes(void (*)(A...), unsigned* bytes) {
    unsigned at = 0;
    ((bytes[at++] = sizeof(A)), ...);
    return at;
}
}  // namespace emu

// Exports a kernel as `run_<name>`, and the bytes of its arguments as `sizes_<name>`, which gives their number.
#define EMU_EXPORT(name)                                                                                                      \
    extern "C" void run_##name(const unsigned* grid, const unsigned* block, unsigned shared, void** arguments, unsigned n) { \
        emu::call(name, grid, block, shared, arguments, n);                                                                   \
    }                                                                                                                         \
    extern "C" unsigned sizes_##name(unsigned* bytes) { return emu::sizes(name, bytes); }

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define threadIdx (emu::current->thread)
#define blockIdx emu::block_index
#define blockDim emu::block_size
#define gridDim emu::grid_size
#define __syncthreads() emu::wait(emu::State::block, __LINE__)
#define __syncwarp(...) emu::wait(emu::State::warp, __LINE__)
#define DYN_SHARED(T, name) T* name = (T*)emu::dynamic_shared

template <class T> T __shfl_xor_sync(unsigned, T v, int mask) {
    return emu::warp(__LINE__, emu::to_bits(v), 0, 0, 0, [&](auto& s, unsigned l) { return emu::from_bits<T>(s[(l ^ mask) & 31][0]); });
}
template <class T> T __shfl_sync(unsigned, T v, int lane) {
    return emu::warp(__LINE__, emu::to_bits(v), 0, 0, 0, [&](auto& s, unsigned) { return emu::from_bits<T>(s[lane & 31][0]); });
}
template <class T> T __shfl_down_sync(unsigned, T v, unsigned by) {
    return emu::warp(__LINE__, emu::to_bits(v), 0, 0, 0, [&](auto& s, unsigned l) { return emu::from_bits<T>(s[l + by < 32 ? l + by : l][0]); });
}
template <class T> T __shfl_up_sync(unsigned, T v, unsigned by) {
    return emu::warp(__LINE__, emu::to_bits(v), 0, 0, 0, [&](auto& s, unsigned l) { return emu::from_bits<T>(s[l >= by ? l - by : l][0]); });
}
inline unsigned __ballot_sync(unsigned, int predicate) {
    return emu::warp(__LINE__, predicate != 0, 0, 0, 0, [&](auto& s, unsigned) {
        unsigned bits = 0;
        for (unsigned i = 0; i < 32; i++) bits |= (unsigned)(s[i][0] != 0) << i;
        return bits;
    });
}
inline float __uint_as_float(unsigned u) { return emu::from_bits<float>(u); }
inline unsigned __float_as_uint(float f) { return (unsigned)emu::to_bits(f); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
// These never become part of a fused operation, also where the compiler may contract.
inline float apart(float x) {
    volatile float y = x;
    return y;
}
inline float __fmul_rn(float a, float b) { return apart(a * b); }
inline float __fadd_rn(float a, float b) { return apart(apart(a) + apart(b)); }
inline float __fsub_rn(float a, float b) { return apart(apart(a) - apart(b)); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
template <class T> T __ldg(const T* p) { return *p; }
template <class T> T min(T a, T b) { return b < a ? b : a; }
template <class T> T max(T a, T b) { return a < b ? b : a; }
inline unsigned atomicAdd(unsigned* p, unsigned v) {
    unsigned old = *p;
    *p += v;
    return old;
}
