// Backward scan in form "rows" (scan.h), a warp's 16 rows of D in registers, and what its forms
// share.  Alone in backward_scan.cu, ahead of the chunks in backward_chained.cu.
#pragma once
#include "flags.h"
#include "scan.h"

DEV f2 final_gradient(const BackwardScan& x, long long at) {
  return x.dfinal_state ? *(const f2*)(x.dfinal_state + at) : f2{0.f, 0.f};
}

// write dS0 of the 16 x 16 block at `at`; returns its sum of gate gradients
DEV float finish_block(const BackwardScan& x, const CarriedScale& scale, long long at,
                       const Square d) {
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int n = i >> 1, half = i & 1;
    const long long here = at + half * 512 + n * 8;
    const f2 e = {d[n][2 * half], d[n][2 * half + 1]};
    *(f2*)(x.dinitial_state + here) = e;
    if (x.gate_partials) {
      const f2 state = *(const f2*)(x.carried_state + here);
      sum += gate_gradient(scale, state.x, e.x);
      sum += gate_gradient(scale, state.y, e.y);
    }
  }
  return warp_sum(sum);
}

DEV void scale_by(float d[4], f2 total) {  // D diag(G)
  d[0] *= total.x;
  d[1] *= total.y;
  d[2] *= total.x;
  d[3] *= total.y;
}

template <int R>
struct BackwardRows {
  static constexpr int STAGES = 4, STAGE = Stage<R, false>::BYTES;
  static constexpr int OUT = STAGES * STAGE, SHARED = OUT + BLOCK_BYTES * R;
};

// rows v0 .. v0 + 16 R - 1 of head bh; CHAINED: E of a chunk is followed by its flag
template <int R, bool CHAINED>
DEV void backward_rows(const BackwardScan& x, int bh, int v0, int* flags) {
  typedef Stage<R, false> L;
  typedef BackwardRows<R> M;
  const int tid = TID, lane = tid & 31, w = tid >> 5, g = lane >> 2, c2 = (lane & 3) * 2;
  const int mi = lane >> 3, r8 = lane & 7, row0 = v0 + 16 * w;
  const Sample s = find_sample(bh, x.lengths, x.tokens, x.heads);
  const uint32_t own = M::OUT + BLOCK_BYTES * w;
  const long long state_at = (long long)s.bh * TILE + (row0 + g) * 64 + c2;
#pragma unroll 1
  for (int i = 0; i < M::STAGES - 1; i++) {
    if (i < s.chunks)
      fetch_rows<R, 32 * R, false>(i * M::STAGE, s, s.chunks - 1 - i, tid, x.step, x.query,
                                   x.step, x.dy, x.total, v0);
    cpa_commit();
  }
  Square D[4];
#pragma unroll
  for (int i = 0; i < 16; i++) {
    const int n = i >> 1, half = i & 1;
    const f2 e = final_gradient(x, state_at + half * 512 + n * 8);
    D[n >> 1][n & 1][2 * half] = e.x;
    D[n >> 1][n & 1][2 * half + 1] = e.y;
  }
#pragma unroll 1
  for (int i = 0; i < s.chunks; i++) {
    cpa_waitn<M::STAGES - 2>();
    bar();
    if (CHAINED && i > 0 && tid == 0) publish(flags + s.first_tile + s.chunks - i);
    const int next = i + M::STAGES - 1;
    if (next < s.chunks)
      fetch_rows<R, 32 * R, false>((next % M::STAGES) * M::STAGE, s, s.chunks - 1 - next, tid,
                                   x.step, x.query, x.step, x.dy, x.total, v0);
    cpa_commit();
    const uint32_t stage = (i % M::STAGES) * M::STAGE;
    Operand a;
#pragma unroll
    for (int k = 0; k < 4; k++) {
      uint32_t e[4];
      to_bf(a[k], D[k]);
      scale_by(D[k][0], SF2(stage + L::G + (16 * k + c2) * 4));
      scale_by(D[k][1], SF2(stage + L::G + (16 * k + 8 + c2) * 4));
      to_bf(e, D[k]);
      stsm4(own + sw((mi & 1) * 8 + r8, 2 * k + (mi >> 1)), e[0], e[1], e[2], e[3]);
    }
    wsync();
    uint16_t* out = x.dstates + (s.first_tile + s.chunks - 1 - i) * TILE + row0 * 64;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const int row = j * 4 + (lane >> 3), piece = lane & 7;
      *(u4*)(out + row * 64 + piece * 8) = SU4(own + sw(row, piece));
    }
#pragma unroll
    for (int ks = 0; ks < 4; ks++) {  // dY^T Q
      uint32_t dy[4];
      ldsm4t(dy, stage + L::Y +
                     token_piece<R>(16 * ks + (mi >> 1) * 8 + r8, 2 * w + (mi & 1)));
#pragma unroll
      for (int np = 0; np < 4; np++) {
        uint32_t b[4];
        ldBt(b, stage + L::Q, ks, np, mi, r8);
        mma2_bf(D[np][0], D[np][1], dy, b);
      }
    }
#pragma unroll
    for (int ks = 0; ks < 4; ks++)
#pragma unroll
      for (int np = 0; np < 4; np++) {  // D P^T
        uint32_t b[4];
        ldBn(b, stage + L::P, ks, np, mi, r8);
        mma2_bf(D[np][0], D[np][1], a[ks], b);
      }
  }
  if (CHAINED) {
    bar();
    if (s.chunks > 0 && tid == 0) publish(flags + s.first_tile);
  }
  const CarriedScale scale = carried_scale(x, s.bh);
  float total = 0.f;
#pragma unroll
  for (int k = 0; k < 4; k++) total += finish_block(x, scale, state_at + 16 * k, D[k]);
  if (lane == 0 && x.gate_partials) x.gate_partials[s.bh * 4 + row0 / 16] = total;
}
