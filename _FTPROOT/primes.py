"""Prints the primes below a limit: python3 primes.py 100"""

import sys


def primes(limit):
    """The primes below `limit`, by the sieve of Eratosthenes."""
    composite = bytearray(limit)
    for n in range(2, limit):
        if composite[n]:
            continue
        yield n
        for multiple in range(n * n, limit, n):
            composite[multiple] = 1


if __name__ == "__main__":
    print(*primes(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
