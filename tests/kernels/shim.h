// CUDA for a CPU: enough of it to run the kernels of this project as ordinary C++20, for tests without a GPU.
//
// One block runs at a time. Its threads are fibers (default: fast, and a barrier that not all threads reach is
// reported), or with SHIM_THREADS real threads, whose races ThreadSanitizer sees. `__shared__` variables are
// static, in a section of their own that is filled with garbage before each block.
// Warp functions want all 32 lanes, and all at the same function: anything else is reported.
// simulated.py compiles this in front of a kernel's source and calls shim_launch.

#pragma once

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>
#ifdef SHIM_THREADS
#include <barrier>
#include <memory>
#include <thread>
#else
#include <csetjmp>
#include <ucontext.h>
#endif

#define __global__
#define __device__
#define __restrict__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__ static __attribute__((section("shim_shared")))
#define READ_GLOBAL_TIMER(now) now = shim::next_time()

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

namespace shim {

constexpr int WARP = 32, MOST_THREADS = 1024;

// What a thread brings to a warp function, and which function it called.
struct Lane {
    uint64_t value;
    const char* function;
};

struct Thread {
    dim3 index;
    int number = 0;
#ifndef SHIM_THREADS
    enum State { READY, AT_BLOCK, AT_WARP, DONE } state = READY;
    bool started = false;
    jmp_buf place;
    ucontext_t start;
    std::vector<char> stack;
#endif
};

struct Block {
    dim3 index, size, grid;
    std::vector<Thread> threads = std::vector<Thread>(MOST_THREADS);
    Lane lanes[MOST_THREADS];
    std::function<void()> kernel;
    std::vector<unsigned char> dynamic_shared;
    const char* error = nullptr;
#ifdef SHIM_THREADS
    std::unique_ptr<std::barrier<>> barrier;
    std::vector<std::unique_ptr<std::barrier<>>> warp_barriers;
#else
    jmp_buf scheduler;
#endif
};

inline Block block;

#ifdef SHIM_THREADS
inline thread_local Thread* self;

inline void wait_for_block() { block.barrier->arrive_and_wait(); }
inline void wait_for_warp() { block.warp_barriers[self->number / WARP]->arrive_and_wait(); }
#else
inline Thread* self;

inline void wait(Thread::State state)
{
    self->state = state;
    if (!_setjmp(self->place)) _longjmp(block.scheduler, 1);
}
inline void wait_for_block() { wait(Thread::AT_BLOCK); }
inline void wait_for_warp() { wait(Thread::AT_WARP); }
#endif

inline void fail(const char* message)
{
    if (!block.error) block.error = message;
}

inline uint64_t next_time()
{
    static std::atomic<uint64_t> now{0};
    return now += 1000;
}

template <class T>
T* dynamic_shared() { return (T*)block.dynamic_shared.data(); }

// The lanes of this thread's warp once each has brought its value; valid until wait_for_warp.
template <class T>
const Lane* exchange(const char* function, unsigned mask, T value)
{
    if (mask != 0xffffffffu) fail("a warp function with a mask that is not all lanes");
    Lane lane = {0, function};
    static_assert(sizeof(T) <= sizeof lane.value);
    std::memcpy(&lane.value, &value, sizeof value);
    block.lanes[self->number] = lane;
    wait_for_warp();
    const Lane* warp = block.lanes + self->number / WARP * WARP;
    for (int i = 0; i < WARP; ++i)
        if (std::strcmp(warp[i].function, function)) fail("lanes of a warp at different warp functions");
    return warp;
}

template <class T>
T value_of(const Lane& lane)
{
    T value;
    std::memcpy(&value, &lane.value, sizeof value);
    return value;
}

template <class T>
T shuffle(const char* function, unsigned mask, T value, int source)
{
    const Lane* warp = exchange(function, mask, value);
    T result = source >= 0 && source < WARP ? value_of<T>(warp[source]) : value;
    wait_for_warp();
    return result;
}

// ---- running a block

extern "C" char __start_shim_shared[] __attribute__((weak));
extern "C" char __stop_shim_shared[] __attribute__((weak));

inline void fill_with_garbage()
{
#ifndef __SANITIZE_ADDRESS__  // it lays guards between the variables
    if (__start_shim_shared) std::memset(__start_shim_shared, 0xcd, __stop_shim_shared - __start_shim_shared);
#endif
    std::memset(block.dynamic_shared.data(), 0xcd, block.dynamic_shared.size());
}

#ifdef SHIM_THREADS
inline void run_grid(unsigned num_threads)
{
    block.barrier = std::make_unique<std::barrier<>>(num_threads);
    block.warp_barriers.clear();
    for (unsigned w = 0; w < num_threads / WARP; ++w) block.warp_barriers.push_back(std::make_unique<std::barrier<>>(WARP));
    std::barrier<> between(num_threads + 1);
    bool more = true;
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < num_threads; ++i)
        threads.emplace_back([&, i] {
            self = &block.threads[i];
            while (true) {
                between.arrive_and_wait();
                if (!more) return;
                block.kernel();
                between.arrive_and_wait();
            }
        });
    for (unsigned z = 0; z < block.grid.z; ++z)
        for (unsigned y = 0; y < block.grid.y; ++y)
            for (unsigned x = 0; x < block.grid.x; ++x) {
                block.index = {x, y, z};
                fill_with_garbage();
                between.arrive_and_wait();
                between.arrive_and_wait();
            }
    more = false;
    between.arrive_and_wait();
    for (auto& thread : threads) thread.join();
}
#else
inline void enter()
{
    block.kernel();
    self->state = Thread::DONE;
    _longjmp(block.scheduler, 1);
}

