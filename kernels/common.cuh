// common.cuh: what the kernels share. source.py puts it in front of each .cu file.
//
// Blocks are one-dimensional and a multiple of 32 threads, at most 1024. Every warp function below is
// called by all 32 lanes, every block function by all threads.

#include <cuda_fp16.h>

using u32 = unsigned int;
using u64 = unsigned long long;

// The type of a head, loc or conf: float or __half, given by the launcher.
#ifndef HEAD
#define HEAD float
#endif

constexpr u32 ALL_LANES = 0xffffffffu;

__device__ inline int lane_index() { return threadIdx.x % 32; }
__device__ inline int warp_index() { return threadIdx.x / 32; }
__device__ inline int warp_count() { return blockDim.x / 32; }
__device__ inline u32 lanes_below() { return (1u << lane_index()) - 1; }

__device__ inline float widen(float value) { return value; }
__device__ inline float widen(__half value) { return __half2float(value); }

__device__ inline void store(float* at, float value) { *at = value; }
__device__ inline void store(__half* at, float value) { *at = __float2half_rn(value); }

// NaN and Inf have all exponent bits set.
__device__ inline bool is_finite(float value) { return (__float_as_uint(value) & 0x7f800000u) != 0x7f800000u; }

// Sum over the block; every thread gets it.
__device__ inline int block_sum(int value)
{
    __shared__ int warp_sums[32];
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(ALL_LANES, value, step);
    __syncthreads();  // the sums of an earlier call have been read
    if (lane_index() == 0) warp_sums[warp_index()] = value;
    __syncthreads();
    int total = 0;
    for (int w = 0; w < warp_count(); ++w) total += warp_sums[w];
    return total;
}

// A candidate's place in the order: score first, then the lower rank. Scores lie above a threshold of at least
// 0, so their bits order as unsigned integers do. Keys of different candidates differ: order is total.
__device__ inline u64 order_key(float score, u32 rank, u32 ranks) { return (u64)__float_as_uint(score) << 32 | (ranks - 1 - rank); }
__device__ inline float score_of(u64 key) { return __uint_as_float((u32)(key >> 32)); }
__device__ inline u32 rank_of(u64 key, u32 ranks) { return ranks - 1 - (u32)key; }

// One count for a digit of 0..255; 256 counts nothing. Lanes with the same digit add once: where all scores
// tie, 32 atomics on one address would run one after the other.
__device__ inline void count_digit(int* histogram, int digit)
{
    u32 same = __match_any_sync(ALL_LANES, digit);
    bool first = (same & lanes_below()) == 0;
    if (digit < 256 && first) atomicAdd(&histogram[digit], __popc(same));
}

// The digit in which the `wanted`-th largest key lies: by one warp, from the top down.
struct Digit {
    int digit, above, count;  // above: keys with a larger digit; count: keys with this one
};

__device__ inline Digit find_digit(const int* histogram, int wanted)
{
    int highest = 255 - 8 * lane_index(), mine = 0;
    for (int i = 0; i < 8; ++i) mine += histogram[highest - i];
    int up_to = mine;
    for (int step = 1; step < 32; step *= 2) {
        int before = __shfl_up_sync(ALL_LANES, up_to, step);
        if (lane_index() >= step) up_to += before;
    }
    int above = up_to - mine, digit = highest;
    bool here = above < wanted && wanted <= up_to;
    if (here)
        while (above + histogram[digit] < wanted) above += histogram[digit--];
    int owner = __ffs(__ballot_sync(ALL_LANES, here)) - 1;
    digit = __shfl_sync(ALL_LANES, digit, owner);
    return {digit, __shfl_sync(ALL_LANES, above, owner), histogram[digit]};
}

// A key such that exactly `wanted` candidates have one that is not smaller; there are more than `wanted`.
//
// candidates.for_each(visit) calls visit(valid, key) with whole warps, for each candidate once.
// rank_bits: bits that the lower half of a key uses. Radix select, 8 bits a pass, from the top; it ends where a
// digit divides the candidates as asked for, and otherwise with the last digit, since keys differ.
template <class Candidates>
__device__ u64 smallest_key_of_best(const Candidates& candidates, int wanted, int rank_bits)
{
    __shared__ int histogram[256];
    __shared__ Digit found;
    u64 key = 0, decided = 0;
    int shift = 56;
    while (true) {
        for (int i = threadIdx.x; i < 256; i += blockDim.x) histogram[i] = 0;
        __syncthreads();
        candidates.for_each([&](bool valid, u64 candidate) {
            bool open = valid && (candidate & decided) == key;
            count_digit(histogram, open ? (int)(candidate >> shift & 255) : 256);
        });
        __syncthreads();
        if (warp_index() == 0) {
            Digit digit = find_digit(histogram, wanted);
            if (lane_index() == 0) found = digit;
        }
        __syncthreads();
        key |= (u64)found.digit << shift;
        decided |= (u64)255 << shift;
        wanted -= found.above;
        if (found.count == wanted || shift == 0) return key;
        shift = shift == 32 ? (rank_bits + 7) / 8 * 8 - 8 : shift - 8;
        __syncthreads();  // `found` and the histogram have been read
    }
}

// The keys of the candidates that are not smaller than `smallest`, into shared memory, in any order.
// Returns how many, at most `capacity` by the caller's choice of `smallest`.
template <class Candidates>
__device__ int collect(const Candidates& candidates, u64 smallest, u64* keys)
{
    __shared__ int count;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    candidates.for_each([&](bool valid, u64 key) {
        bool taken = valid && key >= smallest;
        u32 lanes = __ballot_sync(ALL_LANES, taken);
        int first = 0;
        if (lane_index() == 0 && lanes) first = atomicAdd(&count, __popc(lanes));
        first = __shfl_sync(ALL_LANES, first, 0);
        if (taken) keys[first + __popc(lanes & lanes_below())] = key;
    });
    __syncthreads();
    return count;
}

// place(i, key) for the best `wanted` of `count` keys in shared memory, i = 0 for the largest. Each thread counts
// what precedes its own keys: the order is the same whatever order they were collected in.
template <class Place>
__device__ void place_in_order(const u64* keys, int count, int wanted, Place place)
{
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        u64 key = keys[i];
        int before = 0;
        for (int j = 0; j < count; ++j) before += keys[j] > key;
        if (before < wanted) place(before, key);
    }
}
