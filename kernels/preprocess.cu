// preprocess: camera frames -> network input, in one pass: resize, colour, normalisation, HWC to CHW.
//
//   frames     (B,) FrameDescriptor    one for each image: where its pixels lie, what they mean, where they go
//   constants  (61,) float32           per channel of the input mean, 1 / std, padding; then four colour matrices
//   batch      (B, 3, H, W) BATCH      out: float or __half, all written
//
// Launch: grid (ceil(W / 32), ceil(H / 8), B). Dynamic shared memory: `shared_bytes`, at least 1 KiB.
// Grid and arguments depend on the network alone: one captured launch serves every frame size and format.
// A block makes 32 x 8 pixels of the input. The source rows that bilinear interpolation reads for them are
// fetched once, in 16-byte pieces, into shared memory (memory that an integrated GPU shares with the CPU is
// not cached there); a piece that lies across two blocks is fetched by both. When a frame is so large that they
// do not fit, the block works in parts.
// Sampling: pixel centres at half, no antialiasing, edges repeated; colour before interpolation; float32.
// Twin: edge_ssd.reference.preprocess.

using u8 = unsigned char;

#ifndef BATCH
#define BATCH float
#endif

// 64 bytes; kernels/preprocess.py has the same fields.
struct FrameDescriptor {
    u64 plane[3];
    int pitch[3];                   // bytes from row to row
    int height, width;              // of the frame
    int inner_height, inner_width;  // of the resized frame inside the input
    int top, left;                  // of it, the rest is padding
    u8 format, color_matrix, unused[2];
};

enum { BGR8, RGB8, BGRA8, RGBA8, MONO8, NV12, I420, YUYV, UYVY };

namespace {

constexpr int TILE_WIDTH = 32, TILE_HEIGHT = 8, PIECE = 16;

__device__ inline void store(float* at, float value) { *at = value; }
__device__ inline void store(__half* at, float value) { *at = __float2half_rn(value); }

// Two neighbours in the source and the weight of the second.
struct Tap {
    int low, high;
    float weight;
};

// Of pixel i when `source` pixels become `target`, in whole numbers: a float32 coordinate of a wide frame would be
// off by more than the reference allows.
__device__ Tap tap_of(int i, int source, int target)
{
    const int doubled = (2 * i + 1) * source - target;
    if (doubled < 0) return {0, min(1, source - 1), 0};
    const int low = doubled / (2 * target);
    if (low >= source - 1) return {source - 1, source - 1, 0};
    return {low, low + 1, (float)(doubled - low * 2 * target) / (float)(2 * target)};
}

// What a block needs of one plane: some rows, and of each the bytes first_byte .. end_byte.
struct Window {
    const u8* plane;
    u8* held;
    int pitch, row_bytes, row_shift;  // row_shift 1: a chroma plane with half the rows
    int first_byte, end_byte, slot_bytes;

    __device__ int row(int y) const { return y >> row_shift; }

    // Byte `x` of the row of `y`, which is held in `slot`: pieces are aligned as the source is.
    __device__ u8 at(int slot, int y, int x) const
    {
        const u32 lead = (u32)((u64)plane + first_byte + (u64)row(y) * pitch) % PIECE;
        return held[slot * slot_bytes + lead + x - first_byte];
    }
};

// The part of a tile that is worked on at a time, and what it needs of the frame's planes.
struct Part {
    const Tap *rows, *columns;  // of its pixels
    int num_rows, num_columns, num_windows, bytes;
    bool paired;  // a slot for each of the two rows of each tap; else one for each row from the first to the last
    Window windows[3];

    __device__ int num_slots(const Window& window) const
    {
        return paired ? 2 * num_rows : window.row(rows[num_rows - 1].high) - window.row(rows[0].low) + 1;
    }
    __device__ int slot(const Window& window, int row, bool lower) const
    {
        if (paired) return 2 * row + lower;
        return window.row(lower ? rows[row].high : rows[row].low) - window.row(rows[0].low);
    }
    __device__ const u8* source(const Window& window, int slot) const
    {
        int y = paired ? window.row(slot & 1 ? rows[slot / 2].high : rows[slot / 2].low) : window.row(rows[0].low) + slot;
        return window.plane + (size_t)y * window.pitch;
    }

    // By one thread: which bytes of which plane lie where in shared memory.
    __device__ void lay_out(const FrameDescriptor& frame, const Tap* its_rows, int row_count, const Tap* its_columns, int column_count, u8* held)
    {
        rows = its_rows, columns = its_columns, num_rows = row_count, num_columns = column_count;
        num_windows = bytes = 0;
        paired = rows[num_rows - 1].high - rows[0].low + 1 > 2 * num_rows;
        const int first = columns[0].low, last = columns[num_columns - 1].high;
        if (frame.format <= RGB8) add(frame, held, first * 3, last * 3 + 3, frame.width * 3, 0);
        else if (frame.format <= RGBA8) add(frame, held, first * 4, last * 4 + 4, frame.width * 4, 0);
        else if (frame.format >= YUYV) add(frame, held, first / 2 * 4, last / 2 * 4 + 4, frame.width * 2, 0);
        else add(frame, held, first, last + 1, frame.width, 0);
        if (frame.format == NV12) add(frame, held, first / 2 * 2, last / 2 * 2 + 2, frame.width, 1);
        for (int i = 1; frame.format == I420 && i < 3; ++i) add(frame, held, first / 2, last / 2 + 1, frame.width / 2, 1);
    }

