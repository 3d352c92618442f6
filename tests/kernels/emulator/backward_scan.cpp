// Runs backward_scan.cu on a CPU, and tells what shared memory it needs.
#include "backward_scan.cu"

extern "C" int backward_scan_rows_cpu(const BackwardScan* x, int grid_x, int grid_y, int order) {
  if (!x) return BackwardRows::SHARED;
  return emulator::launch(grid_x, grid_y, 128, BackwardRows::SHARED, order,
                          [=] { backward_scan_rows(*x); });
}
