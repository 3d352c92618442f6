// Backward pass of a chunk of WKV7: all six input gradients, once the scans have given
// its start state S and dEG = (gradient of its end state) diag(G).
//
// Inputs and gradients [B, T, H, 64] bf16; per (bh, chunk): S, dEG [64, 64] bf16 (row = value),
// X [64, 64] fp16 from the forward kernel.  lengths [B] int32 or null (= T).
// A CTA has 128 threads and 114688 bytes of shared memory (sources/kernels.json).
// Notation of forward_chunk.h.
//
//   U  = X (tril(At Kh^T, -1) V + At S^T)         dU = triu(Bh Rt^T) dY + Bh dEG^T
//   dZ = X^T dU                                   dV = triu(Kh Rt^T) dY + Kh dEG^T
//                                                      + triu(Kh At^T, 1) dZ
//   dBh = triu(U dZ^T, 1) At + triu(U dY^T) Rt + U dEG      dbeta = dBh e^-g
//   dKh = triu(V dZ^T, 1) At + triu(V dY^T) Rt + V dEG      dk = dKh e^-g
//   dRt = tril(dY U^T) Bh + tril(dY V^T) Kh + dY S          dr = dRt e^g
//   dAt = tril(dZ U^T, -1) Bh + tril(dZ V^T, -1) Kh + dZ S  dalpha = dAt e^g'
//
// With the scaled tokens as the products saw them (rounded, so that pairs cancel exactly):
//   own = dRt Rt - dBh Bh - dKh Kh    before = dAt At
//   end = colsum(S dEG) + sum of (U dEG) Bh + sum of (V dEG) Kh       (what reaches G itself)
//   dlog_decay_j = sum_{i >= j} own_i + sum_{i > j} before_i + end
// where U dEG and V dEG count as part of dBh and dKh.  Gradients of pads come out as 0.
#pragma once
#include "flags.h"
#include "tile.h"

struct BackwardChunk {
  const uint16_t *r, *decay_logit, *k, *v, *alpha, *beta, *dy, *S, *dE, *X;
  uint16_t *dr, *ddecay_logit, *dk, *dv, *dalpha, *dbeta;
  const int* lengths;
  int T, H;
};

// byte offsets of tiles; G32: g in float32; OUT, the gradients' way out, takes the place of X;
// OWN and BEFORE, float32, that of At, Rt and of Bh, Kh
enum { AT = 0, RT = 8192, BH = 16384, KH = 24576, VV = 32768, DY = 40960, SS = 49152, DE = 57344,
       XX = 65536, UU = 73728, DZ = 81920, G32 = 90112, LOGIT = 106496, SHARED_BYTES = 114688 };
enum { OUT = XX, OWN = AT, BEFORE = BH, TOTALS = UU };
// scales of fp16 blocks: the first row above the diagonal blocks of X, which no product reads
enum { Z_SCALES = XX + 96, DU_SCALES = XX + 112 };

// At, Rt, Bh, Kh in place of alpha, r, beta, k; g -> G32
DEV void scale_tokens(const Decay& d, const Lane& me) {
#pragma unroll
  for (int i = 0; i < 16; i++) {
    const float g0 = d.g0[i], g1 = d.g1[i];
    const uint32_t row = me.R0 + i, ad = sw(row, me.id >> 2) + (me.id & 3) * 4;
    SF2(G32 + gof(row, 2 * me.id)) = f2{g0, g1};
    const float e0 = ex2(g0), e1 = ex2(g1), n0 = ex2(-g0), n1 = ex2(-g1);
    const float p0 = ex2(g0 - d.l0[i]), p1 = ex2(g1 - d.l1[i]);
    uint32_t x = S32(AT + ad);
    S32(AT + ad) = pk_bf(lo_bf(x) * p0, hi_bf(x) * p1);
    x = S32(RT + ad);
    S32(RT + ad) = pk_bf(lo_bf(x) * e0, hi_bf(x) * e1);
    x = S32(BH + ad);
    S32(BH + ad) = pk_bf(lo_bf(x) * n0, hi_bf(x) * n1);
    x = S32(KH + ad);
    S32(KH + ad) = pk_bf(lo_bf(x) * n0, hi_bf(x) * n1);
  }
}

