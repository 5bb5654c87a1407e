"""For helm test: wait until every pod behind a Service says that it is healthy and ready.

Arguments: the Service's name, the port, and for how many seconds to try. Ends with 0 and one line, or with 1 and a line
for each pod that is not.
"""

import socket
import sys
import time
import urllib.error
import urllib.request

PAUSE_SECONDS = 2.0
ANSWER_SECONDS_MAX = 5.0


def addresses_of(host: str, port: int) -> list[str]:
    """Addresses of the pods; none while the name is not known."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(address[0]) for *_, address in found})


def trouble_of(address: str, port: int, path: str) -> str:
    """What the pod answers other than 200."""
    shown = f"[{address}]" if ":" in address else address
    try:
        with urllib.request.urlopen(f"http://{shown}:{port}{path}", timeout=ANSWER_SECONDS_MAX):
            return ""
    except urllib.error.HTTPError as error:
        return f"{shown}{path}: {error.code}: {error.read().decode().strip()}"
    except OSError as error:
        return f"{shown}{path}: {error}"


def main(host: str, port: int, seconds: float) -> None:
    """Try until all is well, or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        addresses = addresses_of(host, port)
        troubles = [trouble_of(address, port, path) for address in addresses for path in ("/healthz", "/readyz")]
        troubles = list(filter(None, troubles)) if addresses else [f"{host}: no pods behind this name"]
        if not troubles:
            print(f"healthy and ready: {', '.join(addresses)}")
            return
        if time.monotonic() >= deadline:
            sys.exit("\n".join(troubles))
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
