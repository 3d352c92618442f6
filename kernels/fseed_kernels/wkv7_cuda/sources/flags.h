// Flags in memory by which blocks of one kernel hand over results through L2: an int per chunk,
// 0 before the launch, 1 from the moment its tiles can be read.
#pragma once
#include "device.h"
#ifdef FSEED_EMULATOR
DEV void publish(int* flag) { *flag = 1; }
DEV bool is_published(const int* flag) { return *flag; }
DEV uint32_t ballot(bool x) {
  uint32_t all = 0;
  for (int lane = 0; lane < 32; lane++) all |= shfl(x, lane) << lane;
  return all;
}
DEV int trailing_zeros(uint32_t x) { return x ? __builtin_ctz(x) : 32; }
// blocks run one after the other: nobody is left who could set the flag; ends as a deadlock
DEV void pause() {
  emulator::block.ready[TID >> 5] &= ~(1u << emulator::lane());
  emulator::suspend();
}
#else
// after a barrier of the block: what all its threads have written can be read with the flag
DEV void publish(int* flag) {
  asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(flag), "r"(1) : "memory");
}
DEV bool is_published(const int* flag) {
  int x;
  asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(x) : "l"(flag) : "memory");
  return x != 0;
}
DEV uint32_t ballot(bool x) { return __ballot_sync(0xffffffffu, x); }
DEV int trailing_zeros(uint32_t x) { return x ? __ffs(x) - 1 : 32; }
DEV void pause() { __nanosleep(100); }
#endif

// Wait of a whole warp until chunk `chunk` of `chunks` can be read; flags 0 .. known - 1 have been
// seen.  32 flags per look: a warp that is behind rarely has to look.
DEV void await_chunk(int& known, int chunk, int chunks, const int* flags) {
  while (known <= chunk) {
    const int i = known + (TID & 31);
    const uint32_t missing = ~ballot(i < chunks && is_published(flags + i));
    known += trailing_zeros(missing);
    if (known <= chunk) pause();
  }
  wsync();
}