// Z = tril(At Kh^T, -1) V + At S^T -> UU,  dU -> DZ (both fp16, right operands of X),
// dV = triu(Kh Rt^T) dY + Kh dEG^T so far
DEV void right_sides(Sums dV, const Lane& me) {
  Sums Z = {}, dU = {};
  Operand p, q;
  load_operand(p, AT, me);
  triangle<STRICT_LOWER, NONE, NONE, NONE>(Z, Z, p, p, KH, VV, 0, 0, me);
  product<false, false>(Z, Z, p, p, SS, me);
  put_scaled(UU, Z_SCALES, Z, me);
#pragma unroll
  for (int ks = 0; ks < 4; ks++) {
    ldA(p[ks], BH, me.R0, ks, me.mi, me.r8);
    ldA(q[ks], KH, me.R0, ks, me.mi, me.r8);
  }
  triangle<UPPER, UPPER, NONE, NONE>(dU, dV, p, q, RT, DY, 0, 0, me);
  product<false, true>(dU, dV, p, q, DE, me);
  put_scaled(DZ, DU_SCALES, dU, me);
}

// U = X Z,  dZ = X^T dU
DEV void solve(Sums U, Sums dZ, const Lane& me) {
#pragma unroll 1
  for (int kk = 0; kk <= me.w; kk++) {
    const float scale = scale_of(Z_SCALES, kk);
    uint32_t a[4];
    ldA(a, XX, me.R0, kk, me.mi, me.r8);
#pragma unroll
    for (int np = 0; np < 4; np++) {
      uint32_t b[4];
      ldBt(b, UU, kk, np, me.mi, me.r8);
      mma2_scaled(U[2 * np], U[2 * np + 1], a, b, scale);
    }
  }
#pragma unroll 1
  for (int kk = me.w; kk < 4; kk++) {
    const float scale = scale_of(DU_SCALES, kk);
    uint32_t a[4];
    ldAt(a, XX, me.R0, kk, me.mi, me.r8);
#pragma unroll
    for (int np = 0; np < 4; np++) {
      uint32_t b[4];
      ldBt(b, DZ, kk, np, me.mi, me.r8);
      mma2_scaled(dZ[2 * np], dZ[2 * np + 1], a, b, scale);
    }
  }
}

// gradients of the columns: dB = dBh e^-g, dK = dKh e^-g, own = -dBh Bh - dKh Kh,
// end[n] = this lane's part of the two columns' sums of the terms of G
DEV void column_gradients(Sums dB, Sums dK, Sums own, float end[8][2], const Lane& me) {
  Operand u, v;
#pragma unroll
  for (int ks = 0; ks < 4; ks++) {
    ldA(u[ks], UU, me.R0, ks, me.mi, me.r8);
    ldA(v[ks], VV, me.R0, ks, me.mi, me.r8);
  }
  product<true, true>(dB, dK, u, v, DE, me);
#pragma unroll
  for (int n = 0; n < 8; n++) {
    end[n][0] = end[n][1] = 0.f;
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const uint32_t ad = sw(me.R0 + me.g + 8 * h, n) + me.c2 * 2;
      const uint32_t b = S32(BH + ad), k = S32(KH + ad), s = S32(SS + ad), e = S32(DE + ad);
      end[n][0] += dB[n][2 * h] * lo_bf(b) + dK[n][2 * h] * lo_bf(k) + lo_bf(s) * lo_bf(e);
      end[n][1] += dB[n][2 * h + 1] * hi_bf(b) + dK[n][2 * h + 1] * hi_bf(k) + hi_bf(s) * hi_bf(e);
    }
  }
  triangle<STRICT_UPPER, STRICT_UPPER, UPPER, UPPER>(dB, dK, u, v, DZ, AT, DY, RT, me);
#pragma unroll
  for (int n = 0; n < 8; n++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const int row = me.R0 + me.g + 8 * h;
      const uint32_t ad = sw(row, n) + me.c2 * 2, b = S32(BH + ad), k = S32(KH + ad);
      const f2 g = SF2(G32 + gof(row, 8 * n + me.c2));
      const float n0 = ex2(-g.x), n1 = ex2(-g.y);
      own[n][2 * h] = -dB[n][2 * h] * lo_bf(b) - dK[n][2 * h] * lo_bf(k);
      own[n][2 * h + 1] = -dB[n][2 * h + 1] * hi_bf(b) - dK[n][2 * h + 1] * hi_bf(k);
      dB[n][2 * h] *= n0; dB[n][2 * h + 1] *= n1;
      dK[n][2 * h] *= n0; dK[n][2 * h + 1] *= n1;
    }
}

