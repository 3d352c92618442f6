"""What ``python -m fseed.run --help`` prints: examples, groups, the next commands. No Hydra."""

import textwrap

from fseed.config.options import default_options, read_groups

WIDTH = 100

_TOP = """\
fseed: does Future-Seed help RWKV-7 on a real task, and how sure are we?

  python -m fseed.run                                  one run on the embedded default
  python -m fseed.run fs=scalar_l10 seed=0,1,2 -m      a sweep: the runs, their baselines, the table
  python -m fseed.run fs=scalar_l10 lstart=9 alpha=m3 schedule=cosine     single choices on a preset
  python -m fseed.run fs='glob(scalar_*)' alpha.init=-3,-2.5,-2 sweep.dry_run=true -m
  python -m fseed.run task=hotpot data=local data.root=FOLDER fs=scalar_l10 seed=0,1,2 -m
  python -m fseed.run model=g1d_0b1 weights=FILE.pth task=hotpot_2048 trainer=bf16
  python -m fseed.run task=hotpot,arc fs=scalar_l10,raw_l10 sweep=staged -m   race, then confirm
  python -m fseed.run fs=scalar_l10 seed=0,1,2 -m launcher=slots         side by side, cores or GPUs
  python -m fseed.run experiment=round21 -m

group=option chooses a file of conf/, key=value sets one value; the command line wins over preset
and experiment. -m, anywhere in the line, runs every combination of the listed values, adds the
no_fs baseline of each arm (sweep.baseline=none: off) and skips what is finished: after a stop the
same command continues. Exit codes: 0 done, 1 a run failed, 2 bad input, 130 stopped by Ctrl-C.

Groups (the default comes first):
"""

_BOTTOM = """\

Values: seed, lstart, weights, alpha.init, alpha.lr, budget.steps, budget.tokens, data.root,
  sweep.name, output.root and every other line of: python -m fseed.run --cfg job

Options: --cfg job|hydra|all, --package KEY, -m or --multirun, --info [defaults-tree], --hydra-help,
  --config-dir FOLDER (options of your own), --shell-completion install=bash, --version

What each option means: conf/README.md. Next:
  python -m fseed.run fs=scalar_l10 --cfg job                  what a choice sets
  python -m fseed.run fs=scalar_l10 sweep.dry_run=true -m      what a sweep would start
  python -m fseed.collect                                      the tables of what has run"""


def help_text() -> str:
    """Return the help of ``fseed.run`` with every option of every group."""
    defaults = default_options()
    lines = []
    for group, options in read_groups().items():
        names = sorted(options, key=lambda name: name != defaults[group])
        words = f"  {group}: {', '.join(names)}"
        lines += textwrap.wrap(words, WIDTH, subsequent_indent="      ")
    return _TOP + "\n".join(lines) + "\n" + _BOTTOM
