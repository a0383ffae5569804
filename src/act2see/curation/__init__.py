"""Training data: constructed, filtered, reviewed, decontaminated and exported."""
