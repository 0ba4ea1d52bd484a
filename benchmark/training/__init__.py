"""Training: schedules, the loop and its step, what a method is asked, checkpoints and evaluation."""
