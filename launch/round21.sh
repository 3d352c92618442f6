#!/usr/bin/env bash
# Round 21 as published: quick arms of 140 steps on one seed; then arms of 380 steps, which have no
# baseline of their own and get no number; both again on protein_ss, where the arms began at layer
# 10. The last table holds all of them. Words given to the script go to every run.
set -uo pipefail
trap "exit 130" INT
status=0
refined="fs=scalar_l10_norm_node,scalar_l10_trainable,scalar_l10_sched_cos,head_l10"
python -m fseed.run experiment=round21 -m "$@" || status=$?
python -m fseed.run experiment=round21 budget=steps_380 sweep.baseline=none -m "$@" || status=$?
python -m fseed.run experiment=round21 task=protein_ss "$refined" -m "$@" || status=$?
python -m fseed.run experiment=round21 task=protein_ss "$refined" \
    budget=steps_380 sweep.baseline=none -m "$@" || status=$?
python -m fseed.collect "${FSEED_OUTPUTS:-outputs}/round21" || status=$?
exit "$status"
