#!/usr/bin/env bash
# The failure appendix: variants that earlier work dropped, three seeds, every row kept.
set -euo pipefail
python -m fseed.run experiment=next_paper_4 -m "$@"
