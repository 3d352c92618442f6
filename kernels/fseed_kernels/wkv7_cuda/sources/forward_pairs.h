// The forward scan in form "pairs", behind the chunks (forward_chained.cu): two warps per head.
//
// A warp keeps 32 rows (v) x 64 columns of the state in registers, so that what it reads of P and Q
// serves two products. The two pairs of a block share nothing. A pair has one chunk in shared
// memory and replaces it in parts: P, N and G while y is computed, Q and Yv while the state is.
// Rows 32 half .. of N and columns 32 half .. of Yv are the warp's own: S (bf16) and y take their
// place. It adds in the order of scan.h.
#pragma once
#include "flags.h"
#include "forward_scan.h"

// byte offsets in the shared memory of a pair
enum { PAIR_P = 0, PAIR_Q = TILE_BYTES, PAIR_N = 2 * TILE_BYTES, PAIR_Y = 3 * TILE_BYTES,
       PAIR_G = 4 * TILE_BYTES, PAIR_BYTES = PAIR_G + 256 };

// what is left of the head of a pair: `c` counts chunks from here
struct PairedHead {
  int tile, left, stride;  // tile of the first chunk; tokens; elements between them
  uint16_t* y;             // first token
  int known;               // chunks that have been seen
};
DEV void go_on(PairedHead& h) {
  h.tile++;
  h.left -= 64;
  h.y += 64 * h.stride;
  h.known--;
}

DEV Lane lane_of(int thread) {
  const int id = thread & 31, w = thread >> 5;
  return Lane{id, w, 16 * w, id >> 2, (id & 3) * 2, id >> 3, id & 7};
}

// a warp of a pair
struct PairedWarp {
  Lane lane;
  int id, row0;   // thread in the pair, first row
  uint32_t base;  // shared memory of the pair
};
// Addresses that come of `opaque` are computed anew where they are used: registers are scarce.
DEV PairedWarp this_paired_warp() {
  const int tid = opaque(TID);
  return {lane_of(tid), tid & 63, tid & 32, (uint32_t)(tid >> 6) * PAIR_BYTES};
}
DEV void await_paired(PairedHead& h, int c, const int* flags) {
  await_chunk(h.known, c, (h.left + 63) / 64, flags + h.tile);
}
DEV void meet_pair() { nb_sync(1 + (TID >> 6), 64); }

// P, G -> all of the pair; N -> the warp's own rows
DEV void fetch_state_part(const PairedHead& h, int c, const ForwardScan& x) {
  const PairedWarp w = this_paired_warp();
  const Lane& me = w.lane;
  const long long tile = h.tile + c, from = tile * TILE;
#pragma unroll
  for (int i = 0; i < 8; i++)
    cpa16(w.base + PAIR_P + sw(w.id >> 3, me.id & 7) + i * 1024,
          x.step + from + w.id * 8 + i * 512);
  if (w.id < 16) cpa16(w.base + PAIR_G + w.id * 16, x.total + tile * 64 + w.id * 4);
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const int row = w.row0 + (me.id >> 3) + 4 * i, piece = me.id & 7;
    cpa16(w.base + PAIR_N + sw(row, piece), x.added + from + row * 64 + piece * 8);
  }
}

DEV void fetch_queries(const PairedHead& h, int c, const ForwardScan& x) {
  const PairedWarp w = this_paired_warp();
  const Lane& me = w.lane;
  const long long from = (long long)(h.tile + c) * TILE;
#pragma unroll
  for (int i = 0; i < 8; i++)
    cpa16(w.base + PAIR_Q + sw(w.id >> 3, me.id & 7) + i * 1024,
          x.query + from + w.id * 8 + i * 512);
}

// the warp's own columns of Yv; what lies behind the end reads as zeros
DEV void fetch_local(const PairedHead& h, int c) {
  const PairedWarp w = this_paired_warp();
  const Lane& me = w.lane;
  const int row = me.id >> 2, left = h.left - 64 * c - row;
  const uint16_t* from = h.y + (64ll * c + row) * h.stride + w.row0 + (me.id & 3) * 8;
#pragma unroll
  for (int i = 0; i < 8; i++)
    cpa16z(w.base + PAIR_Y + sw(row, w.row0 / 8 + (me.id & 3)) + i * 1024,
           from + 8ll * i * h.stride, 8 * i < left);
}