inline void resume(Thread& thread)
{
    if (_setjmp(block.scheduler)) return;
    self = &thread;
    if (thread.started) _longjmp(thread.place, 1);
    thread.started = true;
    getcontext(&thread.start);
    if (thread.stack.empty()) thread.stack.resize(128 << 10);
    thread.start.uc_stack.ss_sp = thread.stack.data();
    thread.start.uc_stack.ss_size = thread.stack.size();
    makecontext(&thread.start, enter, 0);
    setcontext(&thread.start);
}

// Lets go who waits when all are there; whether anyone did.
inline bool release(Thread* first, unsigned count, Thread::State state, bool done_too)
{
    for (unsigned i = 0; i < count; ++i)
        if (first[i].state != state && !(done_too && first[i].state == Thread::DONE)) return false;
    bool any = false;
    for (unsigned i = 0; i < count; ++i)
        if (first[i].state == state) first[i].state = Thread::READY, any = true;
    return any;
}

inline void run_block(unsigned num_threads, bool backwards)
{
    Thread* threads = block.threads.data();
    for (unsigned i = 0; i < num_threads; ++i) threads[i].state = Thread::READY, threads[i].started = false;
    while (!block.error) {
        bool ran = false;
        for (unsigned i = 0; i < num_threads; ++i) {
            Thread& thread = threads[backwards ? num_threads - 1 - i : i];
            if (thread.state == Thread::READY) resume(thread), ran = true;
        }
        bool released = false;
        for (unsigned w = 0; w < num_threads; w += WARP) released |= release(threads + w, WARP, Thread::AT_WARP, false);
        released |= release(threads, num_threads, Thread::AT_BLOCK, false);
        if (ran || released) continue;
        for (unsigned i = 0; i < num_threads; ++i)
            if (threads[i].state != Thread::DONE) fail("threads of a block wait where the others do not come");
        return;
    }
}

inline void run_grid(unsigned num_threads)
{
    // Blocks, and threads in every other block, run in falling order: no result may depend on it.
    for (unsigned z = block.grid.z; z-- > 0;)
        for (unsigned y = block.grid.y; y-- > 0;)
            for (unsigned x = block.grid.x; x-- > 0 && !block.error;) {
                block.index = {x, y, z};
                fill_with_garbage();
                run_block(num_threads, (x + y) % 2);
            }
}
#endif

