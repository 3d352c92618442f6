// Tiles of 64 x 64 16-bit numbers in shared memory and the products between them (mma.sync).
//
// tile      byte offset into `smem`; 64 rows of 128 bytes, row = token (or value, or key)
// sw        byte of (row, 16-byte column): columns are swizzled by the row, so that neither
//           ldmatrix nor a row-wise copy has bank conflicts;  gof: the same for float32 tiles
// block     16 rows of a tile.  Warp w of a chunk kernel owns block w = rows R0 = 16 w ...
// Operand   a block as left operand A of four mma.m16n8k16 (ks = 0..3: columns 16 ks ...)
// Sums      a block of float32 sums: [n][e] is row g + 8 (e >> 1), column 8 n + c2 + (e & 1)
// Square    16 x 16 float32 sums, the same layout with n = 0, 1
// ldA       A = rows R0.. of a tile                 ldAt   A = rows R0.. of its transpose
// ldBt      B[k][n] = tile[k][n]                    ldBn   B[k][n] = tile[n][k]
//           (k = 16 ks .., n = 16 np ..; two fragments of 8 columns in b[0..1], b[2..3])
// pk_bf, pk_hf, lo_bf, hi_bf   pairs of bf16 or fp16 <-> float32
#pragma once
#include "device.h"

typedef uint32_t Operand[4][4];
typedef float Sums[8][4], Square[2][4];

DEV uint32_t sw(uint32_t row, uint32_t ch) { return row * 128 + ((ch ^ (row & 7)) << 4); }
DEV uint32_t gof(uint32_t row, uint32_t col) {
  return row * 256 + (((col >> 3) ^ (row & 7)) << 5) + (col & 7) * 4;
}
DEV float lo_bf(uint32_t x) { return as_f(x << 16); }
DEV float hi_bf(uint32_t x) { return as_f(x & 0xffff0000u); }
DEV uint32_t& S32(uint32_t off) { return *(uint32_t*)(smem + off); }
DEV f2& SF2(uint32_t off) { return *(f2*)(smem + off); }
DEV u4& SU4(uint32_t off) { return *(u4*)(smem + off); }

// fragment loaders: mi = lane >> 3 and r = lane & 7 choose the row whose address a lane gives
DEV void ldA(uint32_t a[4], uint32_t tile, int R0, int ks, int mi, int r) {
  ldsm4(a, tile + sw(R0 + (mi & 1) * 8 + r, 2 * ks + (mi >> 1)));
}
DEV void ldAt(uint32_t a[4], uint32_t tile, int R0, int ks, int mi, int r) {
  ldsm4t(a, tile + sw(16 * ks + (mi >> 1) * 8 + r, R0 / 8 + (mi & 1)));
}
DEV void ldBt(uint32_t b[4], uint32_t tile, int ks, int np, int mi, int r) {
  ldsm4t(b, tile + sw(16 * ks + (mi & 1) * 8 + r, 2 * np + (mi >> 1)));
}
DEV void ldBn(uint32_t b[4], uint32_t tile, int ks, int np, int mi, int r) {
  ldsm4(b, tile + sw(16 * np + (mi >> 1) * 8 + r, 2 * ks + (mi & 1)));
}

// ---- blocks: what one warp computes
struct Lane {
  int id, w, R0;  // lane in the warp; warp; first row of the warp's block
  int g, c2;      // its rows (g, g + 8) and columns (c2, c2 + 1 of every 8) in sums
  int mi, r8;     // what it addresses for ldmatrix and stmatrix
};
DEV Lane this_lane() {
  const int id = TID & 31, w = TID >> 5;
  return Lane{id, w, 16 * w, id >> 2, (id & 3) * 2, id >> 3, id & 7};
}

// which products of a row token and a column token are kept
enum Part { NONE, LOWER, STRICT_LOWER, UPPER, STRICT_UPPER };

