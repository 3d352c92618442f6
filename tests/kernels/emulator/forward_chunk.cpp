// Runs forward_chunk.cu on a CPU; pointers in the order of its parameters, lengths may be null.
#include "forward_chunk.cu"

extern "C" int forward_chunk_cpu(void** p, int B, int T, int H, int keep, int order) {
  const auto in = [=](int i) { return (uint16_t*)p[i]; };
  return emulator::launch((T - 1) / 64 + 1, B * H, 128, SHARED_BYTES, order, [=] {
    forward_chunk(in(0), in(1), in(2), in(3), in(4), in(5), in(6), in(7), in(8), in(9),
                  (float*)p[10], in(11), (const int*)p[12], T, H, keep);
  });
}
