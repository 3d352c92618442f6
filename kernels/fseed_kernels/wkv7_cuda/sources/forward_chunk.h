// Forward pass of a chunk of WKV7: everything that does not need its start state.
//
// r, decay_logit, k, v, alpha, beta, y [B, T, H, 64] bf16; per (bh, chunk): P, N, Q [64, 64] bf16,
// G [64] float32, X [64, 64] fp16 (written if keep).  lengths [B] int32 or null (= T).
// A CTA has 128 threads and 74752 bytes of shared memory (sources/kernels.json).
// Rows are tokens, g = sums of log_decay from the chunk's start, g' = g - log_decay, G = e^(g_64):
//
//   At = alpha e^g'    Rt = r e^g    Bh = beta e^-g    Kh = k e^-g
//   X = (I - tril(At Bh^T, -1))^-1       W = X At        Uv = X Z,  Z = tril(At Kh^T, -1) V
//   Q = Rt + tril(Rt Bh^T) W             y = tril(Rt Kh^T) V + tril(Rt Bh^T) Uv
//   P = W^T Bh diag(G)                   N = (V^T Kh + Uv^T Bh) diag(G)
//
// With S the state before the chunk: S_end = S diag(G) + S P + N and the true y is Q S^T + y.
// Pads are zeros with log_decay = 0, that is identities.  A chunk of pads only gets y = 0.
#pragma once
#include "tile.h"

struct ForwardChunk {
  const uint16_t *r, *decay_logit, *k, *v, *alpha, *beta;
  uint16_t *P, *N, *Q, *y;
  float* G;
  uint16_t* X;  // may be null without keep
  const int* lengths;
  int T, H, keep;
};

// byte offsets of tiles; AH is At in fp16; W takes the place of At, the stores that of Rt
enum { AT = 0, AH = 8192, BH = 16384, KH = 24576, RT = 32768, VV = 40960, XX = 49152, ZZ = 57344,
       UV = 65536, TOTALS = 73728, SHARED_BYTES = 74752 };
enum { LOGIT = ZZ };               // until Z is written
enum { Z_SCALES = TOTALS + 256 };  // behind G, once the totals have been read

// a 16 x 16 square of sums, as fp16, at block column `column` of the warp's block of a tile
DEV void put_square(uint32_t tile, int column, const uint32_t f[4], const Lane& me) {
  const uint32_t row = me.R0 + (me.mi & 1) * 8 + me.r8;
  stsm4(tile + sw(row, 2 * column + (me.mi >> 1)), f[0], f[1], f[2], f[3]);
}

// At, Rt, Bh, Kh (bf16), At (fp16) in place of alpha, r, beta, k; G -> TOTALS and memory.
// |At| <= 1: fp16 only loses what is below 6e-8, decayed to nothing against W and the state.
DEV void scale_tokens(const Decay& d, const Lane& me) {
#pragma unroll
  for (int i = 0; i < 16; i++) {
    const uint32_t ad = sw(me.R0 + i, me.id >> 2) + (me.id & 3) * 4;
    const float n0 = ex2(-d.g0[i]), n1 = ex2(-d.g1[i]);
    uint32_t x = S32(AT + ad);
    const float a0 = lo_bf(x) * ex2(d.g0[i] - d.l0[i]), a1 = hi_bf(x) * ex2(d.g1[i] - d.l1[i]);
    S32(AT + ad) = pk_bf(a0, a1);
    S32(AH + ad) = pk_hf(a0, a1);
    x = S32(RT + ad);
    S32(RT + ad) = pk_bf(lo_bf(x) * ex2(d.g0[i]), hi_bf(x) * ex2(d.g1[i]));
    x = S32(BH + ad);
    S32(BH + ad) = pk_bf(lo_bf(x) * n0, hi_bf(x) * n1);
    x = S32(KH + ad);
    S32(KH + ad) = pk_bf(lo_bf(x) * n0, hi_bf(x) * n1);
  }
}

// X_ww = (I - A_ww)^-1 of the diagonal block A_ww = `a` by joining blocks of 1, 2, 4, 8 in pairs:
// X += X A_between X.  A and X become right operands through the warp's own squares of ZZ and XX.
DEV void invert_diagonal(uint32_t fX[4], const Square a, const Lane& me) {
  Square x;
#pragma unroll
  for (int n = 0; n < 2; n++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int row = me.g + (e >> 1) * 8, col = n * 8 + me.c2 + (e & 1);
      x[n][e] = row == col ? 1.f : ((row ^ col) == 1 ? a[n][e] : 0.f);
    }
  uint32_t f[4], bA[4], bX[4];
  to_hf(f, a);
  put_square(ZZ, me.w, f, me);
  wsync();
  ldBt(bA, ZZ, me.w, me.w, me.mi, me.r8);
#pragma unroll
  for (int q = 1; q < 4; q++) {
    to_hf(fX, x);
    put_square(XX, me.w, fX, me);
    wsync();
    ldBt(bX, XX, me.w, me.w, me.mi, me.r8);
    Square xa = {}, xax = {};
    mma2_hf(xa[0], xa[1], fX, bA);
    to_hf(f, xa);
    mma2_hf(xax[0], xax[1], f, bX);
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {  // between: pairs that first meet in a block of 2^(q+1)
        const int row = me.g + (e >> 1) * 8, col = n * 8 + me.c2 + (e & 1);
        x[n][e] += ((row ^ col) >> q) == 1 ? xax[n][e] : 0.f;
      }
    wsync();
  }
  to_hf(fX, x);
  put_square(XX, me.w, fX, me);
}

