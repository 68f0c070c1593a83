"""The connection to the broker, and the two brokers that the mesh can bring along."""
