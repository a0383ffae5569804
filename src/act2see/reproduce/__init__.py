"""The paper's experiments in small, on the synthetic world: traces, trainings, evaluations and one page of tables."""
