#!/usr/bin/env bash
# Round 20 as published: quick arms of 120 steps on one seed; then arms of 320 steps, which have no
# baseline of their own and get no number; then the arm that seeds no layer. The last table holds
# all of them. Words given to the script go to every run.
set -uo pipefail
trap "exit 130" INT
status=0
python -m fseed.run experiment=round20 -m "$@" || status=$?
python -m fseed.run experiment=round20 budget=steps_320 sweep.baseline=none -m "$@" || status=$?
python -m fseed.run experiment=round20 fs=scalar_l10_norm_detach \
    lstart=12 fs.allow_noop=true -m "$@" || status=$?
python -m fseed.collect "${FSEED_OUTPUTS:-outputs}/round20" || status=$?
exit "$status"
