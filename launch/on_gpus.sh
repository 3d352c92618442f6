#!/usr/bin/env bash
# Every GPU of this machine: a run per GPU, more where their memory allows. Words given to the
# script go to every run; without experiment=NAME it is hotpot_quick, without trainer=NAME gpu.
set -euo pipefail
case " $* " in *" experiment="*) ;; *) set -- experiment=hotpot_quick "$@" ;; esac
case " $* " in *" trainer="*) ;; *) set -- trainer=gpu "$@" ;; esac
python -m fseed.run launcher=slots "$@" -m
