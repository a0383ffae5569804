"""Other programs that run the loop: Ray, Inspect, lmms-eval."""
