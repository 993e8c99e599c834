"""How a step's processes start on the nodes of a cluster."""
