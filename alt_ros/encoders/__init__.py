"""From images to a unit vector: the network, its loss, and how it is deployed."""
