"""How much of what a policy did was demonstrated: trajectory distances and the similarity S."""