// gradients of the rows: dR = dRt e^g, dA = dAt e^g', own += dRt Rt, before = dAt At
DEV void row_gradients(Sums dR, Sums dA, Sums own, Sums before, const Lane& me) {
  Operand y, z;
#pragma unroll
  for (int ks = 0; ks < 4; ks++) {
    ldA(y[ks], DY, me.R0, ks, me.mi, me.r8);
    ldA(z[ks], DZ, me.R0, ks, me.mi, me.r8);
  }
  product<true, true>(dR, dA, y, z, SS, me);
  triangle<LOWER, STRICT_LOWER, LOWER, STRICT_LOWER>(dR, dA, y, z, UU, BH, VV, KH, me);
#pragma unroll
  for (int n = 0; n < 8; n++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const int row = me.R0 + me.g + 8 * h;
      const uint32_t ad = sw(row, n) + me.c2 * 2, r = S32(RT + ad), a = S32(AT + ad);
      const f2 g = SF2(G32 + gof(row, 8 * n + me.c2));
      f2 gp = f2{0.f, 0.f};
      if (row > 0) gp = SF2(G32 + gof(row - 1, 8 * n + me.c2));
      own[n][2 * h] += dR[n][2 * h] * lo_bf(r);
      own[n][2 * h + 1] += dR[n][2 * h + 1] * hi_bf(r);
      before[n][2 * h] = dA[n][2 * h] * lo_bf(a);
      before[n][2 * h + 1] = dA[n][2 * h + 1] * hi_bf(a);
      dR[n][2 * h] *= ex2(g.x); dR[n][2 * h + 1] *= ex2(g.y);
      dA[n][2 * h] *= ex2(gp.x); dA[n][2 * h + 1] *= ex2(gp.y);
    }
}

// sums over the warp's rows of `end` and of own + before, for the column pair of every lane; they
// lie in the warp's own rows of OUT
DEV uint32_t end_sums(int warp) { return OUT + 2048 * warp; }
DEV uint32_t block_sums(int warp) { return OUT + 2048 * warp + 256; }

DEV void put_end_sums(float end[8][2], const Lane& me) {
#pragma unroll
  for (int n = 0; n < 8; n++) {
#pragma unroll
    for (int m = 4; m < 32; m *= 2) {
      end[n][0] += shx(end[n][0], m);
      end[n][1] += shx(end[n][1], m);
    }
    if (me.g == 0) SF2(end_sums(me.w) + (8 * n + me.c2) * 4) = f2{end[n][0], end[n][1]};
  }
}
DEV void put_decay_terms(const Sums own, const Sums before, const Lane& me) {
#pragma unroll
  for (int n = 0; n < 8; n++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const uint32_t at = gof(me.R0 + me.g + 8 * h, 8 * n + me.c2);
      SF2(OWN + at) = f2{own[n][2 * h], own[n][2 * h + 1]};
      SF2(BEFORE + at) = f2{before[n][2 * h], before[n][2 * h + 1]};
    }
}

// dlogit = dlog_decay * scale * s (1 - s), s = sigmoid(logit), in place of the logits;
// a lane sums its two columns over the warp's rows, from the last one up
DEV void decay_gradients(const Lane& me) {
  float a0 = 0.f, a1 = 0.f;
#pragma unroll
  for (int i = 0; i < 16; i++) {
    const uint32_t at = gof(me.R0 + i, 2 * me.id);
    const f2 own = SF2(OWN + at), before = SF2(BEFORE + at);
    a0 += own.x + before.x;
    a1 += own.y + before.y;
  }
  SF2(block_sums(me.w) + me.id * 8) = f2{a0, a1};
  bar();
  a0 = a1 = 0.f;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const f2 end = SF2(end_sums(i) + me.id * 8);
    a0 += end.x; a1 += end.y;
    if (i > me.w) {
      const f2 below = SF2(block_sums(i) + me.id * 8);
      a0 += below.x; a1 += below.y;
    }
  }
