"""The operator's page: what is shown, and the server that shows it; the node feeds it."""
