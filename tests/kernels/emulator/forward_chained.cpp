// Runs the forms of forward_chained.cu on a CPU, the last block first: chunks before scans.
#include "forward_chained.cu"

#define FORM(name)                                                                        \
  extern "C" int name##_cpu(const ForwardChained* x, int blocks, int order) {             \
    return emulator::launch(blocks, 1, 128, SHARED_BYTES, order, [=] { name(*x); }, true); \
  }
FORM(forward_chained_1)
FORM(forward_chained_pairs)
