// Runs backward_chained.cu on a CPU, scans first; `backwards`: a chunk first, which cannot end.
#include "backward_chained.cu"

extern "C" int backward_chained_cpu(const BackwardChained* x, int blocks, int order,
                                    bool backwards) {
  return emulator::launch(blocks, 1, 128, SHARED_BYTES, order, [=] { backward_chained(*x); },
                          backwards);
}
