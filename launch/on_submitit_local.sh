#!/usr/bin/env bash
# Cluster jobs without a cluster: submitit starts each run as a process of this machine. Words
# given to the script go to every run; without experiment=NAME it is hotpot_quick.
set -euo pipefail
case " $* " in *" experiment="*) ;; *) set -- experiment=hotpot_quick "$@" ;; esac
python -m fseed.run launcher=submitit_local "$@" -m
