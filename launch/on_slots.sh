#!/usr/bin/env bash
# This machine, several runs at a time: a run per core, each in a process of its own. Words given
# to the script go to every run; without experiment=NAME it is hotpot_quick.
set -euo pipefail
case " $* " in *" experiment="*) ;; *) set -- experiment=hotpot_quick "$@" ;; esac
python -m fseed.run launcher=slots "$@" -m
