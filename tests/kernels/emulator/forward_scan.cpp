// Runs the forms of forward_scan.cu on a CPU, and tells what shared memory they need.
#include "forward_scan.cu"

template <void KERNEL_(const ForwardScan), int THREADS, int SHARED>
static int run(const ForwardScan* x, int grid_x, int grid_y, int order) {
  if (!x) return SHARED;
  return emulator::launch(grid_x, grid_y, THREADS, SHARED, order, [=] { KERNEL_(*x); });
}
#define FORM(name, threads, shared)                                                     \
  extern "C" int name##_cpu(const ForwardScan* x, int grid_x, int grid_y, int order) {  \
    return run<name, threads, shared>(x, grid_x, grid_y, order);                        \
  }
FORM(forward_scan_rows, 128, ForwardRows<4>::SHARED)
FORM(forward_scan_columns_1, 128, ForwardColumns<1>::SHARED)
