// Steps of the forward scan in form "rows" (scan.h): a warp's 16 rows of the state stay in
// registers.  Alone in forward_scan.cu, behind the chunks in forward_chained.cu.
#pragma once
#include "scan.h"

DEV void add_local(float s[4], f2 total, uint32_t top, uint32_t bottom) {  // S diag(G) + N
  s[0] = s[0] * total.x + lo_bf(top);
  s[1] = s[1] * total.y + hi_bf(top);
  s[2] = s[2] * total.x + lo_bf(bottom);
  s[3] = s[3] * total.y + hi_bf(bottom);
}

DEV void unpack_y(Square y, const uint32_t x[4]) {  // local part of Y^T: 16 v x 16 tokens
#pragma unroll
  for (int n = 0; n < 2; n++) {
    y[n][0] = lo_bf(x[2 * n]);
    y[n][1] = hi_bf(x[2 * n]);
    y[n][2] = lo_bf(x[2 * n + 1]);
    y[n][3] = hi_bf(x[2 * n + 1]);
  }
}

DEV float sum_of_squares(const Square s) {
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < 8; i++) sum += s[i >> 2][i & 3] * s[i >> 2][i & 3];
  return warp_sum(sum);
}

// rows row0 .. row0 + 15 of the initial state
DEV void load_rows(Square S[4], const ForwardScan& x, int bh, int row0, const Lane& me) {
  const long long at = (long long)bh * TILE + (row0 + me.g) * 64 + me.c2;
  const CarriedScale scale = carried_scale(x, bh);
#pragma unroll
  for (int i = 0; i < 16; i++) {
    const int n = i >> 1, half = i & 1;
    const f2 e = initial_value(x, scale, at + half * 512 + n * 8);
    S[n >> 1][n & 1][2 * half] = e.x;
    S[n >> 1][n & 1][2 * half + 1] = e.y;
  }
}

// one chunk, whose tiles are in `stage`; `own`: a block of shared memory of the warp
template <int R>
DEV void step_rows(Square S[4], uint32_t stage, uint32_t own, const ForwardScan& x,
                   const Sample& s, int c, int row0, const Lane& me) {
  typedef Stage<R, true> L;
  Operand a;
#pragma unroll
  for (int k = 0; k < 4; k++) {
    to_bf(a[k], S[k]);
    if (x.states)
      stsm4(own + sw((me.mi & 1) * 8 + me.r8, 2 * k + (me.mi >> 1)), a[k][0], a[k][1], a[k][2],
            a[k][3]);
  }
#pragma unroll
  for (int n = 0; n < 8; n++)
    add_local(S[n >> 1][n & 1], SF2(stage + L::G + (8 * n + me.c2) * 4),
              S32(stage + L::N + sw(me.R0 + me.g, n) + me.c2 * 2),
              S32(stage + L::N + sw(me.R0 + me.g + 8, n) + me.c2 * 2));
#pragma unroll
  for (int ks = 0; ks < 4; ks++)
#pragma unroll
    for (int np = 0; np < 4; np++) {  // S P
      uint32_t b[4];
      ldBt(b, stage + L::P, ks, np, me.mi, me.r8);
      mma2_bf(S[np][0], S[np][1], a[ks], b);
    }
#pragma unroll
  for (int tokens = 0; tokens < 4; tokens++) {  // Y^T = S Q^T + Yv^T, 16 tokens at a time
    const uint32_t at = stage + L::Y +
                        token_piece<R>(16 * tokens + (me.mi >> 1) * 8 + me.r8,
                                       2 * me.w + (me.mi & 1));
    uint32_t local[4];
    Square y;
    ldsm4t(local, at);
    unpack_y(y, local);
#pragma unroll
    for (int ks = 0; ks < 4; ks++) {
      uint32_t b[4];
      ldBn(b, stage + L::Q, ks, tokens, me.mi, me.r8);
      mma2_bf(y[0], y[1], a[ks], b);
    }
    uint32_t out[4];
    to_bf(out, y);
    stsm4t(at, out[0], out[1], out[2], out[3]);
  }
  wsync();
  uint16_t* y_out = x.y + s.first_token + (long long)c * 64 * s.token_stride + row0;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int row = i * 16 + (me.id >> 1), half = me.id & 1;
    if (c * 64 + row < s.length)
      *(u4*)(y_out + row * s.token_stride + half * 8) =
          SU4(stage + L::Y + token_piece<R>(row, 2 * me.w + half));
    const int state_row = i * 4 + (me.id >> 3), piece = me.id & 7;
    if (x.states)
      *(u4*)(x.states + (s.first_tile + c) * TILE + (row0 + state_row) * 64 + piece * 8) =
          SU4(own + sw(state_row, piece));
  }
}

// the final state and its squares
DEV void store_rows(const Square S[4], const ForwardScan& x, int bh, int row0, const Lane& me) {
  const long long at = (long long)bh * TILE + (row0 + me.g) * 64 + me.c2;
  float total = 0.f;
#pragma unroll
  for (int k = 0; k < 4; k++) {
    total += sum_of_squares(S[k]);
#pragma unroll
    for (int n = 0; n < 2; n++) {
      *(f2*)(x.final_state + at + k * 16 + n * 8) = f2{S[k][n][0], S[k][n][1]};
      *(f2*)(x.final_state + at + 512 + k * 16 + n * 8) = f2{S[k][n][2], S[k][n][3]};
    }
  }
  if (me.id == 0) x.squares[bh * 4 + row0 / 16] = total;
}
