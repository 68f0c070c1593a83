"""One of several masters in a process of its own: ``python -m tests.faults.shared_master PORT STATE_DIR ROOT LEDGER``.

It leaves its boot in ``boot`` in its state directory.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from pibot_mesh.config.settings import BrokerSettings, MasterSettings
from pibot_mesh.master.service import Master


async def run(port: int, state_dir: Path, root: str, ledger: str) -> None:
    broker = BrokerSettings(port=port, keepalive_s=5)
    settings = MasterSettings(root, broker, state_dir, request_timeout_s=60, health_interval_s=2, ledger=ledger)
    master = Master(settings)
    (state_dir / "boot").write_text(master.boot)
    async with master:
        await asyncio.Event().wait()


if __name__ == "__main__":
    [_, port, state_dir, root, ledger] = sys.argv
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    asyncio.run(run(int(port), Path(state_dir), root, ledger))