#pragma unroll
  for (int i = 15; i >= 0; i--) {
    const uint32_t at = gof(me.R0 + i, 2 * me.id);
    const uint32_t ad = LOGIT + sw(me.R0 + i, me.id >> 2) + (me.id & 3) * 4, x = S32(ad);
    const f2 own = SF2(OWN + at), before = SF2(BEFORE + at);
    const float s0 = rcp(1.f + ex2(-LOG2E * lo_bf(x))), s1 = rcp(1.f + ex2(-LOG2E * hi_bf(x)));
    S32(ad) = pk_bf((a0 + own.x) * LOG_DECAY_SCALE * s0 * (1.f - s0),
                    (a1 + own.y) * LOG_DECAY_SCALE * s1 * (1.f - s1));
    a0 += own.x + before.x;
    a1 += own.y + before.y;
  }
}

DEV void store_sums(uint16_t* to, const Sums c, const Chunk& chunk, const Lane& me) {
  put<false>(OUT, c, me);
  store_tokens(to, OUT, chunk, me);
}

DEV void zero_gradients(const BackwardChunk& x, const Chunk& chunk) {
  uint16_t* const gradients[6] = {x.dr, x.ddecay_logit, x.dk, x.dv, x.dalpha, x.dbeta};
#pragma unroll
  for (int i = 0; i < 6; i++) store_zeros(gradients[i], chunk);
}

// CHAINED: dEG comes from a block of the same launch, which publishes `flag` when it is written
template <bool CHAINED>
DEV void compute_chunk(const BackwardChunk& x, const Chunk& chunk, const Lane& me,
                       const int* flag) {
  if (chunk.tokens <= 0) return zero_gradients(x, chunk);
  const Rows rows = rows_to_load(chunk, me);
  load_tokens(LOGIT, x.decay_logit, rows);
  cpa_commit();
  load_tokens(AT, x.alpha, rows);
  load_tokens(RT, x.r, rows);
  load_tokens(BH, x.beta, rows);
  load_tokens(KH, x.k, rows);
  cpa_commit();
  load_tokens(VV, x.v, rows);
  load_tokens(DY, x.dy, rows);
  load_scratch(SS, x.S + chunk.id * 4096, me);
  load_scratch(XX, x.X + chunk.id * 4096, me);
  if (!CHAINED) load_scratch(DE, x.dE + chunk.id * 4096, me);
  cpa_commit();
  if (CHAINED && TID == 0)
    while (!is_published(flag)) pause();
  {
    Decay d;
    cpa_waitn<2>();
    wsync();
    mask_logits(LOGIT, chunk, me);
    sum_decays(d, LOGIT, TOTALS, me);
    bar();
    if (CHAINED) load_scratch(DE, x.dE + chunk.id * 4096, me);
    cpa_commit();
    add_blocks_above(d, TOTALS, me);
    cpa_waitn<2>();
    wsync();
    scale_tokens(d, me);
    cpa_waitn<0>();
    bar();
  }
  {
    Sums dV = {};
    right_sides(dV, me);
    bar();
    {
      Sums U = {}, dZ = {};
      solve(U, dZ, me);
      bar();
      put<false>(UU, U, me);
      put<false>(DZ, dZ, me);
    }
    bar();
    Operand kh;
    load_operand(kh, KH, me);
    triangle<STRICT_UPPER, NONE, NONE, NONE>(dV, dV, kh, kh, AT, DZ, 0, 0, me);
    store_sums(x.dv, dV, chunk, me);
  }
  Sums own;
  float end[8][2];
  {
    Sums dB = {}, dK = {};
    column_gradients(dB, dK, own, end, me);
    store_sums(x.dbeta, dB, chunk, me);
    store_sums(x.dk, dK, chunk, me);
  }
  {
    Sums dR = {}, dA = {}, before;
    row_gradients(dR, dA, own, before, me);
    store_sums(x.dr, dR, chunk, me);
    store_sums(x.dalpha, dA, chunk, me);
    put_end_sums(end, me);
    bar();  // every warp is done with At, Rt, Bh, Kh: the decay terms take their place
    put_decay_terms(own, before, me);
  }
  wsync();
  decay_gradients(me);
  store_tokens(x.ddecay_logit, LOGIT, chunk, me);
}
