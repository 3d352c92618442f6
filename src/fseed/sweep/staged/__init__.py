"""A staged sweep: arms race over seeds, survivors meet fresh seeds, what is left is confirmed.

``stages`` says which seeds each stage has, ``book`` which runs that makes, ``flow`` what is known
and what is missing, ``runner`` starts it; ``plan_file``, ``decisions_file`` and ``probe_file`` are
what a later process resumes from.
"""
