// class_nms: of each class the best top_k candidates, decoded, after greedy non-maximum suppression.
//
//   fired        (B, K, T) uint32   which priors fired, T = ceil(P / 32); see score_candidates
//   scores       (B, K, P) float32  > 0 where fired
//   loc          (B, P, 4) HEAD     offsets
//   priors       (P, 4) float32     default boxes cx cy w h, normalised
//   kept_boxes   (B, K, M, 4) float32  out: corners, normalised, best score first; M = min(top_k, max_detections)
//   kept_scores  (B, K, M) float32     out; beyond the count nothing is written
//   kept_counts  (B, K) int32          out; all written
//
// Launch: grid (K, B). Dynamic shared memory: 8 * top_k + max(8 * capacity, 16 * top_k) + 4 * M bytes;
// capacity >= top_k: so many candidates are ordered without a radix select before.
// The cost is bounded by P and top_k, whatever the scores: 4 + ceil(log2(P) / 8) passes over the candidates at
// most, then top_k boxes against at most M kept ones. No order depends on timing: candidates are ranked by
// (score, lower prior), in which no two are equal.
// Twin: edge_ssd.reference.class_nms, with candidate_boxes and nms.

namespace {

// exp of it scales the prior at most: log(1000 / 16), as edge_ssd.boxes.MAX_LOG_SCALE.
constexpr float MAX_LOG_SCALE = 4.135166556742356f;

// The candidates of one class in one image: a bit and a score per prior.
struct Fired {
    const u32* words;
    const float* scores;
    int num_words, num_priors;

    template <class Visit>
    __device__ void for_each(Visit visit) const
    {
        for (int w = warp_index(); w < num_words; w += warp_count()) {
            u32 word = words[w];
            if (word == 0) continue;
            int prior = w * 32 + lane_index();
            bool valid = word >> lane_index() & 1;
            visit(valid, valid ? order_key(scores[prior], prior, num_priors) : 0);
        }
    }

