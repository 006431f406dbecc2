"""Run a benchmark: `python -m bench lateness|growth|listings|cached-listings|worst-bodies`."""

import argparse
import asyncio

from bench import cached_listings, growth, lateness, listings, worst_bodies

BENCHMARKS = {
    "lateness": lateness,
    "growth": growth,
    "listings": listings,
    "cached-listings": cached_listings,
    "worst-bodies": worst_bodies,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    for name, module in BENCHMARKS.items():
        command = commands.add_parser(name, help=(module.__doc__ or "").splitlines()[0])
        module.add_options(command)
    options = parser.parse_args()
    asyncio.run(BENCHMARKS[options.name].run(options))


main()
