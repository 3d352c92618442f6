// What the scans over chunks share: launch arguments, tiles in flight, first load, sums.
//
// A CTA owns 16 R rows (v) of the state of one (batch, head) and walks over its true chunks.
// Form "rows": R warps, each with 16 rows x 64 columns; the state stays in registers.
// Form "columns": 4 R warps, each with 16 rows x 16 columns; a warp needs all 64 columns of its
// rows as operand, so the state goes through shared memory once per chunk. For few heads, where
// the latency of a chunk counts; forward only. Both forms add in the same order: equal bit for bit.
#pragma once
#include "tile.h"

struct ForwardScan {
  const uint16_t *step, *added, *query;  // P, N, Q
  const float* total;                    // G
  const int* lengths;                    // may be null: T
  const float* initial_state;            // may be null: zeros
  const float *carried_state, *carried_squares, *gate;  // may be null: nothing carried, no norm
  uint16_t *y, *states;                  // y holds the local part; states may be null
  float *final_state, *squares;
  float bound;  // clip of the carried state; infinite: none
  int tokens, heads;
};

struct BackwardScan {
  const uint16_t *step, *query, *dy;
  const float* total;
  const int* lengths;
  const float* dfinal_state;  // may be null: zeros
  const float *carried_state, *carried_squares, *gate;
  uint16_t* dstates;  // E = D diag(G), D the gradient of the state after a chunk
  float *dinitial_state, *dgate, *dcarried_state;  // the last two: null where not needed
  float bound;  // clip of the carried state; infinite: none
  int tokens, heads;
};

constexpr int TILE = 64 * 64, TILE_BYTES = 2 * TILE, BLOCK_BYTES = 2048;  // block: 16 x 64

// the sample of this CTA: its true chunks, and where its tiles and tokens begin
struct Sample {
  int bh, length, chunks;
  long long first_tile, first_token, token_stride;
};

DEV Sample find_sample(int bh, const int* lengths, int tokens, int heads) {
  Sample s;
  s.bh = bh;
  const int b = s.bh / heads, h = s.bh % heads;
  s.length = lengths ? lengths[b] : tokens;
  s.length = s.length < 0 ? 0 : s.length > tokens ? tokens : s.length;
  s.chunks = (s.length + 63) / 64;
  s.first_tile = (long long)s.bh * ((tokens + 63) / 64);
  s.token_stride = (long long)heads * 64;
  s.first_token = (long long)b * tokens * s.token_stride + h * 64;
  return s;
}
DEV Sample find_sample(const int* lengths, int tokens, int heads) {
  return find_sample(BY, lengths, tokens, heads);
}

// one chunk in shared memory: offsets in bytes
template <int R, bool FORWARD>
struct Stage {
  static constexpr int P = 0, Q = TILE_BYTES, Y = 2 * TILE_BYTES, G = Y + BLOCK_BYTES * R;
  static constexpr int N = G + 256, BYTES = FORWARD ? N + BLOCK_BYTES * R : N;
};

// piece (16 bytes) of a row of tokens x 16 R values, swizzled over lines of 128 bytes
template <int R>
DEV uint32_t token_piece(uint32_t row, uint32_t piece) {
  constexpr uint32_t per_line = 4 / R;
  const uint32_t line = row / per_line;
  return line * 128 + ((((row % per_line) * 2 * R + piece) ^ (line & 7)) << 4);
}

// `y` is the local part of y (forward) or dy (backward); v0: the CTA's first row
template <int R, int THREADS, bool FORWARD>
DEV void fetch_rows(uint32_t stage, const Sample& s, int chunk, int tid, const uint16_t* step,
                    const uint16_t* query, const uint16_t* added, const uint16_t* y,
                    const float* total, int v0) {
  typedef Stage<R, FORWARD> L;
  const long long tile = s.first_tile + chunk, from = tile * TILE + tid * 8;
  const uint32_t at = sw(tid >> 3, tid & 7);  // THREADS / 8 rows on: the same swizzle
#pragma unroll
  for (int i = 0; i < TILE / 8; i += THREADS) {
    cpa16(stage + L::P + at + i * 16, step + from + i * 8);
    cpa16(stage + L::Q + at + i * 16, query + from + i * 8);
  }
  const int row0 = tid / (2 * R), piece = tid % (2 * R);
  const uint16_t* first = y + s.first_token + (long long)chunk * 64 * s.token_stride + v0;
#pragma unroll
  for (int i = 0; i < 128 * R; i += THREADS) {
    const int row = row0 + i / (2 * R);
    const bool is_true = chunk * 64 + row < s.length;  // pads and what lies behind T read as zeros
    cpa16z(stage + L::Y + token_piece<R>(row, piece),
           is_true ? first + row * s.token_stride + piece * 8 : first, is_true);
  }
  if (FORWARD) {
#pragma unroll
    for (int i = 0; i < 128 * R; i += THREADS)
      cpa16(stage + L::N + at + i * 16, added + from + v0 * 64 + i * 8);
  }
  if (tid < 16) cpa16(stage + L::G + tid * 16, total + tile * 64 + tid * 4);
}
template <int R, int THREADS, bool FORWARD>
DEV void fetch_chunk(uint32_t stage, const Sample& s, int chunk, int tid, const uint16_t* step,
                     const uint16_t* query, const uint16_t* added, const uint16_t* y,
                     const float* total) {
  fetch_rows<R, THREADS, FORWARD>(stage, s, chunk, tid, step, query, added, y, total, BX * 16 * R);
}

// Future-Seed: carried = clamp(u, -bound, bound), u = gate * n, n = state / rms
struct CarriedScale {
  float rms, gate, bound;
  bool above_floor;  // of the rms, which then depends on the state
};

template <class Scan>
DEV CarriedScale carried_scale(const Scan& x, int bh) {
  CarriedScale c = {1.f, 0.f, x.bound, false};
  if (!x.carried_state) return c;
  c.gate = x.gate[bh];
  if (x.carried_squares) {
    const float* q = x.carried_squares + bh * 4;
    const float mean_square = (((q[0] + q[1]) + q[2]) + q[3]) * (1.f / TILE);
    c.rms = sqrtf(fmaxf(mean_square, 1e-12f));
    c.above_floor = mean_square > 1e-12f;
  }
  return c;
}

DEV float carried_value(const CarriedScale& c, float state) {
  const float u = c.gate * (state / c.rms);
  return u > c.bound ? c.bound : u < -c.bound ? -c.bound : u;  // a NaN stays one
}

DEV f2 initial_value(const ForwardScan& x, const CarriedScale& c, long long at) {
  f2 s = x.initial_state ? *(const f2*)(x.initial_state + at) : f2{0.f, 0.f};
  if (x.carried_state) {
    const f2 p = *(const f2*)(x.carried_state + at);
    s.x += carried_value(c, p.x);
    s.y += carried_value(c, p.y);
  }
  return s;
}

// sum over a warp in a fixed order; every lane gets it
DEV float warp_sum(float x) {
#pragma unroll
  for (int mask = 16; mask > 0; mask >>= 1) x += shx(x, mask);
  return x;
}
