#!/usr/bin/env bash
# A Slurm cluster: job arrays that are requeued when they are preempted. Words given to the script
# go to every run, such as hydra.launcher.partition=NAME; without experiment=NAME it is
# hotpot_quick.
set -euo pipefail
case " $* " in *" experiment="*) ;; *) set -- experiment=hotpot_quick "$@" ;; esac
python -m fseed.run launcher=submitit_slurm "$@" -m
