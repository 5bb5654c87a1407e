"""Run by helm test: wait until every pod behind a Service is healthy and ready.

Arguments: name of the Service, port, timeout in seconds. Exits with 0, or with 1 and a line per problem.
"""

import socket
import sys
import time
import urllib.error
import urllib.request

PAUSE_SECONDS = 2.0
"""Between two attempts; a pod takes longer to get ready."""
ANSWER_SECONDS_MAX = 5.0
"""Longer than a healthy pod ever takes to answer."""


def addresses_of(host: str, port: int) -> list[str]:
    """Addresses of the pods; empty while DNS does not know the name."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(address[0]) for *_, address in found})


def problem_of(address: str, port: int, path: str) -> str | None:
    """What the pod answers if it is not 200."""
    shown = f"[{address}]" if ":" in address else address
    try:
        with urllib.request.urlopen(f"http://{shown}:{port}{path}", timeout=ANSWER_SECONDS_MAX):
            return None
    except urllib.error.HTTPError as error:
        return f"{shown}{path}: {error.code}: {error.read().decode().strip()}"
    except OSError as error:
        return f"{shown}{path}: {error}"


def main(host: str, port: int, seconds: float) -> None:
    """Retry until there is no problem, or the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        addresses = addresses_of(host, port)
        answers = [problem_of(address, port, path) for address in addresses for path in ("/healthz", "/readyz")]
        problems = [problem for problem in answers if problem] if addresses else [f"{host}: no pods behind this name"]
        if not problems:
            print(f"healthy and ready: {', '.join(addresses)}")
            return
        if time.monotonic() >= deadline:
            sys.exit("\n".join(problems))
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
