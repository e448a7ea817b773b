// score_candidates: class outputs -> which (prior, class) pass the threshold, and their probabilities.
//
//   loc      (B, P, 4) HEAD     looked at for NaN and Inf only
//   conf     (B, P, C) HEAD     logits, or probabilities where activation is NONE
//   columns  (K,) int32         the column of conf of each class that is looked for
//   fired    (B, K, T) uint32   out, T = ceil(P / 32): bit i of word t says that prior 32 t + i passes; all written
//   scores   (B, K, P) float32  out: probabilities, written where fired alone
//   dropped  (B, T) int32       out: priors of the tile that hold a NaN or Inf; they fire for no class
//
// Launch: grid (T, B). Dynamic shared memory: 32 * (chunk | 1) floats; chunk: columns held at a time, C where
// they fit. The rows of a tile are read once where they fit, else three times.
// A lane is a prior and the warps divide the columns, so shared memory is read without conflicts (odd stride)
// and a softmax needs no exchange between lanes. The place of a score is its prior: no order to restore, no
// counter in global memory, nothing that can overflow.
// Twin: edge_ssd.reference.score_candidates, with finite_priors and activate.

enum { SOFTMAX = 0, SIGMOID = 1, NONE = 2 };

namespace {

constexpr float LOWEST = -3.402823466e38f;

// The class outputs of 32 priors, `chunk` columns at a time.
struct Tile {
    const HEAD* rows;  // of the first prior
    float* held;       // row r, column c of the chunk at held[r * stride + c]
    int num_rows, num_columns, chunk, stride;

    __device__ bool is_whole() const { return chunk >= num_columns; }

    __device__ void hold(int first, int count) const
    {
        __syncthreads();  // what was held has been read
#pragma unroll 4
        for (int row = warp_index(); row < num_rows; row += warp_count()) {
            const HEAD* source = rows + (size_t)row * num_columns + first;
#pragma unroll 4
            for (int i = lane_index(); i < count; i += 32) held[row * stride + i] = widen(source[i]);
        }
        __syncthreads();
    }

    // visit(column, value) for the columns of this warp and the prior of this lane.
    template <class Visit>
    __device__ void for_each_column(Visit visit) const
    {
        for (int first = 0; first < num_columns; first += chunk) {
            int count = min(chunk, num_columns - first);
            if (!is_whole()) hold(first, count);
            if (lane_index() < num_rows)
                for (int i = warp_index(); i < count; i += warp_count()) visit(first + i, held[lane_index() * stride + i]);
        }
    }
};

// Per lane, the result of combining `mine` over all warps, in the order of the warps.
template <class Combine>
__device__ float over_warps(float mine, float (*partial)[32], Combine combine)
{
    __syncthreads();  // an earlier result has been read
    partial[warp_index()][lane_index()] = mine;
    __syncthreads();
    float all = partial[0][lane_index()];
    for (int w = 1; w < warp_count(); ++w) all = combine(all, partial[w][lane_index()]);
    return all;
}

__device__ bool finite_offsets(const HEAD* row)
{
    return is_finite(widen(row[0])) && is_finite(widen(row[1])) && is_finite(widen(row[2])) && is_finite(widen(row[3]));
}

}  // namespace

extern "C" __global__ void __launch_bounds__(1024) score_candidates(
    const HEAD* __restrict__ loc, const HEAD* __restrict__ conf, const int* __restrict__ columns,
    u32* __restrict__ fired, float* __restrict__ scores, int* __restrict__ dropped,
    int num_priors, int num_columns, int num_classes, int chunk, int activation, float score_threshold)
{
    extern __shared__ float held[];
    __shared__ float partial[32][32];
    const int tile_index = blockIdx.x, num_tiles = gridDim.x, image = blockIdx.y, lane = lane_index();
    const size_t first_prior = (size_t)image * num_priors + tile_index * 32;
    const int num_rows = min(32, num_priors - tile_index * 32);
    const Tile tile = {conf + first_prior * num_columns, held, num_rows, num_columns, chunk, chunk | 1};
    if (tile.is_whole()) tile.hold(0, num_columns);

    float peak = LOWEST;
    float broken = warp_index() == 0 && lane < num_rows && !finite_offsets(loc + (first_prior + lane) * 4);
    tile.for_each_column([&](int, float value) {
        peak = fmaxf(peak, value);
        if (!is_finite(value)) broken = 1;
    });
    broken = over_warps(broken, partial, [](float a, float b) { return fmaxf(a, b); });
    const u32 broken_rows = __ballot_sync(ALL_LANES, broken != 0);
    if (threadIdx.x == 0) dropped[image * num_tiles + tile_index] = __popc(broken_rows);

    float sum = 1;
    if (activation == SOFTMAX) {
        peak = over_warps(peak, partial, [](float a, float b) { return fmaxf(a, b); });
        float mine = 0;
        tile.for_each_column([&](int column, float value) {
            float e = expf(value - peak);
            mine += e;
            if (tile.is_whole()) held[lane * tile.stride + column] = e;
        });
        sum = over_warps(mine, partial, [](float a, float b) { return a + b; });
    }
    // A division for few: what lies this far below the threshold cannot round up to it.
    const float least = score_threshold * sum * 0.99999f;
    const bool sound = lane < num_rows && broken == 0;
    for (int first = 0; first < num_columns; first += chunk) {
        const int count = min(chunk, num_columns - first);
        if (!tile.is_whole()) tile.hold(first, count);
        else __syncthreads();  // the exponentials of the other warps
        for (int k = warp_index(); k < num_classes; k += warp_count()) {
            const int column = columns[k] - first;
            if (column < 0 || column >= count) continue;
            float score = sound ? held[lane * tile.stride + column] : 0;
            if (activation == SOFTMAX) {
                if (!tile.is_whole()) score = expf(score - peak);
                score = score >= least ? score / sum : 0;
            } else if (activation == SIGMOID) {
                score = 1 / (1 + expf(-score));
            }
            const bool passes = sound && score > score_threshold;
            const u32 word = __ballot_sync(ALL_LANES, passes);
            const size_t row = (size_t)image * num_classes + k;
            if (lane == 0) fired[row * num_tiles + tile_index] = word;
            if (passes) scores[row * num_priors + tile_index * 32 + lane] = score;
        }
    }
}
