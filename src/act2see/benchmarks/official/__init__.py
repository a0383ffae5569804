"""The data sets' official scoring rules, reimplemented: one module per data set.

Each module has `verdict(output, gold)` (or an equivalent), `FORM`, the format in which our strict answer is passed to the scorer, and `SOURCE`, the
code that defines the rule. `rules.RULES` applies them to samples and traces; `cases` checks them against recorded official verdicts.
"""