template <Part PART>
DEV void mask(Square t, const Lane& me) {
#pragma unroll
  for (int n = 0; n < 2; n++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int row = me.g + (e >> 1) * 8, col = n * 8 + me.c2 + (e & 1);
      const bool keep = PART == LOWER ? col <= row : PART == STRICT_LOWER ? col < row
                        : PART == UPPER ? col >= row : col > row;
      t[n][e] = keep ? t[n][e] : 0.f;
    }
}
DEV void to_bf(uint32_t f[4], const Square t) {
  f[0] = pk_bf(t[0][0], t[0][1]);
  f[1] = pk_bf(t[0][2], t[0][3]);
  f[2] = pk_bf(t[1][0], t[1][1]);
  f[3] = pk_bf(t[1][2], t[1][3]);
}
DEV void to_hf(uint32_t f[4], const Square t) {
  f[0] = pk_hf(t[0][0], t[0][1]);
  f[1] = pk_hf(t[0][2], t[0][3]);
  f[2] = pk_hf(t[1][0], t[1][1]);
  f[3] = pk_hf(t[1][2], t[1][3]);
}
DEV void load_operand(Operand a, uint32_t tile, const Lane& me) {
#pragma unroll
  for (int ks = 0; ks < 4; ks++) ldA(a[ks], tile, me.R0, ks, me.mi, me.r8);
}
DEV void mma2_bf(float c0[4], float c1[4], const uint32_t a[4], const uint32_t b[4]) {
  mma_bf(c0, a, b[0], b[1]);
  mma_bf(c1, a, b[2], b[3]);
}
DEV void mma2_hf(float c0[4], float c1[4], const uint32_t a[4], const uint32_t b[4]) {
  mma_hf(c0, a, b[0], b[1]);
  mma_hf(c1, a, b[2], b[3]);
}
// the same, where the right operand was written by put_scaled
DEV void mma2_scaled(float c0[4], float c1[4], const uint32_t a[4], const uint32_t b[4],
                     float scale) {
  Square t = {};
  mma2_hf(t[0], t[1], a, b);
#pragma unroll
  for (int e = 0; e < 4; e++) {
    c0[e] += scale * t[0][e];
    c1[e] += scale * t[1][e];
  }
}

// p += P M (KN: tile M is [k][n]) or P M^T; the same for q and Q if TWO
template <bool KN, bool TWO>
DEV void product(Sums p, Sums q, const Operand aP, const Operand aQ, uint32_t M, const Lane& me) {
#pragma unroll
  for (int ks = 0; ks < 4; ks++)
#pragma unroll
    for (int np = 0; np < 4; np++) {
      uint32_t b[4];
      if (KN) ldBt(b, M, ks, np, me.mi, me.r8); else ldBn(b, M, ks, np, me.mi, me.r8);
      mma2_bf(p[2 * np], p[2 * np + 1], aP[ks], b);
      if (TWO) mma2_bf(q[2 * np], q[2 * np + 1], aQ[ks], b);
    }
}

// p += P1(P M1^T) N1 + P2(P M2^T) N2 and q += Q1(Q M1^T) N1 + Q2(Q M2^T) N2, where P1 .. Q2 keep
// a part of the token pairs (NONE: no such term); only the blocks of that part are computed
template <Part P1, Part Q1, Part P2, Part Q2>
DEV void triangle(Sums p, Sums q, const Operand aP, const Operand aQ, uint32_t M1, uint32_t N1,
                  uint32_t M2, uint32_t N2, const Lane& me) {
  constexpr bool UP = P1 == UPPER || P1 == STRICT_UPPER;
#pragma unroll 1
  for (int kk = UP ? me.w : 0; kk < (UP ? 4 : me.w + 1); kk++) {
    Square tP1 = {}, tQ1 = {}, tP2 = {}, tQ2 = {};
#pragma unroll
    for (int ks = 0; ks < 4; ks++) {
      uint32_t b[4];
      ldBn(b, M1, ks, kk, me.mi, me.r8);
      mma2_bf(tP1[0], tP1[1], aP[ks], b);
      if (Q1 != NONE) mma2_bf(tQ1[0], tQ1[1], aQ[ks], b);
      if (P2 != NONE) {
        ldBn(b, M2, ks, kk, me.mi, me.r8);
        mma2_bf(tP2[0], tP2[1], aP[ks], b);
        if (Q2 != NONE) mma2_bf(tQ2[0], tQ2[1], aQ[ks], b);
      }
    }
    if (kk == me.w) {
      mask<P1>(tP1, me);
      if (Q1 != NONE) mask<Q1>(tQ1, me);
      if (P2 != NONE) mask<P2>(tP2, me);
      if (Q2 != NONE) mask<Q2>(tQ2, me);
    }
    uint32_t fP1[4], fQ1[4], fP2[4], fQ2[4];
    to_bf(fP1, tP1);
    if (Q1 != NONE) to_bf(fQ1, tQ1);
    if (P2 != NONE) to_bf(fP2, tP2);
    if (Q2 != NONE) to_bf(fQ2, tQ2);
#pragma unroll
    for (int np = 0; np < 4; np++) {
      uint32_t b[4];
      ldBt(b, N1, kk, np, me.mi, me.r8);
      mma2_bf(p[2 * np], p[2 * np + 1], fP1, b);
      if (Q1 != NONE) mma2_bf(q[2 * np], q[2 * np + 1], fQ1, b);
      if (P2 != NONE) {
        ldBt(b, N2, kk, np, me.mi, me.r8);
        mma2_bf(p[2 * np], p[2 * np + 1], fP2, b);
        if (Q2 != NONE) mma2_bf(q[2 * np], q[2 * np + 1], fQ2, b);
      }
    }
  }
}

