// Instructions of the device by short names, and what replaces them where it lacks them.
//
// bar, wsync           barrier of the block, of the warp;  nb_sync, nb_arrive: named barriers
// shx, shfl            exchange in a warp
// ldsm4, stsm4         ldmatrix, stmatrix of four 8 x 8 matrices;  ...t: transposed
// mma_bf, mma_hf       mma.sync m16n8k16
// cpa16, cpa_commit, cpa_waitn   asynchronous copies into shared memory, their groups
//
// FSEED_EMULATOR: the same source on a CPU (tests/kernels/emulator).
#pragma once
typedef unsigned int uint32_t;
typedef unsigned short uint16_t;
struct alignas(16) u4 { uint32_t x, y, z, w; };
struct alignas(8) f2 { float x, y; };

#ifdef FSEED_EMULATOR
#include "emulator.h"
#else
#define DEV __device__ __forceinline__
#define KERNEL(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define TID threadIdx.x
#define BX blockIdx.x
#define BY blockIdx.y
extern __shared__ __align__(128) char smem[];

DEV uint32_t saddr(uint32_t off) { return (uint32_t)__cvta_generic_to_shared(smem) + off; }
DEV void bar() { __syncthreads(); }
DEV void wsync() { __syncwarp(); }
DEV void nb_sync(int id, int n) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(n) : "memory"); }
DEV void nb_arrive(int id, int n) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(n) : "memory");
}
// x; the compiler does not know that it is
DEV int opaque(int x) {
  asm volatile("" : "+r"(x));
  return x;
}
DEV float shx(float v, int m) { return __shfl_xor_sync(0xffffffffu, v, m); }
DEV uint32_t shfl(uint32_t v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
DEV float as_f(uint32_t x) { return __uint_as_float(x); }
DEV uint32_t as_u(float x) { return __float_as_uint(x); }
// Until all earlier kernels of the stream are done: first of all in a kernel, before any access to
// memory. From then on blocks of the next kernel may start and wait here in their turn.
DEV void await_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

DEV void ldsm4(uint32_t r[4], uint32_t off) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(saddr(off)) : "memory");
}
DEV void ldsm4t(uint32_t r[4], uint32_t off) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(saddr(off)) : "memory");
}
DEV void mma_bf(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
               "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEV void mma_hf(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
               "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEV uint32_t pk_bf(float lo, float hi) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
DEV uint32_t pk_hf(float lo, float hi) {
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
DEV float ex2(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
DEV float rcp(float x) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
DEV void cpa16(uint32_t off, const void* g) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(saddr(off)), "l"(g) : "memory");
}
// zeros instead of the 16 bytes where `read` is false; nothing is read there
DEV void cpa16z(uint32_t off, const void* g, bool read) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               ::"r"(saddr(off)), "l"(g), "r"(read ? 16 : 0) : "memory");
}
DEV void cpa_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// until at most N of this thread's groups are under way
template <int N> DEV void cpa_waitn() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
#endif
#if __CUDA_ARCH__ >= 900
DEV void stsm4(uint32_t off, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};"
               ::"r"(saddr(off)), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}
DEV void stsm4t(uint32_t off, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};"
               ::"r"(saddr(off)), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}
#else
// stmatrix by hand, also in the emulator: lane 8 m + i has the address of row i of matrix m
DEV void stsm4(uint32_t off, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  const uint32_t x[4] = {a, b, c, d};
  const int lane = TID & 31;
#pragma unroll
  for (int m = 0; m < 4; m++) {
    const uint32_t row = shfl(off, 8 * m + (lane >> 2));
    *(uint32_t*)(smem + row + 4 * (lane & 3)) = x[m];
  }
}
DEV void stsm4t(uint32_t off, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  const uint32_t x[4] = {a, b, c, d};
  const int lane = TID & 31;
#pragma unroll
  for (int m = 0; m < 4; m++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const uint32_t row = shfl(off, 8 * m + 2 * (lane & 3) + half);
      *(uint16_t*)(smem + row + 2 * (lane >> 2)) = (uint16_t)(x[m] >> (16 * half));
    }
}
#endif
