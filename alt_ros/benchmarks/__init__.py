"""What ``alt eval`` and ``alt bench`` run."""
