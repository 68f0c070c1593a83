"""The whole mesh in memory, from one seed: real cores, and a network, clocks, disks and people that are not.

``python -m pibot_mesh.testing.simulation --seed 1`` runs one; `run` is what it calls. `world` puts it together.
"""
