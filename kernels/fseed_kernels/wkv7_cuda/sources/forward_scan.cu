// Forward scan: S_end = S diag(G) + S P + N,  Y = Q S^T + Yv, chunk by chunk (see scan.h).
#include "forward_scan.h"

template <int R>
struct ForwardRows {
  static constexpr int STAGES = 4, STAGE = Stage<R, true>::BYTES;
  static constexpr int STATE = STAGES * STAGE, SHARED = STATE + BLOCK_BYTES * R;
};

template <int R>
DEV void forward_rows(const ForwardScan& x) {
  typedef ForwardRows<R> M;
  const Lane me = this_lane();
  const int tid = TID, row0 = BX * 16 * R + me.R0;
  await_previous();
  const Sample s = find_sample(x.lengths, x.tokens, x.heads);
#pragma unroll 1
  for (int c = 0; c < M::STAGES - 1; c++) {
    if (c < s.chunks)
      fetch_chunk<R, 32 * R, true>(c * M::STAGE, s, c, tid, x.step, x.query, x.added, x.y, x.total);
    cpa_commit();
  }
  Square S[4];
  load_rows(S, x, s.bh, row0, me);
#pragma unroll 1
  for (int c = 0; c < s.chunks; c++) {
    cpa_waitn<M::STAGES - 2>();
    bar();
    const int next = c + M::STAGES - 1;
    if (next < s.chunks)
      fetch_chunk<R, 32 * R, true>((next % M::STAGES) * M::STAGE, s, next, tid, x.step, x.query,
                                   x.added, x.y, x.total);
    cpa_commit();
    step_rows<R>(S, (c % M::STAGES) * M::STAGE, M::STATE + BLOCK_BYTES * me.w, x, s, c, row0, me);
  }
  store_rows(S, x, s.bh, row0, me);
}

template <int R>
struct ForwardColumns {
  static constexpr int STAGES = R == 1 ? 7 : R == 2 ? 6 : 4, STAGE = Stage<R, true>::BYTES;
  static constexpr int STATE = STAGES * STAGE, SUMS = STATE + 2 * BLOCK_BYTES * R;
  static constexpr int SHARED = SUMS + 128;
};

// what a warp needs of a chunk beside the state, fetched from shared memory a chunk ahead
struct ForwardOperands {
  uint32_t step[4][4], query[4][4], local[4], added[2][2];
  f2 total[2];
};

template <int R>
DEV void read_operands(ForwardOperands& o, uint32_t stage, int block, int w, int lane) {
  typedef Stage<R, true> L;
  const int g = lane >> 2, c2 = (lane & 3) * 2, mi = lane >> 3, r8 = lane & 7;
#pragma unroll
  for (int ks = 0; ks < 4; ks++) {
    ldBt(o.step[ks], stage + L::P, ks, w, mi, r8);
    ldBn(o.query[ks], stage + L::Q, ks, w, mi, r8);
  }
  ldsm4t(o.local, stage + L::Y +
                      token_piece<R>(16 * w + (mi >> 1) * 8 + r8, 2 * block + (mi & 1)));
#pragma unroll
  for (int n = 0; n < 2; n++) {
    o.total[n] = SF2(stage + L::G + (16 * w + 8 * n + c2) * 4);
    o.added[n][0] = S32(stage + L::N + sw(16 * block + g, 2 * w + n) + c2 * 2);
    o.added[n][1] = S32(stage + L::N + sw(16 * block + g + 8, 2 * w + n) + c2 * 2);
  }
}

