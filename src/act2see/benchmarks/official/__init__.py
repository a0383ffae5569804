"""The official scoring rules of the evaluation data sets, in our own words: one module a data set.

Each module has `verdict(output, gold)` (or what its rule needs in its place), `FORM`, in which our own strict answer is printed for that scorer, and
`SOURCE`, where the rule was read. `rules.RULES` joins them to samples and traces; `cases` runs cases of official verdicts through them.
"""
