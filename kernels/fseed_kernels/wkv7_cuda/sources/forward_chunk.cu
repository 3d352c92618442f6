// Forward chunk kernel: what forward_chunk.h says, grid (ceil(T / 64), B * H).
#include "forward_chunk.h"

KERNEL(128, 3) forward_chunk(
    const uint16_t* r, const uint16_t* decay_logit, const uint16_t* k, const uint16_t* v,
    const uint16_t* alpha, const uint16_t* beta, uint16_t* P, uint16_t* N, uint16_t* Q,
    uint16_t* y, float* G, uint16_t* X, const int* lengths, int T, int H, int keep) {
  await_previous();
  const Chunk chunk = this_chunk(lengths, T, H);
  if (chunk.tokens <= 0) return store_zeros(y, chunk);
  const ForwardChunk x = {r, decay_logit, k, v, alpha, beta, P, N, Q, y, G, X, lengths, T, H, keep};
  compute_chunk(x, chunk, this_lane());
}
