#!/usr/bin/env bash
# The arms of round 21, staged: equal budgets, a race over seeds, confirmation on the test split.
set -euo pipefail
python -m fseed.run experiment=round21_matched -m "$@"