// the warp's rows of A = tril(At Bh^T, -1) as fp16 operands fA, X_ww -> fX and XX, zeros above it
DEV void diagonal_of_inverse(uint32_t fA[4][4], uint32_t fX[4], const Operand at, const Lane& me) {
  Square diagonal;
#pragma unroll
  for (int kk = 0; kk < 4; kk++)
    if (kk <= me.w) {
      Square t = {};
#pragma unroll
      for (int ks = 0; ks < 4; ks++) {
        uint32_t b[4];
        ldBn(b, BH, ks, kk, me.mi, me.r8);
        mma2_bf(t[0], t[1], at[ks], b);
      }
      if (kk == me.w) {
        mask<STRICT_LOWER>(t, me);
#pragma unroll
        for (int n = 0; n < 2; n++)
#pragma unroll
          for (int e = 0; e < 4; e++) diagonal[n][e] = t[n][e];
      }
      to_hf(fA[kk], t);
    }
  invert_diagonal(fX, diagonal, me);
  const uint32_t zero[4] = {0, 0, 0, 0};
#pragma unroll
  for (int k = 0; k < 4; k++)
    if (k > me.w) put_square(XX, k, zero, me);
}

// X left of the diagonal: X_wj = X_ww sum_{j <= k < w} A_wk X_kj.  Warp k announces its rows of X
// at named barrier 1 + k, where the warps below wait.
DEV void rest_of_inverse(const uint32_t fA[4][4], const uint32_t fX[4], const Lane& me) {
  if (me.w == 0) return nb_arrive(1, 128);
  float t[6][4] = {};
#pragma unroll
  for (int k = 0; k < 3; k++)
    if (k < me.w) {
      nb_sync(1 + k, 32 * (4 - k));
#pragma unroll
      for (int np = 0; np < 3; np++)
        if (np <= k) {
          uint32_t b[4];
          ldBt(b, XX, k, np, me.mi, me.r8);
          mma2_hf(t[2 * np], t[2 * np + 1], fA[k], b);
        }
    }
#pragma unroll
  for (int np = 0; np < 3; np++)
    if (np < me.w) {  // the sum becomes a right operand through the warp's own rows of UV
      uint32_t f[4], b[4];
      to_hf(f, &t[2 * np]);
      put_square(UV, np, f, me);
      wsync();
      ldBt(b, UV, me.w, np, me.mi, me.r8);
      Square x = {};
      mma2_hf(x[0], x[1], fX, b);
      to_hf(f, x);
      put_square(XX, np, f, me);
    }
  if (me.w < 3) nb_arrive(1 + me.w, 32 * (4 - me.w));
}

// W = X At -> AT (only its own warp reads a block of At),  Uv = X Z -> UV
DEV void solve(const Lane& me) {
  Sums W = {}, U = {};
#pragma unroll 1
  for (int kk = 0; kk <= me.w; kk++) {
    const float scale = scale_of(Z_SCALES, kk);
    uint32_t a[4];
    ldA(a, XX, me.R0, kk, me.mi, me.r8);
#pragma unroll
    for (int np = 0; np < 4; np++) {
      uint32_t b[4];
      ldBt(b, AH, kk, np, me.mi, me.r8);
      mma2_hf(W[2 * np], W[2 * np + 1], a, b);
      ldBt(b, ZZ, kk, np, me.mi, me.r8);
      mma2_scaled(U[2 * np], U[2 * np + 1], a, b, scale);
    }
  }
  put<false>(AT, W, me);
  put<false>(UV, U, me);
}

// Q = Rt + tril(Rt Bh^T) W,  y = tril(Rt Bh^T) Uv + tril(Rt Kh^T) V
DEV void queries(Sums Q, Sums Y, const Lane& me) {
  Operand rt;
  load_operand(rt, RT, me);
#pragma unroll
  for (int n = 0; n < 8; n++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const uint32_t x = S32(RT + sw(me.R0 + me.g + 8 * h, n) + me.c2 * 2);
      Q[n][2 * h] = lo_bf(x);
      Q[n][2 * h + 1] = hi_bf(x);
    }
#pragma unroll 1
  for (int kk = 0; kk <= me.w; kk++) {
    Square qb = {}, qk = {};
#pragma unroll
    for (int ks = 0; ks < 4; ks++) {
      uint32_t b[4];
      ldBn(b, BH, ks, kk, me.mi, me.r8);
      mma2_bf(qb[0], qb[1], rt[ks], b);
      ldBn(b, KH, ks, kk, me.mi, me.r8);
      mma2_bf(qk[0], qk[1], rt[ks], b);
    }
    if (kk == me.w) {
      mask<LOWER>(qb, me);
      mask<LOWER>(qk, me);
    }
    uint32_t fb[4], fk[4];
    to_bf(fb, qb);
    to_bf(fk, qk);
#pragma unroll
    for (int np = 0; np < 4; np++) {
      uint32_t b[4];
      ldBt(b, AT, kk, np, me.mi, me.r8);
      mma2_bf(Q[2 * np], Q[2 * np + 1], fb, b);
      ldBt(b, UV, kk, np, me.mi, me.r8);
      mma2_bf(Y[2 * np], Y[2 * np + 1], fb, b);
      ldBt(b, VV, kk, np, me.mi, me.r8);
      mma2_bf(Y[2 * np], Y[2 * np + 1], fk, b);
    }
  }
}

