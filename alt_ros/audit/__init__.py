"""What a policy recalled and did, held against what was demonstrated."""
