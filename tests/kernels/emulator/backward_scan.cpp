// Runs the forms of backward_scan.cu on a CPU, and tells what shared memory they need.
#include "backward_scan.cu"

template <void KERNEL_(const BackwardScan), int THREADS, int SHARED>
static int run(const BackwardScan* x, int grid_x, int grid_y, int order) {
  if (!x) return SHARED;
  return emulator::launch(grid_x, grid_y, THREADS, SHARED, order, [=] { KERNEL_(*x); });
}
#define FORM(name, threads, shared)                                                     \
  extern "C" int name##_cpu(const BackwardScan* x, int grid_x, int grid_y, int order) {  \
    return run<name, threads, shared>(x, grid_x, grid_y, order);                        \
  }
FORM(backward_scan_rows, 128, BackwardRows<4>::SHARED)
FORM(backward_scan_columns_1, 128, BackwardColumns<1>::SHARED)
FORM(backward_scan_columns_2, 256, BackwardColumns<2>::SHARED)
FORM(backward_scan_columns_4, 512, BackwardColumns<4>::SHARED)
