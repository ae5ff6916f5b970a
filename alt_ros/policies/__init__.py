"""The contract of a policy, and a file per policy."""
