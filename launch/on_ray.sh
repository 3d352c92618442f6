#!/usr/bin/env bash
# A Ray cluster of this machine alone, started and ended by the command. Words given to the script
# go to every run; without experiment=NAME it is hotpot_quick.
set -euo pipefail
case " $* " in *" experiment="*) ;; *) set -- experiment=hotpot_quick "$@" ;; esac
python -m fseed.run launcher=ray "$@" -m