    __device__ int count() const
    {
        int mine = 0;
        for (int w = threadIdx.x; w < num_words; w += blockDim.x) mine += __popc(words[w]);
        return block_sum(mine);
    }
};

__device__ inline float clipped(float v) { return v < 0 ? 0 : v > 1 ? 1 : v; }  // NaN stays, as in NumPy

// The paper's eq. 2 inverted, with the operations of edge_ssd.boxes.decode_boxes in their order.
__device__ float4 decode(const HEAD* loc, float4 prior, float centre_variance, float size_variance, bool y_first, bool clip)
{
    float dx = widen(loc[y_first ? 1 : 0]), dy = widen(loc[y_first ? 0 : 1]);
    float dw = widen(loc[y_first ? 3 : 2]), dh = widen(loc[y_first ? 2 : 3]);
    float cx = prior.x + dx * centre_variance * prior.z, cy = prior.y + dy * centre_variance * prior.w;
    float half_w = prior.z * expf(fminf(dw * size_variance, MAX_LOG_SCALE)) * 0.5f;
    float half_h = prior.w * expf(fminf(dh * size_variance, MAX_LOG_SCALE)) * 0.5f;
    float4 box = make_float4(cx - half_w, cy - half_h, cx + half_w, cy + half_h);
    return clip ? make_float4(clipped(box.x), clipped(box.y), clipped(box.z), clipped(box.w)) : box;
}

__device__ inline float area(float4 box) { return (box.z - box.x) * (box.w - box.y); }

__device__ inline bool overlaps(float4 a, float4 b, float iou_threshold)
{
    float width = fmaxf(fminf(a.z, b.z) - fmaxf(a.x, b.x), 0), height = fmaxf(fminf(a.w, b.w) - fmaxf(a.y, b.y), 0);
    float inter = width * height;
    return inter > iou_threshold * (area(a) + area(b) - inter);
}

// Greedy NMS over `count` boxes, best first, 32 at a time: all warps compare them with the kept boxes and
// with each other, then each warp settles the 32 by itself, which needs no exchange. Returns how many are kept.
__device__ int suppress(const float4* boxes, int count, float iou_threshold, int* kept, int max_kept)
{
    __shared__ u32 by_kept[32], by_earlier[32];  // per warp: lanes that a kept box drops; per lane: lanes that it drops
    const int lane = lane_index(), warp = warp_index();
    int num_kept = 0;
    for (int start = 0; start < count && num_kept < max_kept; start += 32) {
        const int mine = start + lane;
        const bool present = mine < count;
        const float4 box = present ? boxes[mine] : make_float4(0, 0, 0, 0);
        bool drop = false;
        for (int j = warp; j < num_kept; j += warp_count()) drop = drop || overlaps(boxes[kept[j]], box, iou_threshold);
        const u32 dropped = __ballot_sync(ALL_LANES, drop);
        if (lane == 0) by_kept[warp] = dropped;
        for (int i = warp; i < 32; i += warp_count()) {
            const bool both = present && i < lane && overlaps(boxes[start + i], box, iou_threshold);
            const u32 later = __ballot_sync(ALL_LANES, both);
            if (lane == 0) by_earlier[i] = later;
        }
        __syncthreads();
        u32 alive = __ballot_sync(ALL_LANES, present);
        for (int w = 0; w < warp_count(); ++w) alive &= ~by_kept[w];
        const u32 drops = by_earlier[lane];
        for (int i = 0; i < 32; ++i) {
            const u32 later = __shfl_sync(ALL_LANES, drops, i);
            if (alive >> i & 1) alive &= ~later;
        }
        const int place = num_kept + __popc(alive & lanes_below());
        if (warp == 0 && (alive >> lane & 1) && place < max_kept) kept[place] = mine;
        num_kept = min(num_kept + __popc(alive), max_kept);
        __syncthreads();
    }
    return num_kept;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(1024) class_nms(
    const u32* __restrict__ fired, const float* __restrict__ scores, const HEAD* __restrict__ loc,
    const float4* __restrict__ priors, float4* __restrict__ kept_boxes, float* __restrict__ kept_scores,
    int* __restrict__ kept_counts, int num_priors, int rank_bits, int capacity, int top_k, int max_kept,
    float iou_threshold, float centre_variance, float size_variance, int y_first, int clip)
{
    extern __shared__ __align__(16) unsigned char shared[];
    const int num_tiles = (num_priors + 31) / 32, image = blockIdx.y;
    const size_t row = (size_t)image * gridDim.x + blockIdx.x;
    const Fired candidates = {fired + row * num_tiles, scores + row * num_priors, num_tiles, num_priors};

    int count = candidates.count();
    if (count == 0) {
        if (threadIdx.x == 0) kept_counts[row] = 0;
        return;
    }
    // The boxes take the place of the collected keys once these are in order.
    u64* collected = (u64*)shared;
    float4* boxes = (float4*)shared;
    u64* ordered = (u64*)(shared + max(8 * capacity, 16 * top_k));
    int* kept = (int*)(ordered + top_k);

    const u64 smallest = count > capacity ? smallest_key_of_best(candidates, top_k, rank_bits) : 0;
    count = collect(candidates, smallest, collected);
    place_in_order(collected, count, top_k, [&](int i, u64 key) { ordered[i] = key; });
    count = min(count, top_k);
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const u32 prior = rank_of(ordered[i], num_priors);
        const HEAD* offsets = loc + ((size_t)image * num_priors + prior) * 4;
        boxes[i] = decode(offsets, priors[prior], centre_variance, size_variance, y_first, clip);
    }
    __syncthreads();
    const int num_kept = suppress(boxes, count, iou_threshold, kept, max_kept);
    for (int i = threadIdx.x; i < num_kept; i += blockDim.x) {
        kept_boxes[row * max_kept + i] = boxes[kept[i]];
        kept_scores[row * max_kept + i] = score_of(ordered[kept[i]]);
    }
    if (threadIdx.x == 0) kept_counts[row] = num_kept;
}
