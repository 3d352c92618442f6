// Backward chunk kernel: what backward_chunk.h says, grid (ceil(T / 64), B * H).
#include "backward_chunk.h"

KERNEL(128, 2) backward_chunk(
    const uint16_t* r, const uint16_t* decay_logit, const uint16_t* k, const uint16_t* v,
    const uint16_t* alpha, const uint16_t* beta, const uint16_t* dy, const uint16_t* S,
    const uint16_t* dE, const uint16_t* X, uint16_t* dr, uint16_t* ddecay_logit, uint16_t* dk,
    uint16_t* dv, uint16_t* dalpha, uint16_t* dbeta, const int* lengths, int T, int H) {
  await_previous();
  const Chunk chunk = this_chunk(lengths, T, H);
  const BackwardChunk x = {r,  decay_logit,  k,  v,  alpha,  beta,  dy,      S, dE, X,
                           dr, ddecay_logit, dk, dv, dalpha, dbeta, lengths, T, H};
  compute_chunk<false>(x, chunk, this_lane(), nullptr);
}
