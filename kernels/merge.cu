// merge: the best max_detections over all classes of an image, as rows.
//
//   kept_boxes   (B, K, M, 4) float32  of class_nms: corners, best score first
//   kept_scores  (B, K, M) float32
//   kept_counts  (B, K) int32          entries used of each class
//   dropped      (B, T) int32          of score_candidates: priors with a NaN or Inf, per tile
//   labels       (K,) int32            label of each class that was looked for, ascending
//   rows         (B, D, 6) float32     out: x1 y1 x2 y2 score label, best first, zeros beyond the count
//   counts       (B, 2) int32          out: rows used, priors dropped
//
// Launch: grid (1, B). Dynamic shared memory: 8 * D bytes. D = max_detections.
// Equal scores: lower class, then lower prior, which within a class is the order they come in.
// Twin: edge_ssd.reference.merge.

namespace {

// What class_nms kept of one image. The rank of an entry is its place in (K, M).
struct Kept {
    const float* scores;
    const int* counts;
    int num_classes, max_kept;

    __device__ u32 ranks() const { return (u32)num_classes * max_kept; }

    template <class Visit>
    __device__ void for_each(Visit visit) const
    {
        for (int k = warp_index(); k < num_classes; k += warp_count()) {
            const int count = counts[k];
            for (int first = 0; first < count; first += 32) {
                const int i = first + lane_index();
                const u32 rank = (u32)k * max_kept + i;
                visit(i < count, i < count ? order_key(scores[rank], rank, ranks()) : 0);
            }
        }
    }
};

__device__ int sum_of(const int* values, int count)
{
    int mine = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) mine += values[i];
    return block_sum(mine);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(1024) merge(
    const float4* __restrict__ kept_boxes, const float* __restrict__ kept_scores, const int* __restrict__ kept_counts,
    const int* __restrict__ dropped, const int* __restrict__ labels, float* __restrict__ rows, int* __restrict__ counts,
    int num_classes, int num_tiles, int rank_bits, int max_kept, int max_detections)
{
    extern __shared__ __align__(16) u64 best[];
    const int image = blockIdx.y;
    const Kept kept = {kept_scores + (size_t)image * num_classes * max_kept, kept_counts + image * num_classes, num_classes, max_kept};
    const float4* boxes = kept_boxes + (size_t)image * num_classes * max_kept;
    rows += (size_t)image * max_detections * 6;

    const int total = sum_of(kept.counts, num_classes);
    const int num_dropped = sum_of(dropped + image * num_tiles, num_tiles);
    const u64 smallest = total > max_detections ? smallest_key_of_best(kept, max_detections, rank_bits) : 0;
    const int count = collect(kept, smallest, best);
    place_in_order(best, count, max_detections, [&](int i, u64 key) {
        const u32 rank = rank_of(key, kept.ranks());
        const float4 box = boxes[rank];
        float* row = rows + i * 6;
        row[0] = box.x, row[1] = box.y, row[2] = box.z, row[3] = box.w;
        row[4] = score_of(key), row[5] = (float)labels[rank / max_kept];
    });
    for (int i = count * 6 + threadIdx.x; i < max_detections * 6; i += blockDim.x) rows[i] = 0;
    if (threadIdx.x == 0) counts[image * 2] = count, counts[image * 2 + 1] = num_dropped;
}