    __device__ void add(const FrameDescriptor& frame, u8* held, int first, int end, int row_bytes, int row_shift)
    {
        Window& window = windows[num_windows];
        window.plane = (const u8*)frame.plane[num_windows], window.pitch = frame.pitch[num_windows];
        window.row_bytes = row_bytes, window.row_shift = row_shift, window.first_byte = first, window.end_byte = end;
        window.slot_bytes = (end - first + 2 * PIECE - 2) / PIECE * PIECE, window.held = held + bytes;
        bytes += num_slots(window) * window.slot_bytes;
        ++num_windows;
    }

    // By all threads.
    __device__ void fetch(const Window& window) const
    {
        const int pieces = window.slot_bytes / PIECE, total = num_slots(window) * pieces;
        for (int i = threadIdx.x; i < total; i += blockDim.x) {
            const int slot = i / pieces, piece = i - slot * pieces;
            const u64 row = (u64)source(window, slot), end = row + window.row_bytes;
            const u64 from = (row + window.first_byte) / PIECE * PIECE + piece * PIECE;
            if (from >= row + window.end_byte) continue;
            u8* to = window.held + slot * window.slot_bytes + piece * PIECE;
            if (from >= row && from + PIECE <= end) {
                *(uint4*)to = *(const uint4*)from;
            } else {  // the ends of a row: what lies beyond may not be ours to read
                for (int j = 0; j < PIECE; ++j)
                    if (from + j >= row && from + j < end) to[j] = *(const u8*)(from + j);
            }
        }
    }
};

struct Color {
    float r, g, b;
};

// constants[9 + 13 * i ...]: the rows of a YUV to RGB matrix (3, 4) and the luma of black.
__device__ Color from_yuv(const float* matrix, float y, float u, float v)
{
    y = fmaxf(y, matrix[12]);
    float rgb[3];
    for (int i = 0; i < 3; ++i) {
        const float* row = matrix + 4 * i;
        rgb[i] = fminf(fmaxf(row[0] * y + row[1] * u + row[2] * v + row[3], 0), 255);
    }
    return {rgb[0], rgb[1], rgb[2]};
}

// The colour of pixel (y, x), whose row is held for the upper or the lower row of a tap.
__device__ Color color_at(const Part& part, int format, const float* matrix, int row, bool lower, int y, int x)
{
    const Window& first = part.windows[0];
    const int slot = part.slot(first, row, lower);
    if (format <= RGBA8) {
        const int at = x * (format <= RGB8 ? 3 : 4), red = format == BGR8 || format == BGRA8 ? 2 : 0;
        return {(float)first.at(slot, y, at + red), (float)first.at(slot, y, at + 1), (float)first.at(slot, y, at + 2 - red)};
    }
    if (format >= YUYV) {
        const int luma = format == YUYV ? 0 : 1, pair = x / 2 * 4 + 1 - luma;
        return from_yuv(matrix, first.at(slot, y, x * 2 + luma), first.at(slot, y, pair), first.at(slot, y, pair + 2));
    }
    const float value = first.at(slot, y, x);
    if (format == MONO8) return {value, value, value};
    const Window &blue = part.windows[1], &red = part.windows[format == NV12 ? 1 : 2];
    const int chroma_slot = part.slot(blue, row, lower), u = format == NV12 ? x / 2 * 2 : x / 2;
    return from_yuv(matrix, value, blue.at(chroma_slot, y, u), red.at(chroma_slot, y, u + (format == NV12)));
}

__device__ float mix(float a, float b, float weight) { return a * (1 - weight) + b * weight; }

__device__ Color mix(Color a, Color b, float weight) { return {mix(a.r, b.r, weight), mix(a.g, b.g, weight), mix(a.b, b.b, weight)}; }

// The place of a tile in the resized frame, and how it is divided.
struct Tile {
    FrameDescriptor frame;
    Tap rows[TILE_HEIGHT], columns[TILE_WIDTH];
    int part_rows, part_columns;
    Part part;

    __device__ int x0() const { return blockIdx.x * TILE_WIDTH - frame.left; }
    __device__ int y0() const { return blockIdx.y * TILE_HEIGHT - frame.top; }
    __device__ int x_begin() const { return max(0, -x0()); }
    __device__ int y_begin() const { return max(0, -y0()); }
    __device__ int x_end() const { return min(TILE_WIDTH, frame.inner_width - x0()); }
    __device__ int y_end() const { return min(TILE_HEIGHT, frame.inner_height - y0()); }