template <int R>
DEV void forward_columns(const ForwardScan& x) {
  typedef Stage<R, true> L;
  typedef ForwardColumns<R> M;
  const int tid = TID, lane = tid & 31, block = tid >> 7, w = (tid >> 5) & 3;
  const int g = lane >> 2, c2 = (lane & 3) * 2, mi = lane >> 3, r8 = lane & 7;
  const int row0 = (BX * R + block) * 16;
  await_previous();
  const Sample s = find_sample(x.lengths, x.tokens, x.heads);
  const uint32_t own = M::STATE + BLOCK_BYTES * block, other = BLOCK_BYTES * R;
  const uint32_t put_at = own + sw((mi & 1) * 8 + r8, 2 * w + (mi >> 1));
  const long long state_at = (long long)s.bh * TILE + (row0 + g) * 64 + 16 * w + c2;
#pragma unroll 1
  for (int c = 0; c < M::STAGES - 1; c++) {
    if (c < s.chunks)
      fetch_chunk<R, 128 * R, true>(c * M::STAGE, s, c, tid, x.step, x.query, x.added, x.y,
                                    x.total);
    cpa_commit();
  }
  Square S;
  const CarriedScale scale = carried_scale(x, s.bh);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const f2 e = initial_value(x, scale, state_at + (i & 1) * 512 + (i >> 1) * 8);
    S[i >> 1][2 * (i & 1)] = e.x;
    S[i >> 1][2 * (i & 1) + 1] = e.y;
  }
  uint32_t out[4];
  to_bf(out, S);
  stsm4(put_at, out[0], out[1], out[2], out[3]);
  cpa_waitn<M::STAGES - 2>();
  bar();
  ForwardOperands o;
  if (s.chunks > 0) read_operands<R>(o, 0, block, w, lane);
  // stages of the chunk, of the one before it (to be filled) and of the one after it
  uint32_t stage = 0, filled = (M::STAGES - 1) * M::STAGE;
#pragma unroll 1
  for (int c = 0; c < s.chunks; c++) {
    // chunk c + 1 has arrived, the state is published, chunk c - 1 is done with by all warps
    cpa_waitn<M::STAGES - 3>();
    bar();
    const uint32_t ahead = stage == (M::STAGES - 1) * M::STAGE ? 0 : stage + M::STAGE;
    const uint32_t state = own + (c & 1) * other;
    Operand a;
#pragma unroll
    for (int ks = 0; ks < 4; ks++) ldA(a[ks], state, 0, ks, mi, r8);
    Square y;
    unpack_y(y, o.local);
#pragma unroll
    for (int n = 0; n < 2; n++) add_local(S[n], o.total[n], o.added[n][0], o.added[n][1]);
#pragma unroll
    for (int ks = 0; ks < 4; ks++) {
      mma2_bf(S[0], S[1], a[ks], o.step[ks]);  // S P, 16 columns
      mma2_bf(y[0], y[1], a[ks], o.query[ks]);  // Y^T = S Q^T + Yv^T, 16 tokens
    }
    to_bf(out, S);
    stsm4(put_at + ((c + 1) & 1) * other, out[0], out[1], out[2], out[3]);
    const int next = c + M::STAGES - 1;
    if (next < s.chunks)
      fetch_chunk<R, 128 * R, true>(filled, s, next, tid, x.step, x.query,
                                    x.added, x.y, x.total);
    cpa_commit();
    if (c + 1 < s.chunks)
      read_operands<R>(o, ahead, block, w, lane);
    if (x.states) {
      const int row = 4 * w + (lane >> 3), piece = lane & 7;
      *(u4*)(x.states + (s.first_tile + c) * TILE + (row0 + row) * 64 + piece * 8) =
          SU4(state + sw(row, piece));
    }
    to_bf(out, y);
    stsm4t(stage + L::Y + token_piece<R>(16 * w + (mi >> 1) * 8 + r8, 2 * block + (mi & 1)),
           out[0], out[1], out[2], out[3]);
    wsync();
    const int row = 16 * w + (lane >> 1), half = lane & 1;
    const long long token = (long long)c * 64 + row;
    if (token < s.length)
      *(u4*)(x.y + s.first_token + token * s.token_stride + row0 + half * 8) =
          SU4(stage + L::Y + token_piece<R>(row, 2 * block + half));
    filled = stage;
    stage = ahead;
  }
#pragma unroll
  for (int n = 0; n < 2; n++) {
    *(f2*)(x.final_state + state_at + n * 8) = f2{S[n][0], S[n][1]};
    *(f2*)(x.final_state + state_at + 512 + n * 8) = f2{S[n][2], S[n][3]};
  }
  const float sum = sum_of_squares(S);
  const uint32_t sums = M::SUMS + 16 * block;
  if (lane == 0) *(float*)(smem + sums + 4 * w) = sum;
  bar();
  if (lane == 0 && w == 0) {
    const f2 left = SF2(sums), right = SF2(sums + 8);
    x.squares[s.bh * 4 + row0 / 16] = ((left.x + left.y) + right.x) + right.y;
  }
}

KERNEL(128, 1) forward_scan_rows(const ForwardScan x) {
  forward_rows<4>(x);
}
KERNEL(128, 1) forward_scan_columns_1(const ForwardScan x) {
  forward_columns<1>(x);
}