// sums -> the warp's block of a tile, as bf16 or (HALF) times `scale` as fp16
template <bool HALF>
DEV void put(uint32_t tile, const Sums c, const Lane& me, float scale = 1.f) {
#pragma unroll
  for (int k = 0; k < 4; k++) {
    uint32_t x[4];
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const float* s = &c[2 * k + (e >> 1)][(e & 1) * 2];
      x[e] = HALF ? pk_hf(scale * s[0], scale * s[1]) : pk_bf(s[0], s[1]);
    }
    stsm4(tile + sw(me.R0 + (me.mi & 1) * 8 + me.r8, 2 * k + (me.mi >> 1)), x[0], x[1], x[2], x[3]);
  }
}
// Sums of any size as fp16: times the power of two that brings the largest of the block to
// 2^14 .. 2^15 (fp16 reaches from 2^-24 to 2^16); what undoes it -> scales[w], float32.
DEV void put_scaled(uint32_t tile, uint32_t scales, const Sums c, const Lane& me) {
  float largest = 0.f;  // NaN is passed over
#pragma unroll
  for (int n = 0; n < 8; n++)
#pragma unroll
    for (int e = 0; e < 4; e++) largest = fmaxf(largest, fabsf(c[n][e]));
#pragma unroll
  for (int m = 1; m < 32; m *= 2) largest = fmaxf(largest, shx(largest, m));
  // biased exponent of the largest, at least 15 so that both powers are normal numbers; beside an
  // infinity numbers stay as they are
  const uint32_t found = as_u(largest) >> 23;
  const uint32_t exponent = found == 255 ? 141 : found < 15 ? 15 : found;
  put<true>(tile, c, me, as_f((268 - exponent) << 23));
  if (me.id == 0) S32(scales + 4 * me.w) = (exponent - 14) << 23;
}
DEV float scale_of(uint32_t scales, int block) { return as_f(S32(scales + 4 * block)); }

// rows R0.. of a tile -> rows G0.. in memory, `stride` elements apart; 16 bytes per lane
DEV void out16(uint16_t* to, long long stride, uint32_t tile, int R0, int G0, int lane) {
  wsync();
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int o = i * 4 + (lane >> 3), ch = lane & 7;
    *(u4*)(to + (long long)(G0 + o) * stride + ch * 8) = SU4(tile + sw(R0 + o, ch));
  }
  wsync();
}

// ---- chunks: 64 tokens of one head
const float LOG2E = 1.4426950408889634f;
const float LOG_DECAY_SCALE = -0.6065306597126334f;  // log_decay = scale * sigmoid(decay_logit)
const uint32_t PAD_LOGIT = 0xff80ff80u;              // two bf16 -inf: log_decay is exactly 0

struct Chunk {
  long long stride, first, id;  // elements between tokens, of its first token; bh * NC + chunk
  int tokens;                   // true tokens from its start on: <= 0 if it is all pads
  int rows;                     // tokens, pads included, from its start to T
};
DEV Chunk find_chunk(uint32_t number, uint32_t bh, const int* lengths, int T, int H) {
  const int start = 64 * number, batch = bh / H, head = bh % H;
  int length = T;
  if (lengths) length = min(lengths[batch], T);
  const long long stride = (long long)H * 64;
  return Chunk{stride, ((long long)batch * T + start) * stride + head * 64,
               (long long)bh * ((T - 1) / 64 + 1) + number, length - start, T - start};
}
DEV Chunk this_chunk(const int* lengths, int T, int H) {
  return find_chunk(BX, BY, lengths, T, H);
}

