// Backward scan: D_start = D diag(G) + dY^T Q + D P^T, from the last true chunk to the first.
// D is the gradient of the state after a chunk; E = D diag(G) is kept for the chunk kernel.
//
// A CTA has a whole head, in form "rows" (scan.h): a warp keeps its 16 rows of D in registers.
// Alone in backward_scan.cu, ahead of the chunks in backward_chained.cu.
#pragma once
#include "flags.h"
#include "scan.h"

typedef Square StateRows[4];  // 16 rows x 64 columns of a state

// a lane's part of 16 rows; `at`: of its first entry
DEV void load_rows(StateRows to, const float* from, long long at) {
#pragma unroll
  for (int i = 0; i < 16; i++) {
    const int n = i >> 1, half = i & 1;
    const f2 e = *(const f2*)(from + at + half * 512 + n * 8);
    to[n >> 1][n & 1][2 * half] = e.x;
    to[n >> 1][n & 1][2 * half + 1] = e.y;
  }
}
DEV void store_rows(float* to, const StateRows from, long long at) {
#pragma unroll
  for (int i = 0; i < 16; i++) {
    const int n = i >> 1, half = i & 1;
    const float* e = from[n >> 1][n & 1] + 2 * half;
    *(f2*)(to + at + half * 512 + n * 8) = f2{e[0], e[1]};
  }
}

DEV void scale_by(float d[4], f2 total) {  // D diag(G)
  d[0] *= total.x;
  d[1] *= total.y;
  d[2] *= total.x;
  d[3] *= total.y;
}

struct BackwardRows {
  static constexpr int STAGES = 4, STAGE = Stage<4, false>::BYTES;
  static constexpr int OUT = STAGES * STAGE, SUMS = OUT + 4 * BLOCK_BYTES, SHARED = SUMS + 16;
};

// Gradients of gate and carried state (scan.h), with delta = [|u| <= bound] dS0 in place of D:
//   dgate = sum(delta n)     dcarried = gate / rms (delta - n mean(delta n) [rms above its floor])
DEV void carried_gradients(const BackwardScan& x, StateRows D, int bh, long long at) {
  const CarriedScale scale = carried_scale(x, bh);
  const int tid = TID;
  StateRows n;
  load_rows(n, x.carried_state, at);
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < 32; i++) {
    float &d = D[i >> 3][(i >> 2) & 1][i & 3], &normed = n[i >> 3][(i >> 2) & 1][i & 3];
    normed /= scale.rms;
    if (fabsf(scale.gate * normed) > scale.bound) d = 0.f;
    sum += d * normed;
  }
  sum = warp_sum(sum);
  if ((tid & 31) == 0) *(float*)(smem + BackwardRows::SUMS + (tid >> 5) * 4) = sum;
  bar();
  const f2 left = SF2(BackwardRows::SUMS), right = SF2(BackwardRows::SUMS + 8);
  const float dgate = ((left.x + left.y) + right.x) + right.y;
  if (x.dgate && tid == 0) x.dgate[bh] = dgate;
  if (!x.dcarried_state) return;
  const float mean = scale.above_floor ? dgate * (1.f / TILE) : 0.f;
#pragma unroll
  for (int i = 0; i < 32; i++) {
    float& d = D[i >> 3][(i >> 2) & 1][i & 3];
    d = (d - n[i >> 3][(i >> 2) & 1][i & 3] * mean) * scale.gate / scale.rms;
  }
  store_rows(x.dcarried_state, D, at);
}

// the tiles of the i-th chunk from the end, if there is one
DEV void fetch(const BackwardScan& x, const Sample& s, int i) {
  typedef BackwardRows M;
  if (i < s.chunks)
    fetch_rows<4, 128, false>((i % M::STAGES) * M::STAGE, s, s.chunks - 1 - i, TID, x.step,
                              x.query, x.step, x.dy, x.total, 0);
  cpa_commit();
}

// head bh; CHAINED: E of a chunk is followed by its flag
template <bool CHAINED>
DEV void backward_rows(const BackwardScan& x, int bh, int* flags) {
  typedef Stage<4, false> L;
  typedef BackwardRows M;
  const int tid = TID, lane = tid & 31, w = tid >> 5, g = lane >> 2, c2 = (lane & 3) * 2;
  const int mi = lane >> 3, r8 = lane & 7, row0 = 16 * w;
  const Sample s = find_sample(bh, x.lengths, x.tokens, x.heads);
  const uint32_t own = M::OUT + BLOCK_BYTES * w;
  const long long state_at = (long long)s.bh * TILE + (row0 + g) * 64 + c2;
#pragma unroll 1
  for (int i = 0; i < M::STAGES - 1; i++) fetch(x, s, i);
  StateRows D = {};
  if (x.dfinal_state) load_rows(D, x.dfinal_state, state_at);
#pragma unroll 1
  for (int i = 0; i < s.chunks; i++) {
    cpa_waitn<M::STAGES - 2>();
    bar();
    if (CHAINED && i > 0 && tid == 0) publish(flags + s.first_tile + s.chunks - i);
    fetch(x, s, i + M::STAGES - 1);
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
                     token_piece<4>(16 * ks + (mi >> 1) * 8 + r8, 2 * w + (mi & 1)));
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
  store_rows(x.dinitial_state, D, state_at);
  if (x.dgate || x.dcarried_state) carried_gradients(x, D, s.bh, state_at);
}
