"""What ``alt study`` runs: a file per study, and the folder in which each reports."""
