// Whole backward pass in one launch: chunks run behind the scans, through L2.
//
// Heads come in groups of `group`; for each the grid has its scans (a block per head),
// then its chunks, from the last one on, those of all heads before the next chunk. Blocks start in
// the order of their number. A scan waits for nothing and sets the flag of a chunk when its E is
// written; a chunk waits for its flag while its other tiles are on their way. Results are those of
// the two kernels, bit for bit.
#include "backward_chunk.h"
#include "backward_scan.h"

struct BackwardChained {
  BackwardScan scan;
  BackwardChunk chunk;
  int* flags;            // [B * H, NC], zeros
  int num_heads, group;  // B * H; heads of a group
};

static_assert(BackwardRows::SHARED <= SHARED_BYTES, "a scan needs no more than a chunk");

KERNEL(128, 2) backward_chained(const BackwardChained x) {
  await_previous();
  const int num_chunks = (x.chunk.T - 1) / 64 + 1, blocks = x.group * (num_chunks + 1);
  const int i = BX % blocks, bh = BX / blocks * x.group + i % x.group;
  if (bh >= x.num_heads) return;
  if (i < x.group) return backward_rows<true>(x.scan, bh, x.flags);
  const int number = num_chunks - i / x.group;
  const Chunk chunk = find_chunk(number, bh, x.chunk.lengths, x.chunk.T, x.chunk.H);
  compute_chunk<true>(x.chunk, chunk, this_lane(), x.flags + chunk.id);
}
