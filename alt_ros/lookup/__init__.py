"""The action lookup table: index, retrieval, the out-of-distribution monitor."""
