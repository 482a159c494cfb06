"""Reference values of log-densities and their derivatives by the predictor y, for tests/suite/likelihoods.rs.

mpmath computes them with 40 digits; where scipy.stats has the distribution and differs by more than 1e-7, both are printed.
Run: python likelihoods.py > likelihoods.json  (mpmath 1.3, scipy 1.17)
"""

import json
import sys

import mpmath as mp
from scipy import stats

mp.mp.dps = 40


def gaussian(x, y, sigma):
    return -mp.log(2 * mp.pi * sigma**2) / 2 - (x - y) ** 2 / (2 * sigma**2)


def student_t(x, y, scale, nu):
    u = (x - y) / scale
    return (
        mp.loggamma((nu + 1) / 2)
        - mp.loggamma(nu / 2)
        - mp.log(nu * mp.pi) / 2
        - mp.log(scale)
        - (nu + 1) / 2 * mp.log1p(u**2 / nu)
    )


def laplace(x, y, b):
    return -mp.log(2 * b) - abs(x - y) / b


def log_normal(x, y, sigma):
    return gaussian(mp.log(x), y, sigma) - mp.log(x)


def bernoulli(x, y):
    return x * y - mp.log1p(mp.exp(y))


def continuous_bernoulli(x, y):
    return x * y - (mp.log(mp.expm1(y) / y) if y != 0 else 0)


def binomial(x, y, n):
    choose = mp.loggamma(n + 1) - mp.loggamma(x + 1) - mp.loggamma(n - x + 1)
    return choose + x * y - n * mp.log1p(mp.exp(y))


def poisson(x, y):
    return x * y - mp.exp(y) - mp.loggamma(x + 1)


def negative_binomial(x, y, r):
    mu = mp.exp(y)
    rising = mp.loggamma(x + r) - mp.loggamma(r) - mp.loggamma(x + 1)
    return rising + x * mp.log(mu / (mu + r)) - r * mp.log1p(mu / r)


def zero_inflated_poisson(x, y, share):
    plain = (1 - share) * mp.exp(poisson(x, y))
    return mp.log(plain + (share if x == 0 else 0))


def ordinal(x, y, first, second):
    """Four categories, thresholds 0, first, first + second."""
    thresholds = [-mp.inf, mp.mpf(0), first, first + second, mp.inf]
    cumulative = lambda t: 1 / (1 + mp.exp(y - t)) if mp.isfinite(t) else mp.mpf(t > 0)
    x = int(x)
    return mp.log(cumulative(thresholds[x + 1]) - cumulative(thresholds[x]))


SCIPY = {
    "gaussian": lambda x, y, s: stats.norm.logpdf(x, y, s),
    "student_t": lambda x, y, s, nu: stats.t.logpdf(x, nu, y, s),
    "laplace": lambda x, y, b: stats.laplace.logpdf(x, y, b),
    "log_normal": lambda x, y, s: stats.lognorm.logpdf(x, s, scale=float(mp.exp(y))),
    "binomial": lambda x, y, n: stats.binom.logpmf(x, n, float(1 / (1 + mp.exp(-y)))),
    "poisson": lambda x, y: stats.poisson.logpmf(x, float(mp.exp(y))),
    "negative_binomial": lambda x, y, r: stats.nbinom.logpmf(x, r, float(r / (r + mp.exp(y)))),
}

CASES = [
    (gaussian, [(0.3, -1.2, 0.7), (1e3, 0.0, 1e-2), (-4.0, 2.5, 40.0)]),
    (student_t, [(0.3, -1.2, 0.7, 3.5), (50.0, 0.0, 0.1, 1.0), (0.2, 0.1, 2.0, 1e9), (1e6, 0.0, 1.0, 30.0)]),
    (laplace, [(0.3, -1.2, 0.7), (-5.0, 8.0, 0.01)]),
    (log_normal, [(0.3, -1.2, 0.7), (1e5, 3.0, 2.0), (1e-8, 0.5, 0.3)]),
    (bernoulli, [(1.0, 0.4), (0.0, 30.0), (0.3, -2.0), (1.0, -40.0)]),
    (continuous_bernoulli, [(0.3, -2.0), (1.0, 1e-4), (0.9, 0.99), (0.1, 1.01), (0.5, 300.0), (0.0, -35.0)]),
    (binomial, [(3.0, 0.4, 10.0), (0.0, -5.0, 250.0), (4e5, -0.4, 1e6), (2.0, -17.0, 1e8)]),
    (poisson, [(3.0, 0.4), (0.0, -20.0), (255.0, 5.5), (256.0, 5.5), (1e6, 13.8), (4e15, 35.9)]),
    (
        negative_binomial,
        [(3.0, 0.4, 2.5), (0.0, 2.0, 1e-3), (17.0, -3.0, 0.2), (400.0, 5.0, 3.0), (1e6, 13.0, 50.0), (12.0, 2.0, 1e8), (1e5, 11.5, 1e8)],
    ),
    (zero_inflated_poisson, [(0.0, 1.0, 0.3), (4.0, 1.0, 0.3), (0.0, 40.0, 0.01)]),
    (ordinal, [(0.0, 0.3, 0.8, 1.5), (1.0, 0.3, 0.8, 1.5), (2.0, -6.0, 0.8, 1.5), (3.0, 40.0, 0.8, 1.5), (1.0, 200.0, 0.01, 1.5)]),
]


def main():
    rows = []
    for function, cases in CASES:
        for case in cases:
            x, y, *parameters = (mp.mpf(v) for v in case)
            value = function(x, y, *parameters)
            if function.__name__ in SCIPY and abs(x) < 1e12:
                other = float(SCIPY[function.__name__](*case))
                # scipy itself loses digits to cancellation, and returns -inf where a density underflows.
                if abs(other - value) > 1e-7 * max(1, abs(value)):
                    print("scipy differs:", function.__name__, case, other, float(value), file=sys.stderr)
            slope = mp.diff(lambda t: function(x, t, *parameters), y, h=mp.mpf(10) ** -15)
            rows.append(
                {
                    "likelihood": function.__name__,
                    "x": case[0],
                    "y": case[1],
                    "parameters": list(case[2:]),
                    "log_density": float(value),
                    "derivative": float(slope),
                }
            )
    json.dump(rows, sys.stdout, indent=1)
    print()


main()