// rows 16 (job & 3).. of P = W^T Bh diag(G) (jobs 0..3) or N = (Uv^T Bh + V^T Kh) diag(G) (4..7)
DEV void state_rows(Sums c, int job, const Lane& me) {
  const int M0 = 16 * (job & 3);
#pragma unroll
  for (int ks = 0; ks < 4; ks++) {
    uint32_t a[4], v[4];
    ldAt(a, job < 4 ? AT : UV, M0, ks, me.mi, me.r8);
    if (job >= 4) ldAt(v, VV, M0, ks, me.mi, me.r8);
#pragma unroll
    for (int np = 0; np < 4; np++) {
      uint32_t b[4];
      ldBt(b, BH, ks, np, me.mi, me.r8);
      mma2_bf(c[2 * np], c[2 * np + 1], a, b);
      if (job >= 4) {
        ldBt(b, KH, ks, np, me.mi, me.r8);
        mma2_bf(c[2 * np], c[2 * np + 1], v, b);
      }
    }
  }
#pragma unroll
  for (int n = 0; n < 8; n++) {
    const f2 G = SF2(TOTALS + (8 * n + me.c2) * 4);
    c[n][0] *= G.x; c[n][1] *= G.y; c[n][2] *= G.x; c[n][3] *= G.y;
  }
}
// the warps above have done fewer products until here: N0 N1 N2 P0 | N3 P1 P2 | P3 | nothing
DEV int warp_of_job(int job) {
  if (job >= 4) return job == 7 ? 1 : 0;
  return job == 0 ? 0 : job == 3 ? 2 : 1;
}

// a chunk with at least one true token
DEV void compute_chunk(const ForwardChunk& x, const Chunk& chunk, const Lane& me) {
  const long long tile = chunk.id * 4096;
  const Rows rows = rows_to_load(chunk, me);
  load_tokens(LOGIT, x.decay_logit, rows);
  cpa_commit();
  load_tokens(AT, x.alpha, rows);
  load_tokens(RT, x.r, rows);
  load_tokens(BH, x.beta, rows);
  load_tokens(KH, x.k, rows);
  cpa_commit();
  load_tokens(VV, x.v, rows);
  cpa_commit();
  {
    Decay d;
    cpa_waitn<2>();
    wsync();
    mask_logits(LOGIT, chunk, me);
    sum_decays(d, LOGIT, TOTALS, me);
    bar();
    add_blocks_above(d, TOTALS, me);
    cpa_waitn<1>();
    wsync();
    scale_tokens(d, me);
    cpa_waitn<0>();
    bar();
    if (me.w == 3) {  // the totals have been read: G takes their place
      const f2 total = f2{ex2(d.g0[15]), ex2(d.g1[15])};
      SF2(TOTALS + me.id * 8) = total;
      *(f2*)(x.G + chunk.id * 64 + 2 * me.id) = total;
    }
  }
  {
    uint32_t fA[4][4], fX[4];
    {
      Operand at;
      load_operand(at, AT, me);
      diagonal_of_inverse(fA, fX, at, me);
      Sums Z = {};
      triangle<STRICT_LOWER, NONE, NONE, NONE>(Z, Z, at, at, KH, VV, 0, 0, me);
      put_scaled(ZZ, Z_SCALES, Z, me);
    }
    bar();
    rest_of_inverse(fA, fX, me);
  }
  wsync();
  if (x.keep) out16(x.X + tile, 64, XX, me.R0, me.R0, me.id);
  solve(me);
  bar();
  {
    Sums q, out = {};
    queries(q, out, me);
    wsync();
    put<false>(RT, q, me);
    out16(x.Q + tile, 64, RT, me.R0, me.R0, me.id);
    put<false>(RT, out, me);
    store_tokens(x.y, RT, chunk, me);
  }
#pragma unroll 1
  for (int job = 0; job < 8; job++) {
    if (warp_of_job(job) != me.w) continue;
    Sums c = {};
    state_rows(c, job, me);
    put<false>(RT, c, me);
    out16((job < 4 ? x.P : x.N) + tile, 64, RT, me.R0, 16 * (job & 3), me.id);
  }
}
