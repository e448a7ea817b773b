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
    int pitch, row_bytes, row_shift;  // row_shift 1: a chroma plane with half the rows
    int first_byte, end_byte, slot_bytes;
    int held;   // where its first slot begins in shared memory
    u32 phase;  // low bits of the address of first_byte in row 0

    __device__ int row(int y) const { return y >> row_shift; }

    // Where byte `x` of the row of `y` lies, which is held in `slot`: pieces are aligned as the source is.
    __device__ int at(int slot, int y, int x) const
    {
        return held + slot * slot_bytes + (phase + row(y) * pitch) % PIECE + x - first_byte;
    }
};

// A tile of the input, in shared memory: its frame, its taps, and the part of it that is worked on.
struct Tile {
    FrameDescriptor frame;
    Tap rows[TILE_HEIGHT], columns[TILE_WIDTH];
    int part_rows, part_columns;  // of a part at most
    int first_row, first_column, num_rows, num_columns, num_windows, bytes;  // of the part in hand
    bool paired;  // a slot for each of the two rows of each tap; else one for each row from the first to the last
    Window windows[3];

    // The tile's place in the resized frame; what lies outside of that is padding.
    __device__ int x0() const { return blockIdx.x * TILE_WIDTH - frame.left; }
    __device__ int y0() const { return blockIdx.y * TILE_HEIGHT - frame.top; }
    __device__ int x_begin() const { return max(0, -x0()); }
    __device__ int y_begin() const { return max(0, -y0()); }
    __device__ int x_end() const { return min(TILE_WIDTH, frame.inner_width - x0()); }
    __device__ int y_end() const { return min(TILE_HEIGHT, frame.inner_height - y0()); }

    __device__ int top_row() const { return rows[first_row].low; }
    __device__ int bottom_row() const { return rows[first_row + num_rows - 1].high; }
    __device__ int tap_row(int row, bool lower) const { return lower ? rows[first_row + row].high : rows[first_row + row].low; }

    __device__ int num_slots(const Window& window) const
    {
        return paired ? 2 * num_rows : window.row(bottom_row()) - window.row(top_row()) + 1;
    }
    __device__ int slot(const Window& window, int row, bool lower) const
    {
        return paired ? 2 * row + lower : window.row(tap_row(row, lower)) - window.row(top_row());
    }
    __device__ int row_in(const Window& window, int slot) const
    {
        return paired ? window.row(tap_row(slot / 2, slot & 1)) : window.row(top_row()) + slot;
    }

    // By one thread: the part that begins at row y and column x of the tile, and which bytes it needs.
    __device__ void lay_out(int y, int x)
    {
        first_row = y, num_rows = min(part_rows, y_end() - y);
        first_column = x, num_columns = min(part_columns, x_end() - x);
        paired = bottom_row() - top_row() + 1 > 2 * num_rows;
        num_windows = bytes = 0;
        const int first = columns[x].low, last = columns[x + num_columns - 1].high;
        if (frame.format <= RGB8) add(first * 3, last * 3 + 3, frame.width * 3, 0);
        else if (frame.format <= RGBA8) add(first * 4, last * 4 + 4, frame.width * 4, 0);
        else if (frame.format >= YUYV) add(first / 2 * 4, last / 2 * 4 + 4, frame.width * 2, 0);
        else add(first, last + 1, frame.width, 0);
        if (frame.format == NV12) add(first / 2 * 2, last / 2 * 2 + 2, frame.width, 1);
        for (int i = 1; frame.format == I420 && i < 3; ++i) add(first / 2, last / 2 + 1, frame.width / 2, 1);
    }

    __device__ void add(int first, int end, int row_bytes, int row_shift)
    {
        Window& window = windows[num_windows];
        window.plane = (const u8*)frame.plane[num_windows], window.pitch = frame.pitch[num_windows];
        window.row_bytes = row_bytes, window.row_shift = row_shift, window.first_byte = first, window.end_byte = end;
        window.slot_bytes = (end - first + 2 * PIECE - 2) / PIECE * PIECE;
        window.held = bytes, window.phase = (u32)frame.plane[num_windows] + first;
        bytes += num_slots(window) * window.slot_bytes;
        ++num_windows;
    }

    // By one thread: the largest parts that fit. Rows are divided first: the longer they are, the better they read.
    __device__ void divide(int shared_bytes)
    {
        part_rows = y_end() - y_begin(), part_columns = x_end() - x_begin();
        while (most_bytes() > shared_bytes) {
            if (part_rows > 1) part_rows = (part_rows + 1) / 2;
            else part_columns = (part_columns + 1) / 2;
        }
    }

