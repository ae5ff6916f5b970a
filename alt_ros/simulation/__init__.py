"""The cup scene, its scripted expert, the scenarios of a trial, and roll-outs."""
