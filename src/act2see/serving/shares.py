"""How replicas share a cluster, and what one that could not start has said. Needs no Ray."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from act2see import registry
from act2see.config import ServeConfig
from act2see.execution.shares import whole_share

_OUR_ERROR = re.compile(r"act2see\.core\.errors\.\w+: (.+)")


@dataclass(frozen=True, slots=True)
class ReplicaShare:
    """What each of a server's replicas has of the cluster."""

    replicas: int
    cpus: float
    gpus: float

    @classmethod
    def of(cls, config: ServeConfig, has: Mapping[str, float], *, is_own: bool) -> "ReplicaShare":
        """Of one's own machine an equal part of the CPUs, else one CPU; for an engine the GPUs that it is spread over, if there are any.

        `has` are the cluster's resources by Ray's names, CPU and GPU.
        """
        count, gpus = config.replicas or 1, config.replica_gpus
        if registry.is_engine(config.backend) and not gpus and has.get("GPU"):
            gpus = float(config.tensor_parallel)
        return cls(count, whole_share(has.get("CPU", 1.0) / count) if is_own else 1.0, gpus)

    @property
    def options(self) -> dict[str, float]:
        """As Ray's options."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}

    def lacks(self, has: Mapping[str, float]) -> list[str]:
        """What the cluster has too little of, in words."""
        wanted = {"CPU": self.cpus * self.replicas, "GPU": self.gpus * self.replicas}
        return [f"{has.get(kind, 0.0):g} of {needed:g} {kind}s" for kind, needed in wanted.items() if needed > has.get(kind, 0.0)]


def reason_in(messages: Iterable[str]) -> str:
    """The error of this project in Ray's account of a failure, else its last line."""
    told = "\n".join(messages)
    ours = _OUR_ERROR.findall(told)
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return str(ours[-1]) if ours else f"a replica cannot start: {lines[-1] if lines else 'Ray does not say why'}"
