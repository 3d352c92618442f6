// The device side of device.h on a CPU: a block's threads are fibers of one thread of the host.
//
// A fiber runs until it waits at a barrier or at an instruction of the whole warp, so a run is
// deterministic.  `launch` takes the order in which ready fibers go on: ASCENDING lets the first
// warp run ahead as far as barriers allow and asynchronous copies arrive only when waited for;
// DESCENDING lets the last warp run ahead and copies arrive at once.  A missing barrier or wait
// shows as a wrong result in one of them.  Shared memory starts as NaN, between guard bands.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <vector>

#define DEV static inline
#define KERNEL(threads, blocks) static void
#define TID (emulator::block.thread)
#define BX (emulator::block.x)
#define BY (emulator::block.y)
static char* smem;
using std::max;
using std::min;

namespace emulator {
enum Order { ASCENDING, DESCENDING };
enum Result { OK, DEADLOCK, SHARED_OUT_OF_BOUNDS, TOO_EARLY };
const int WARPS = 16, GUARD = 4096, STACK = 1 << 17;

struct Copy { uint32_t to; const void* from; bool read; };
struct Fiber {
  ucontext_t context;
  jmp_buf resume;
  std::vector<char> stack = std::vector<char>(STACK);
  bool started = false, may_access = false;  // memory: only after await_previous
  std::deque<std::vector<Copy>> groups;  // committed, oldest first
  std::vector<Copy> copies;              // not yet committed
};
struct Barrier { int arrived = 0; std::vector<unsigned> waiting; };
struct Block {
  unsigned thread, x, y;
  int num_threads, num_done;
  bool too_early;
  Order order;
  uint32_t ready[WARPS];  // a bit per lane
  Barrier warp[WARPS], named[16];
  void* args[WARPS][32];  // what the lanes bring to an instruction of the warp
  jmp_buf scheduler;
  std::function<void()> body;
};
static Block block;
static std::vector<Fiber> fibers;

static inline Fiber& fiber() { return fibers[block.thread]; }
static inline int lane() { return block.thread & 31; }

static void suspend() {
  if (!_setjmp(fiber().resume)) _longjmp(block.scheduler, 1);
}
static void release(Barrier& barrier) {
  for (unsigned t : barrier.waiting) block.ready[t >> 5] |= 1u << (t & 31);
  barrier.waiting.clear();
  barrier.arrived = 0;
}
// `last` is run by the last to arrive, before anybody goes on
template <class Last>
static void meet(Barrier& barrier, int expected, bool wait, Last last) {
  if (++barrier.arrived == expected) {
    last();
    return release(barrier);
  }
  if (!wait) return;
  barrier.waiting.push_back(block.thread);
  block.ready[block.thread >> 5] &= ~(1u << lane());
  suspend();
}
// an instruction of the whole warp: run(args of the 32 lanes)
template <class Args, class Run>
static void together(Args& mine, Run run) {
  void** args = block.args[block.thread >> 5];
  args[lane()] = &mine;
  meet(block.warp[block.thread >> 5], 32, true, [&] {
    Args* all[32];
    for (int l = 0; l < 32; l++) all[l] = (Args*)args[l];
    run(all);
  });
}

static void enter() {
  block.body();
  block.ready[block.thread >> 5] &= ~(1u << lane());
  block.num_done++;
  block.too_early |= !fiber().may_access;
  _longjmp(block.scheduler, 1);
}
static bool pick() {
  for (int i = 0; i < WARPS; i++) {
    const int w = block.order == ASCENDING ? i : WARPS - 1 - i;
    const uint32_t ready = block.ready[w];
    if (!ready) continue;
    block.thread = 32 * w +
                   (block.order == ASCENDING ? __builtin_ctz(ready) : 31 - __builtin_clz(ready));
    return true;
  }
  return false;
}
static Result run_block() {
  ucontext_t here;
  while (true) {
    _setjmp(block.scheduler);
    if (block.num_done == block.num_threads) return OK;
    if (!pick()) return DEADLOCK;
    Fiber& f = fiber();
    if (f.started) _longjmp(f.resume, 1);
    f.started = true;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.data();
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    makecontext(&f.context, enter, 0);
    swapcontext(&here, &f.context);
  }
}

// every block of a grid, one after the other, the last one first if `backwards`
static int launch(int grid_x, int grid_y, int threads, int shared_bytes, int order,
                  std::function<void()> body, bool backwards = false) {
  std::vector<char> shared(shared_bytes + 2 * GUARD + 128);
  smem = (char*)(((uintptr_t)shared.data() + GUARD + 127) & ~(uintptr_t)127);
  fibers.resize(threads);
  for (int i = 0; i < grid_x * grid_y; i++) {
    std::fill(shared.begin(), shared.end(), (char)0xff);
    block = Block();
    const int number = backwards ? grid_x * grid_y - 1 - i : i;
    block.x = number % grid_x;
    block.y = number / grid_x;
    block.num_threads = threads;
    block.order = (Order)order;
    block.body = body;
    for (int t = 0; t < threads; t++) {
      block.ready[t >> 5] |= 1u << (t & 31);
      fibers[t].started = fibers[t].may_access = false;
      fibers[t].groups.clear();
      fibers[t].copies.clear();
    }
    const Result result = run_block();
    if (result != OK) return result;
    if (block.too_early) return TOO_EARLY;
    for (int g = 0; g < GUARD; g++)
      if (smem[-1 - g] != (char)0xff || smem[shared_bytes + g] != (char)0xff)
        return SHARED_OUT_OF_BOUNDS;
  }
  return OK;
}

static inline uint16_t load16(uint32_t off) {
  uint16_t x;
  memcpy(&x, smem + off, 2);
  return x;
}
static inline float from_bf(uint16_t x) {
  const uint32_t bits = (uint32_t)x << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
static inline float from_hf(uint16_t x) {
  _Float16 h;
  memcpy(&h, &x, 2);
  return (float)h;
}
static inline uint16_t to_bf(float f) {
  uint32_t bits;
  memcpy(&bits, &f, 4);
  if (f != f) return 0x7fff;
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
static inline uint16_t to_hf(float f) {
  const _Float16 h = (_Float16)f;
  uint16_t x;
  memcpy(&x, &h, 2);
  return x;
}

// lane 8 m + i brings the address of row i of matrix m; lane 4 g + t holds elements (g, 2 t) and
// (g, 2 t + 1) of every matrix, of its transpose if `transposed`
struct Matrices { uint32_t* r; uint32_t off; };
static inline uint32_t element(Matrices** all, int m, int row, int col) {
  return all[8 * m + row]->off + 2 * col;
}
static inline void load_matrices(uint32_t* r, uint32_t off, bool transposed) {
  Matrices mine{r, off};
  together(mine, [=](Matrices** all) {
    for (int l = 0; l < 32; l++)
      for (int m = 0; m < 4; m++) {
        const int g = l >> 2, t = 2 * (l & 3);
        const int row = transposed ? t : g, col = transposed ? g : t;
        const uint16_t x = load16(element(all, m, row, col));
        const uint16_t y = load16(element(all, m, row + transposed, col + !transposed));
        all[l]->r[m] = x | (uint32_t)y << 16;
      }
  });
}

// m16n8k16: A (row, k) in lane 4 (row % 8) + (k % 8) / 2, register row / 8 + 2 (k / 8);
// B (k, col) in lane 4 col + (k % 8) / 2, register k / 8; sums (row, col) as described in tile.h
struct Product { float* c; const uint32_t* a; uint32_t b[2]; };
template <class From>
static inline void multiply(float* c, const uint32_t* a, uint32_t b0, uint32_t b1, From from) {
  Product mine{c, a, {b0, b1}};
  together(mine, [=](Product** all) {
    float A[16][16], B[16][8];
    for (int k = 0; k < 16; k++) {
      const int part = (k & 7) / 2, shift = (k & 1) * 16, high = k >> 3;
      for (int i = 0; i < 16; i++)
        A[i][k] = from((uint16_t)(all[4 * (i & 7) + part]->a[(i >> 3) + 2 * high] >> shift));
      for (int j = 0; j < 8; j++) B[k][j] = from((uint16_t)(all[4 * j + part]->b[high] >> shift));
    }
    for (int l = 0; l < 32; l++)
      for (int e = 0; e < 4; e++) {
        const int row = (l >> 2) + (e >> 1) * 8, col = 2 * (l & 3) + (e & 1);
        double sum = all[l]->c[e];
        for (int k = 0; k < 16; k++) sum += (double)A[row][k] * B[k][col];
        all[l]->c[e] = (float)sum;
      }
  });
}

static inline void arrive(const Copy& copy) {
  if (copy.read) memcpy(smem + copy.to, copy.from, 16);
  else memset(smem + copy.to, 0, 16);
}
static inline void copy(uint32_t to, const void* from, bool read) {
  const Copy copy{to, from, read};
  block.too_early |= !fiber().may_access;
  if (block.order == DESCENDING) arrive(copy);
  else fiber().copies.push_back(copy);
}
template <class T> struct Exchange { T v; int from; };
template <class T> static inline T exchange(T v, int from) {
  Exchange<T> mine{v, from};
  together(mine, [](Exchange<T>** all) {
    T values[32];
    for (int l = 0; l < 32; l++) values[l] = all[l]->v;
    for (int l = 0; l < 32; l++) all[l]->v = values[all[l]->from];
  });
  return mine.v;
}
}  // namespace emulator

DEV void bar() {
  emulator::meet(emulator::block.named[0], emulator::block.num_threads, true, [] {});
}
DEV void wsync() { emulator::meet(emulator::block.warp[TID >> 5], 32, true, [] {}); }
DEV void nb_sync(int id, int n) { emulator::meet(emulator::block.named[id], n, true, [] {}); }
// the 32 lanes of the warp arrive one by one
DEV void nb_arrive(int id, int n) { emulator::meet(emulator::block.named[id], n, false, [] {}); }
DEV float shx(float v, int m) { return emulator::exchange(v, emulator::lane() ^ m); }
DEV uint32_t shfl(uint32_t v, int lane) { return emulator::exchange(v, lane); }
DEV int opaque(int x) { return x; }
DEV void await_previous() { emulator::fiber().may_access = true; }
DEV float as_f(uint32_t x) { return std::bit_cast<float>(x); }
DEV uint32_t as_u(float x) { return std::bit_cast<uint32_t>(x); }
DEV void ldsm4(uint32_t r[4], uint32_t off) { emulator::load_matrices(r, off, false); }
DEV void ldsm4t(uint32_t r[4], uint32_t off) { emulator::load_matrices(r, off, true); }
DEV void mma_bf(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
  emulator::multiply(c, a, b0, b1, emulator::from_bf);
}
DEV void mma_hf(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
  emulator::multiply(c, a, b0, b1, emulator::from_hf);
}
DEV uint32_t pk_bf(float lo, float hi) {
  return emulator::to_bf(lo) | (uint32_t)emulator::to_bf(hi) << 16;
}
DEV uint32_t pk_hf(float lo, float hi) {
  return emulator::to_hf(lo) | (uint32_t)emulator::to_hf(hi) << 16;
}
DEV float ex2(float x) { return exp2f(x); }
DEV float rcp(float x) { return 1.f / x; }
DEV void cpa16(uint32_t off, const void* g) { emulator::copy(off, g, true); }
DEV void cpa16z(uint32_t off, const void* g, bool read) { emulator::copy(off, g, read); }
DEV void cpa_commit() {
  emulator::Fiber& f = emulator::fiber();
  f.groups.push_back(std::move(f.copies));
  f.copies.clear();
}
template <int N> DEV void cpa_waitn() {
  emulator::Fiber& f = emulator::fiber();
  for (; (int)f.groups.size() > N; f.groups.pop_front())
    for (const emulator::Copy& copy : f.groups.front()) emulator::arrive(copy);
}