    __device__ void lay_out(int y, int x, u8* held)
    {
        part.lay_out(frame, rows + y, min(part_rows, y_end() - y), columns + x, min(part_columns, x_end() - x), held);
    }

    // By one thread: the largest parts that fit. Rows are divided first: the longer they are, the better they read.
    __device__ void divide(u8* held, int shared_bytes)
    {
        part_rows = y_end() - y_begin(), part_columns = x_end() - x_begin();
        while (most_bytes(held) > shared_bytes) {
            if (part_rows > 1) part_rows = (part_rows + 1) / 2;
            else part_columns = (part_columns + 1) / 2;
        }
    }

    __device__ int most_bytes(u8* held)
    {
        int most = 0;
        for (int y = y_begin(); y < y_end(); y += part_rows)
            for (int x = x_begin(); x < x_end(); x += part_columns) {
                lay_out(y, x, held);
                most = max(most, part.bytes);
            }
        return most;
    }
};

}  // namespace

extern "C" __global__ void __launch_bounds__(512) preprocess(
    const FrameDescriptor* __restrict__ frames, const float* __restrict__ constants, BATCH* __restrict__ batch,
    int height, int width, int blue_first, int shared_bytes)
{
    extern __shared__ __align__(16) u8 held[];
    __shared__ Tile tile;
    constexpr int WORDS = sizeof(FrameDescriptor) / 4;
    if (threadIdx.x < WORDS) ((int*)&tile.frame)[threadIdx.x] = ((const int*)(frames + blockIdx.z))[threadIdx.x];
    __syncthreads();

    const int x0 = tile.x0(), y0 = tile.y0(), top = tile.frame.top, left = tile.frame.left;
    const int x_begin = tile.x_begin(), x_end = tile.x_end(), y_begin = tile.y_begin(), y_end = tile.y_end();
    const size_t plane = (size_t)height * width;
    batch += (size_t)blockIdx.z * 3 * plane;
    for (int i = threadIdx.x; i < TILE_WIDTH * TILE_HEIGHT; i += blockDim.x) {
        const int x = i % TILE_WIDTH, y = i / TILE_WIDTH, out_x = x0 + x + left, out_y = y0 + y + top;
        const bool inside = x >= x_begin && x < x_end && y >= y_begin && y < y_end;
        if (!inside && out_x < width && out_y < height)
            for (int c = 0; c < 3; ++c) store(batch + c * plane + (size_t)out_y * width + out_x, constants[3 * c + 2]);
    }
    for (int i = threadIdx.x; i < TILE_WIDTH + TILE_HEIGHT; i += blockDim.x) {
        const int y = i - TILE_WIDTH;
        if (i >= x_begin && i < x_end) tile.columns[i] = tap_of(x0 + i, tile.frame.width, tile.frame.inner_width);
        if (y >= y_begin && y < y_end) tile.rows[y] = tap_of(y0 + y, tile.frame.height, tile.frame.inner_height);
    }
    __syncthreads();
    if (x_begin >= x_end || y_begin >= y_end) return;
    if (threadIdx.x == 0) tile.divide(held, shared_bytes);
    __syncthreads();

    const int format = tile.frame.format, part_rows = tile.part_rows, part_columns = tile.part_columns;
    const float* matrix = constants + 9 + 13 * tile.frame.color_matrix;
    const Part& part = tile.part;
    for (int y = y_begin; y < y_end; y += part_rows)
        for (int x = x_begin; x < x_end; x += part_columns) {
            __syncthreads();  // the part before has been read
            if (threadIdx.x == 0) tile.lay_out(y, x, held);
            __syncthreads();
            for (int i = 0; i < part.num_windows; ++i) part.fetch(part.windows[i]);
            __syncthreads();
            for (int i = threadIdx.x; i < part.num_rows * part.num_columns; i += blockDim.x) {
                const int row = i / part.num_columns, column = i - row * part.num_columns;
                const Tap across = part.columns[column], down = part.rows[row];
                const Color upper = mix(color_at(part, format, matrix, row, false, down.low, across.low),
                                        color_at(part, format, matrix, row, false, down.low, across.high), across.weight);
                const Color lower = mix(color_at(part, format, matrix, row, true, down.high, across.low),
                                        color_at(part, format, matrix, row, true, down.high, across.high), across.weight);
                const Color color = mix(upper, lower, down.weight);
                const float channels[3] = {blue_first ? color.b : color.r, color.g, blue_first ? color.r : color.b};
                BATCH* out = batch + (size_t)(y0 + y + row + top) * width + x0 + x + column + left;
#pragma unroll
                for (int c = 0; c < 3; ++c) store(out + c * plane, (channels[c] - constants[3 * c]) * constants[3 * c + 1]);
            }
        }
}