// S -> operand a, S diag(G) + S P + N -> S; the old S -> memory if wanted
DEV void advance_pair(Square S[8], Operand a[2], const PairedHead& h, const ForwardScan& x) {
  const PairedWarp w = this_paired_warp();
  const Lane& me = w.lane;
  const uint32_t own = w.base + PAIR_N + w.row0 * 128;
#pragma unroll
  for (int k = 0; k < 4; k++) {
    const f2 total[2] = {SF2(w.base + PAIR_G + (16 * k + me.c2) * 4),
                         SF2(w.base + PAIR_G + (16 * k + 8 + me.c2) * 4)};
#pragma unroll
    for (int block = 0; block < 2; block++) {
      Square& s = S[4 * block + k];
      uint32_t added[4], *f = a[block][k];
      ldA(added, own, 16 * block, k, me.mi, me.r8);
      to_bf(f, s);
      if (x.states)  // where N has just been read
        stsm4(own + sw(16 * block + (me.mi & 1) * 8 + me.r8, 2 * k + (me.mi >> 1)), f[0], f[1],
              f[2], f[3]);
      add_local(s[0], total[0], added[0], added[1]);
      add_local(s[1], total[1], added[2], added[3]);
    }
  }
#pragma unroll
  for (int ks = 0; ks < 4; ks++)
#pragma unroll
    for (int np = 0; np < 4; np++) {  // S P
      uint32_t b[4];
      ldBt(b, w.base + PAIR_P, ks, np, me.mi, me.r8);
      mma2_bf(S[np][0], S[np][1], a[0][ks], b);
      mma2_bf(S[4 + np][0], S[4 + np][1], a[1][ks], b);
    }
  if (!x.states) return;
  wsync();
  uint16_t* to = x.states + (long long)h.tile * TILE + w.row0 * 64 + me.id * 8;
#pragma unroll
  for (int i = 0; i < 8; i++)
    *(u4*)(to + i * 256) = SU4(own + sw(4 * i + (me.id >> 3), me.id & 7));
}

// 16 tokens of y^T -> the place of their local part
DEV void put_y(const uint32_t out[2][4], int tokens, const PairedWarp& w) {
  const Lane& me = w.lane;
#pragma unroll
  for (int block = 0; block < 2; block++) {
    const uint32_t* f = out[block];
    stsm4t(w.base + PAIR_Y + sw(16 * tokens + (me.mi >> 1) * 8 + me.r8,
                                w.row0 / 8 + 2 * block + (me.mi & 1)), f[0], f[1], f[2], f[3]);
  }
}

// Y^T = S Q^T + Yv^T as bf16, 16 tokens at a time
DEV void query_pair(const Operand a[2]) {
  const PairedWarp w = this_paired_warp();
  const Lane& me = w.lane;
#pragma unroll
  for (int tokens = 0; tokens < 4; tokens++) {
    Square y[2];
#pragma unroll
    for (int block = 0; block < 2; block++) {
      uint32_t local[4];
      ldAt(local, w.base + PAIR_Y, w.row0 + 16 * block, tokens, me.mi, me.r8);
      unpack_y(y[block], local);
    }
#pragma unroll
    for (int ks = 0; ks < 4; ks++) {
      uint32_t b[4];
      ldBn(b, w.base + PAIR_Q, ks, tokens, me.mi, me.r8);
      mma2_bf(y[0][0], y[0][1], a[0][ks], b);
      mma2_bf(y[1][0], y[1][1], a[1][ks], b);
    }
    uint32_t out[2][4];
    to_bf(out[0], y[0]);
    to_bf(out[1], y[1]);
    put_y(out, tokens, w);
  }
}

DEV void store_y(const PairedHead& h) {
  const PairedWarp w = this_paired_warp();
  const Lane& me = w.lane;
  const int row = me.id >> 2;
  const uint32_t from = w.base + PAIR_Y + sw(row, w.row0 / 8 + (me.id & 3));
  uint16_t* to = h.y + (long long)row * h.stride + w.row0 + (me.id & 3) * 8;
  if (h.left >= 64) {  // without conditions all reads come before the first write
#pragma unroll
    for (int i = 0; i < 8; i++) *(u4*)(to + 8ll * i * h.stride) = SU4(from + i * 1024);
  } else {
#pragma unroll 1
    for (int i = 0; 8 * i + row < h.left; i++)
      *(u4*)(to + 8ll * i * h.stride) = SU4(from + i * 1024);
  }
}

// heads first and first + 1, each by a pair of warps of its own
DEV void scan_pairs(const ForwardScan& x, const int* flags, int num_heads, int first,
                    const Lane& me) {
  const int bh = first + (me.w >> 1), row0 = 32 * (me.w & 1);
  if (bh >= num_heads) return;
  const Sample s = find_sample(bh, x.lengths, x.tokens, x.heads);
  PairedHead head = {(int)s.first_tile, s.length, (int)s.token_stride, x.y + s.first_token, 0};
  Square S[8];
  load_rows(S, x, bh, row0, me);
  load_rows(S + 4, x, bh, row0 + 16, me);
  if (head.left > 0) {
    await_paired(head, 0, flags);
    fetch_state_part(head, 0, x);
    cpa_commit();
    fetch_queries(head, 0, x);
    fetch_local(head, 0);
    cpa_commit();
  }
#pragma unroll 1
  for (; head.left > 0; go_on(head)) {
    const bool goes_on = head.left > 64;
    Operand a[2];
    cpa_waitn<1>();
    meet_pair();  // P, N, G have arrived
    advance_pair(S, a, head, x);
    cpa_waitn<0>();
    meet_pair();  // Q, Yv have arrived; P, N, G have been read
    if (goes_on) {
      await_paired(head, 1, flags);
      fetch_state_part(head, 1, x);
    }
    cpa_commit();
    query_pair(a);
    meet_pair();  // Q has been read
    if (goes_on) fetch_queries(head, 1, x);
    store_y(head);
    wsync();
    if (goes_on) fetch_local(head, 1);
    cpa_commit();
  }
  store_rows(S, x, bh, row0, me);
  store_rows(S + 4, x, bh, row0 + 16, me);
}
