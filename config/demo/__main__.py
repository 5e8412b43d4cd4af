"""``python -m config.demo``: the process behind the demo, kept alive by ``signalbox up``."""

from __future__ import annotations

import logging
import sys
import time

from config.cli.api import Address, Api
from config.cli.failures import Failure
from config.demo.install import install
from config.demo.models import lines
from config.demo.traffic import FIRST_REQUESTS, SHIFT_AFTER_S, Caller, Traffic, begun
from core.environment import environment

logger = logging.getLogger("demo")
_PATIENCE = 30


def main() -> None:
    """Install what is missing, then send traffic until ended."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    address = Address.find()
    made = lines()
    key = install(Api(address), made, environment().var_dir)
    traffic_api = Api(Address(address.console_url, address.predict_url, key))
    _wait_for_routes(traffic_api, made[-1].endpoint)
    is_new, began = begun(environment().demo_began)
    logger.info("traffic begins")
    Traffic(traffic_api, [Caller.of(line) for line in made], shift_at=began + SHIFT_AFTER_S).run(FIRST_REQUESTS if is_new else 0)


def _wait_for_routes(api: Api, endpoint: str) -> None:
    """A new endpoint is known to every data-plane process within a second or two; an empty request is refused once it is."""
    for _ in range(_PATIENCE):
        try:
            api.predict(endpoint, {"rows": []})
        except Failure as failure:
            if failure.status in {400, 422}:
                return
        time.sleep(0.5)


if __name__ == "__main__":
    main()
