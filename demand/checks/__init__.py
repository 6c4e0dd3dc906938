"""How a model behaves: the domain's own tests, and Giskard's scan beside them."""