// the rows of the warp's block that a lane copies, 16 bytes of each
struct Rows {
  uint32_t to[4];     // byte in a tile
  long long from[4];  // element of a token tensor
  bool read[4];       // false: a pad, zeros are written instead
};
DEV Rows rows_to_load(const Chunk& chunk, const Lane& me) {
  Rows rows;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int row = me.R0 + (me.id >> 3) + 4 * i, ch = me.id & 7;
    rows.to[i] = sw(row, ch);
    rows.from[i] = chunk.first + row * chunk.stride + ch * 8;
    rows.read[i] = row < chunk.tokens;
  }
  return rows;
}
// the warp's block of a token tensor -> its block of a tile, without waiting
DEV void load_tokens(uint32_t tile, const uint16_t* from, const Rows& rows) {
#pragma unroll
  for (int i = 0; i < 4; i++) cpa16z(tile + rows.to[i], from + rows.from[i], rows.read[i]);
}
// the same for a [64, 64] tile of scratch
DEV void load_scratch(uint32_t tile, const uint16_t* from, const Lane& me) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int row = me.R0 + (me.id >> 3) + 4 * i, ch = me.id & 7;
    cpa16(tile + sw(row, ch), from + row * 64 + ch * 8);
  }
}
// after the warp's logits have arrived: the pads' become -inf
DEV void mask_logits(uint32_t tile, const Chunk& chunk, const Lane& me) {
  if (chunk.tokens >= 64) return;
#pragma unroll 1
  for (int row = max(chunk.tokens, me.R0); row < me.R0 + 16; row++)
    S32(tile + sw(row, me.id >> 2) + (me.id & 3) * 4) = PAD_LOGIT;
}

// the warp's block of a tile -> memory, as far as the tensor reaches
DEV void store_tokens(uint16_t* to, uint32_t tile, const Chunk& chunk, const Lane& me) {
  if (chunk.rows >= 64) return out16(to + chunk.first, chunk.stride, tile, me.R0, me.R0, me.id);
  wsync();
  const int ch = me.id & 7;
#pragma unroll 1
  for (int row = me.R0 + (me.id >> 3); row < min(chunk.rows, me.R0 + 16); row += 4)
    *(u4*)(to + chunk.first + row * chunk.stride + ch * 8) = SU4(tile + sw(row, ch));
  wsync();
}
// a chunk of pads: zeros
DEV void store_zeros(uint16_t* to, const Chunk& chunk) {
#pragma unroll 1
  for (int row = TID >> 3; row < min(chunk.rows, 64); row += 16)
    *(u4*)(to + chunk.first + row * chunk.stride + (TID & 7) * 8) = u4{0, 0, 0, 0};
}

// decays of a lane's 16 rows x 2 columns (2 id, 2 id + 1), as powers of two
struct Decay {
  float l0[16], l1[16];  // of every token
  float g0[16], g1[16];  // sums up to and including the token
};
// l = log_decay, g = its sums within the warp's block; the sum of the block -> totals
DEV void sum_decays(Decay& d, uint32_t tile, uint32_t totals, const Lane& me) {
  float s0 = 0.f, s1 = 0.f;
#pragma unroll
  for (int i = 0; i < 16; i++) {
    const uint32_t x = S32(tile + sw(me.R0 + i, me.id >> 2) + (me.id & 3) * 4);
    d.l0[i] = (LOG_DECAY_SCALE * LOG2E) * rcp(1.f + ex2(-LOG2E * lo_bf(x)));
    d.l1[i] = (LOG_DECAY_SCALE * LOG2E) * rcp(1.f + ex2(-LOG2E * hi_bf(x)));
    s0 += d.l0[i]; s1 += d.l1[i];
    d.g0[i] = s0; d.g1[i] = s1;
  }
  SF2(totals + me.w * 256 + me.id * 8) = f2{s0, s1};
}
// g += the sums of the blocks above
DEV void add_blocks_above(Decay& d, uint32_t totals, const Lane& me) {
  float o0 = 0.f, o1 = 0.f;
#pragma unroll 1
  for (int i = 0; i < me.w; i++) {
    const f2 x = SF2(totals + i * 256 + me.id * 8);
    o0 += x.x; o1 += x.y;
  }
#pragma unroll
  for (int i = 0; i < 16; i++) { d.g0[i] += o0; d.g1[i] += o1; }
}
