#!/usr/bin/env bash
# MBPP judged by executing the programs, staged.
set -euo pipefail
python -m fseed.run experiment=next_paper_3 -m "$@"
