"""``python -m pibot_mesh`` is ``pibot``."""

from pibot_mesh.cli.main import main

main()