    __device__ int most_bytes()
    {
        int most = 0;
        for (int y = y_begin(); y < y_end(); y += part_rows)
            for (int x = x_begin(); x < x_end(); x += part_columns) {
                lay_out(y, x);
                most = max(most, bytes);
            }
        return most;
    }

    // By all threads.
    __device__ void fetch(const Window& window, u8* held) const
    {
        const int pieces = window.slot_bytes / PIECE, total = num_slots(window) * pieces;
        for (int i = threadIdx.x; i < total; i += blockDim.x) {
            const int slot = i / pieces, piece = i - slot * pieces;
            const u64 row = (u64)(window.plane + (size_t)row_in(window, slot) * window.pitch);
            const u64 from = (row + window.first_byte) / PIECE * PIECE + piece * PIECE, end = row + window.row_bytes;
            if (from >= row + window.end_byte) continue;
            u8* to = held + window.held + i * PIECE;
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

// The colour of column x in one of the two rows of a tap, 0..255.
__device__ Color color_at(const Tile& tile, const u8* held, const float* matrix, int row, bool lower, int x)
{
    const Window& first = tile.windows[0];
    const int format = tile.frame.format, y = tile.tap_row(row, lower), slot = tile.slot(first, row, lower);
    if (format <= RGBA8) {
        const u8* pixel = held + first.at(slot, y, x * (format <= RGB8 ? 3 : 4));
        const int red = format == BGR8 || format == BGRA8 ? 2 : 0;
        return {(float)pixel[red], (float)pixel[1], (float)pixel[2 - red]};
    }
    if (format >= YUYV) {
        const u8* pair = held + first.at(slot, y, x / 2 * 4);
        const int luma = format == YUYV ? 0 : 1;
        return from_yuv(matrix, pair[x % 2 * 2 + luma], pair[1 - luma], pair[3 - luma]);
    }
    const float luma = held[first.at(slot, y, x)];
    if (format == MONO8) return {luma, luma, luma};
    const Window& chroma = tile.windows[1];
    const int chroma_slot = tile.slot(chroma, row, lower);
    if (format == NV12) {
        const u8* pair = held + chroma.at(chroma_slot, y, x / 2 * 2);
        return from_yuv(matrix, luma, pair[0], pair[1]);
    }
    return from_yuv(matrix, luma, held[chroma.at(chroma_slot, y, x / 2)], held[tile.windows[2].at(chroma_slot, y, x / 2)]);
}

__device__ float mix(float a, float b, float weight) { return a * (1 - weight) + b * weight; }

__device__ Color mix(Color a, Color b, float weight) { return {mix(a.r, b.r, weight), mix(a.g, b.g, weight), mix(a.b, b.b, weight)}; }

}  // namespace

extern "C" __global__ void __launch_bounds__(256, 3) preprocess(
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
    if (threadIdx.x == 0) tile.divide(shared_bytes);
    __syncthreads();

    const int part_rows = tile.part_rows, part_columns = tile.part_columns;
    const float* matrix = constants + 9 + 13 * tile.frame.color_matrix;
    for (int y = y_begin; y < y_end; y += part_rows)
        for (int x = x_begin; x < x_end; x += part_columns) {
            __syncthreads();  // the part before has been read
            if (threadIdx.x == 0) tile.lay_out(y, x);
            __syncthreads();
            for (int i = 0; i < tile.num_windows; ++i) tile.fetch(tile.windows[i], held);
            __syncthreads();
            for (int i = threadIdx.x; i < tile.num_rows * tile.num_columns; i += blockDim.x) {
                const int row = i / tile.num_columns, column = i - row * tile.num_columns;
                const Tap across = tile.columns[x + column];
                const Color upper = mix(color_at(tile, held, matrix, row, false, across.low),
                                        color_at(tile, held, matrix, row, false, across.high), across.weight);
                const Color lower = mix(color_at(tile, held, matrix, row, true, across.low),
                                        color_at(tile, held, matrix, row, true, across.high), across.weight);
                const Color color = mix(upper, lower, tile.rows[y + row].weight);
                const float channels[3] = {blue_first ? color.b : color.r, color.g, blue_first ? color.r : color.b};
                BATCH* out = batch + (size_t)(y0 + y + row + top) * width + x0 + x + column + left;
#pragma unroll
                for (int c = 0; c < 3; ++c) store(out + c * plane, (channels[c] - constants[3 * c]) * constants[3 * c + 1]);
            }
        }
}
