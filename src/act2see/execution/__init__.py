"""How many questions are asked at once, what they cost, how fast they may go, and what becomes of unexpected errors."""
