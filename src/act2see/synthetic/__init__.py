"""The synthetic world: clips of coloured shapes, questions about them, a scripted teacher. What the embedded models know, and all that they know."""
