"""One script per question; each prints its table last."""
