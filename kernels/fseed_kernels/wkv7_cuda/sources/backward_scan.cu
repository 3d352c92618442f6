// Backward scan: what backward_scan.h says, grid (1, B * H).
#include "backward_scan.h"

KERNEL(128, 1) backward_scan_rows(const BackwardScan x) {
  await_previous();
  backward_rows<false>(x, BY, nullptr);
}
