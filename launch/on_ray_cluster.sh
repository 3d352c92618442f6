#!/usr/bin/env bash
# A Ray cluster that is there already: RAY_ADDRESS=head:6379, or auto on one of its nodes. Words
# given to the script go to every run; without experiment=NAME it is hotpot_quick.
set -euo pipefail
case " $* " in *" experiment="*) ;; *) set -- experiment=hotpot_quick "$@" ;; esac
python -m fseed.run launcher=ray launcher.ray_address="${RAY_ADDRESS:-auto}" "$@" -m
