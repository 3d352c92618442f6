#!/usr/bin/env bash
# Every task once on generated data: nano without Future-Seed, before and after a quick budget.
# The table at the end sets both beside the constant and the copied answer. Words given to the
# script go to every run: bash launch/all_tasks_mini.sh trainer=gpu
set -euo pipefail

# task, optimiser steps, batch size: the quick budgets of the earlier rounds where there were some
while read -r task steps batch; do
    python -m fseed.run task="$task" fs=no_fs seed=0 sweep.name=all_tasks_mini \
        budget.steps="$steps" budget.batch_size="$batch" budget.generate_first=true \
        trainer.progress=false "$@" < /dev/null
done << TASKS
hotpot 120 16
hotpot_retrieval 120 16
arc 160 16
squad 120 16
longfill 120 8
punc_restore 170 8
mbpp 140 8
sudoku4 180 64
sudoku9 180 16
protein_ss 140 8
protein_contact 140 8
rightcopy 180 32
constr 180 32
kvsort 180 32
permfill 180 32
TASKS

python -m fseed.collect "${FSEED_OUTPUTS:-outputs}/all_tasks_mini"
