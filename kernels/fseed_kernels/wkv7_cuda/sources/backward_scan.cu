// Backward scan: D_start = D diag(G) + dY^T Q + D P^T, from the last true chunk to the first.
// D is the gradient of the state after a chunk; E = D diag(G) is kept for the chunk kernel.
#include "backward_scan.h"

template <int R>
struct BackwardColumns {
  static constexpr int STAGES = R == 4 ? 5 : 7, STAGE = Stage<R, false>::BYTES;
  static constexpr int STATE = STAGES * STAGE, OUT = STATE + 2 * BLOCK_BYTES * R;
  static constexpr int SUMS = OUT + BLOCK_BYTES * R, SHARED = SUMS + 128;
};

// what a warp needs of a chunk beside D, fetched from shared memory a chunk ahead
struct BackwardOperands {
  uint32_t step[4][4], query[4][4], dy[4][4];
  f2 total[2];
};

template <int R>
DEV void read_operands(BackwardOperands& o, uint32_t stage, int block, int w, int lane) {
  typedef Stage<R, false> L;
  const int c2 = (lane & 3) * 2, mi = lane >> 3, r8 = lane & 7;
#pragma unroll
  for (int ks = 0; ks < 4; ks++) {
    ldBt(o.query[ks], stage + L::Q, ks, w, mi, r8);
    ldBn(o.step[ks], stage + L::P, ks, w, mi, r8);
    ldsm4t(o.dy[ks], stage + L::Y +
                         token_piece<R>(16 * ks + (mi >> 1) * 8 + r8, 2 * block + (mi & 1)));
  }
  o.total[0] = SF2(stage + L::G + (16 * w + c2) * 4);
  o.total[1] = SF2(stage + L::G + (16 * w + 8 + c2) * 4);
}

// E = D diag(G), written out through `at` (16 x 16 of this warp), then E + dY^T Q
DEV void begin_chunk(Square d, const BackwardOperands& o, uint32_t at, uint16_t* out,
                     int lane) {
  const int mi = lane >> 3, r8 = lane & 7, row = lane >> 1, half = lane & 1;
  uint32_t e[4];
  scale_by(d[0], o.total[0]);
  scale_by(d[1], o.total[1]);
  to_bf(e, d);
  stsm4(at + token_piece<1>((mi & 1) * 8 + r8, mi >> 1), e[0], e[1], e[2], e[3]);
#pragma unroll
  for (int ks = 0; ks < 4; ks++) {
    mma2_bf(d[0], d[1], o.dy[ks], o.query[ks]);
  }
  wsync();
  *(u4*)(out + row * 64 + half * 8) = SU4(at + token_piece<1>(row, half));
}

template <int R>
DEV void backward_columns(const BackwardScan& x) {
  typedef BackwardColumns<R> M;
  const int tid = TID, lane = tid & 31, block = tid >> 7, w = (tid >> 5) & 3;
  const int g = lane >> 2, c2 = (lane & 3) * 2, mi = lane >> 3, r8 = lane & 7;
  const int row0 = (BX * R + block) * 16;
  await_previous();
  const Sample s = find_sample(x.lengths, x.tokens, x.heads);
  const uint32_t own = M::STATE + BLOCK_BYTES * block, other = BLOCK_BYTES * R;
  const uint32_t put_at = own + sw((mi & 1) * 8 + r8, 2 * w + (mi >> 1));
  const uint32_t out_at = M::OUT + 512 * (tid >> 5);
  const long long state_at = (long long)s.bh * TILE + (row0 + g) * 64 + 16 * w + c2;
#pragma unroll 1
  for (int i = 0; i < M::STAGES - 1; i++) {
    if (i < s.chunks)
      fetch_chunk<R, 128 * R, false>(i * M::STAGE, s, s.chunks - 1 - i, tid, x.step, x.query,
                                     x.step, x.dy, x.total);
    cpa_commit();
  }
  Square D;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const f2 e = final_gradient(x, state_at + (i & 1) * 512 + (i >> 1) * 8);
    D[i >> 1][2 * (i & 1)] = e.x;
    D[i >> 1][2 * (i & 1) + 1] = e.y;
  }
  uint32_t published[4];
  to_bf(published, D);
  stsm4(put_at, published[0], published[1], published[2], published[3]);
  cpa_waitn<M::STAGES - 2>();
  bar();
  BackwardOperands o;
  uint16_t* out = x.dstates + (s.first_tile + s.chunks - 1) * TILE + row0 * 64 + 16 * w;
  if (s.chunks > 0) {
    read_operands<R>(o, 0, block, w, lane);
    begin_chunk(D, o, out_at, out, lane);
  }
  // stages of the chunk, of the one before it (to be filled) and of the one after it
  uint32_t stage = 0, filled = (M::STAGES - 1) * M::STAGE;
#pragma unroll 1
  for (int i = 0; i < s.chunks; i++) {
    // the next chunk has arrived, D is published, the previous chunk is done with by all warps
    cpa_waitn<M::STAGES - 3>();
    bar();
    const uint32_t ahead = stage == (M::STAGES - 1) * M::STAGE ? 0 : stage + M::STAGE;
    uint32_t a[4];
#pragma unroll
    for (int ks = 0; ks < 4; ks++) {
      ldA(a, own + (i & 1) * other, 0, ks, mi, r8);
      mma2_bf(D[0], D[1], a, o.step[ks]);  // D P^T, 16 columns
    }
    to_bf(published, D);
    stsm4(put_at + ((i + 1) & 1) * other, published[0], published[1], published[2],
          published[3]);
    const int next = i + M::STAGES - 1;
    if (next < s.chunks)
      fetch_chunk<R, 128 * R, false>(filled, s, s.chunks - 1 - next, tid,
                                     x.step, x.query, x.step, x.dy, x.total);
    cpa_commit();
    if (i + 1 < s.chunks) {
      read_operands<R>(o, ahead, block, w, lane);
      out -= TILE;
      begin_chunk(D, o, out_at, out, lane);
    }
    filled = stage;
    stage = ahead;
  }
  const float sum = finish_block(x, carried_scale(x, s.bh), state_at, D);
  const uint32_t sums = M::SUMS + 16 * block;
  if (lane == 0) *(float*)(smem + sums + 4 * w) = sum;
  bar();
  if (lane == 0 && w == 0 && x.gate_partials) {
    const f2 left = SF2(sums), right = SF2(sums + 8);
    x.gate_partials[s.bh * 4 + row0 / 16] = ((left.x + left.y) + right.x) + right.y;
  }
}

KERNEL(128, 1) backward_scan_rows(const BackwardScan x) {
  await_previous();
  backward_rows<4, false>(x, BY, 0, nullptr);
}
KERNEL(128, 1) backward_scan_columns_1(const BackwardScan x) {
  backward_columns<1>(x);
}
KERNEL(256, 1) backward_scan_columns_2(const BackwardScan x) {
  backward_columns<2>(x);
}
KERNEL(512, 1) backward_scan_columns_4(const BackwardScan x) {
  backward_columns<4>(x);
}
