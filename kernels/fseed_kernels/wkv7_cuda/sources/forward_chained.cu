// Whole forward pass in one launch, for many heads: scans run behind the chunks, through L2.
//
// Heads come in groups of `group`; for each the grid has its scans (num_heads / HEADS blocks, the
// form "rows" with two stages), then its chunks, those of all heads before the next chunk. Blocks
// start in the order of their number. A chunk waits for nothing and sets its flag when its tiles
// are written; a scan waits for the flag of the chunk it fetches. A group must have fewer scans
// than fit the device at a time. Results are those of the two kernels, bit for bit.
#include "flags.h"
#include "forward_chunk.h"
#include "forward_pairs.h"

struct ForwardChained {
  ForwardChunk chunk;
  ForwardScan scan;
  int* flags;            // [B * H, NC], zeros
  int num_heads, group;  // B * H; a multiple of HEADS
};

enum { STAGE_BYTES = Stage<4, true>::BYTES, OWN_BLOCKS = 2 * STAGE_BYTES };
static_assert(OWN_BLOCKS + 4 * BLOCK_BYTES <= SHARED_BYTES && 2 * PAIR_BYTES <= SHARED_BYTES,
              "a scan needs no more than a chunk");

// a head of a scan: `known` of its chunks have been seen
struct ScannedHead {
  Sample sample;
  int known;
};

DEV void fetch_published(ScannedHead& head, uint32_t stage, int c, const ForwardChained& x) {
  const Sample& s = head.sample;
  if (c < s.chunks) {
    await_chunk(head.known, c, s.chunks, x.flags + s.first_tile);
    fetch_rows<4, 128, true>(stage, s, c, TID, x.scan.step, x.scan.query, x.scan.added, x.scan.y,
                             x.scan.total, 0);
  }
  cpa_commit();
}

// heads first .. first + HEADS - 1 in turn, chunk by chunk
template <int HEADS>
DEV void scan_heads(const ForwardChained& x, int first, const Lane& me) {
  ScannedHead heads[HEADS];
  Square S[HEADS][4];
  int longest = 0;
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    const int bh = min(first + h, x.num_heads - 1);
    heads[h] = {find_sample(bh, x.scan.lengths, x.scan.tokens, x.scan.heads), 0};
    if (bh < first + h) heads[h].sample.chunks = 0;
    longest = max(longest, heads[h].sample.chunks);
    load_rows(S[h], x.scan, bh, me.R0, me);
  }
  fetch_published(heads[0], 0, 0, x);
#pragma unroll 1
  for (int c = 0; c < longest; c++)
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
      const int stage = (HEADS * c + h) & 1;
      cpa_waitn<0>();
      bar();  // the chunk has arrived; all warps are done with the other stage
      fetch_published(heads[(h + 1) % HEADS], (stage ^ 1) * STAGE_BYTES, c + (h + 1) / HEADS, x);
      if (c < heads[h].sample.chunks)
        step_rows<4>(S[h], stage * STAGE_BYTES, OWN_BLOCKS + BLOCK_BYTES * me.w, x.scan,
                     heads[h].sample, c, me.R0, me);
    }
#pragma unroll
  for (int h = 0; h < HEADS; h++)
    if (first + h < x.num_heads) store_rows(S[h], x.scan, first + h, me.R0, me);
}

DEV void publish_chunk(const ForwardChained& x, int c, int bh, const Lane& me) {
  const Chunk chunk = find_chunk(c, bh, x.chunk.lengths, x.chunk.T, x.chunk.H);
  if (chunk.tokens <= 0) return store_zeros(x.chunk.y, chunk);
  compute_chunk(x.chunk, chunk, me);
  bar();
  if (TID == 0) publish(x.flags + chunk.id);
}

template <int HEADS, bool PAIRS = false>
DEV void forward_chained(const ForwardChained& x) {
  await_previous();
  const Lane me = PAIRS ? lane_of(TID) : this_lane();
  const int num_scans = x.group / HEADS, num_chunks = (x.chunk.T - 1) / 64 + 1;
  const int blocks = num_scans + num_chunks * x.group;
  const int first_head = BX / blocks * x.group, i = BX % blocks - num_scans;
  if (i < 0) {
    const int first = first_head + (i + num_scans) * HEADS;
    if (first >= x.num_heads) return;
    if constexpr (PAIRS) scan_pairs(x.scan, x.flags, x.num_heads, first, me);
    else scan_heads<HEADS>(x, first, me);
  } else {
    const int bh = first_head + i % x.group;
    if (bh < x.num_heads) publish_chunk(x, i / x.group, bh, me);
  }
}

KERNEL(128, 3) forward_chained_1(const ForwardChained x) { forward_chained<1>(x); }
KERNEL(128, 3) forward_chained_pairs(const ForwardChained x) { forward_chained<2, true>(x); }