// ---- launching: a kernel gets its arguments as cuLaunchKernel takes them, pointers to values

template <class... Parameters, size_t... I>
void call(void (*kernel)(Parameters...), void** arguments, std::index_sequence<I...>)
{
    kernel(*(std::remove_const_t<Parameters>*)arguments[I]...);
}

template <class... Parameters>
const char* launch(void (*kernel)(Parameters...), dim3 grid, unsigned threads, size_t shared_bytes, void** arguments)
{
    block.grid = grid;
    block.size = {threads, 1, 1};
    block.error = nullptr;
    block.dynamic_shared.assign(shared_bytes, 0);
    block.kernel = [=] { call(kernel, arguments, std::index_sequence_for<Parameters...>()); };
    for (unsigned i = 0; i < threads; ++i) block.threads[i].index = {i, 0, 0}, block.threads[i].number = i;
    run_grid(threads);
    return block.error;
}

// One character for each parameter: p a pointer, i a 4-byte integer, f a float, ? what the tests do not know.
template <class... Parameters>
const char* signature(void (*)(Parameters...))
{
    static const char letters[] = {
        (std::is_pointer_v<Parameters>                                       ? 'p'
         : std::is_same_v<std::remove_const_t<Parameters>, float>            ? 'f'
         : std::is_integral_v<Parameters> && sizeof(Parameters) == 4 ? 'i'
                                                                             : '?')...,
        0};
    return letters;
}

}  // namespace shim

#define threadIdx (shim::self->index)
#define blockIdx (shim::block.index)
#define blockDim (shim::block.size)
#define gridDim (shim::block.grid)

// ---- the CUDA functions that the kernels use

inline void __syncthreads() { shim::wait_for_block(); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source) { return shim::shuffle("shfl", mask, value, source & 31); }
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int other) { return shim::shuffle("shfl_xor", mask, value, threadIdx.x % 32 ^ other); }
template <class T>
T __shfl_up_sync(unsigned mask, T value, int by) { return shim::shuffle("shfl_up", mask, value, (int)(threadIdx.x % 32) - by); }

inline unsigned __ballot_sync(unsigned mask, int predicate)
{
    const shim::Lane* warp = shim::exchange("ballot", mask, predicate != 0);
    unsigned word = 0;
    for (int i = 0; i < shim::WARP; ++i) word |= (unsigned)shim::value_of<bool>(warp[i]) << i;
    shim::wait_for_warp();
    return word;
}

inline unsigned __match_any_sync(unsigned mask, int value)
{
    const shim::Lane* warp = shim::exchange("match_any", mask, value);
    unsigned word = 0;
    for (int i = 0; i < shim::WARP; ++i) word |= (unsigned)(shim::value_of<int>(warp[i]) == value) << i;
    shim::wait_for_warp();
    return word;
}

inline int atomicAdd(int* at, int value) { return std::atomic_ref<int>(*at).fetch_add(value); }
inline int __popc(unsigned word) { return __builtin_popcount(word); }
inline int __ffs(unsigned word) { return __builtin_ffs(word); }

template <class To, class From>
To shim_bits(From value)
{
    To result;
    static_assert(sizeof result == sizeof value);
    std::memcpy(&result, &value, sizeof result);
    return result;
}
inline unsigned __float_as_uint(float value) { return shim_bits<unsigned>(value); }
inline float __uint_as_float(unsigned value) { return shim_bits<float>(value); }

// A type of its own, so that no arithmetic on halves slips in unseen.
struct __half {
    _Float16 value;
};
inline float __half2float(__half h) { return h.value; }
inline __half __float2half_rn(float f) { return {(_Float16)f}; }

struct alignas(16) float4 {
    float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
