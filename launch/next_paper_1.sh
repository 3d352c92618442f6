#!/usr/bin/env bash
# ARC and HotpotQA under one recipe, staged, five seeds to confirm.
set -euo pipefail
python -m fseed.run experiment=next_paper_1 -m "$@"
