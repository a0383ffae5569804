"""The synthetic world: clips of coloured shapes, questions about them and a scripted teacher. The only domain of the embedded models."""
