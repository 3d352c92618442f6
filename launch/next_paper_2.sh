#!/usr/bin/env bash
# The hard order of every task beside its causal-friendly control, five seeds.
set -euo pipefail
python -m fseed.run experiment=next_paper_2 -m "$@"
