"""A scripted teacher with known faults: a backend for the synthetic data set's questions."""

from act2see.synthetic.teacher.backend import ErrorRates, Fault, ScriptedTeacher

__all__ = ["ErrorRates", "Fault", "ScriptedTeacher"]
