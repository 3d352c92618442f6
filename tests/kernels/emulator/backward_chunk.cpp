// Runs backward_chunk.cu on a CPU; pointers in the order of its parameters, lengths may be null.
#include "backward_chunk.cu"

extern "C" int backward_chunk_cpu(void** p, int B, int T, int H, int order) {
  const auto in = [=](int i) { return (uint16_t*)p[i]; };
  return emulator::launch((T - 1) / 64 + 1, B * H, 128, SHARED_BYTES, order, [=] {
    backward_chunk(in(0), in(1), in(2), in(3), in(4), in(5), in(6), in(7), in(8), in(9), in(10),
                   in(11), in(12), in(13), in(14), in(15), (const int*)p[16], T, H);
  });
}
