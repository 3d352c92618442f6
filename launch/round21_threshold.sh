#!/usr/bin/env bash
# The decision rule of round 21 on equal budgets: one seed a stage, +0.1 pp, then +0.2 pp.
set -euo pipefail
python -m fseed.run experiment=round21_matched sweep.name=round21_threshold \
    sweep.rule=threshold sweep.quick_seeds=1 sweep.medium_seeds=1 -m "$@"
