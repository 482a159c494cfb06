"""Writes factor_analysis.json: factor analysis by scikit-learn (and by an independent BFGS), varimax by scikit-learn.

    python3 tests/reference/factor_analysis.py > tests/reference/factor_analysis.json

Needs numpy, scipy and scikit-learn; the versions used are in the file. Log-likelihoods are means per observation, in nats.
"""
import json

import numpy as np
import scipy
import sklearn
from scipy.optimize import minimize
from sklearn.datasets import load_iris, load_wine
from sklearn.decomposition import FactorAnalysis
from sklearn.decomposition._factor_analysis import _ortho_rotation


def log_likelihood(s, w, psi):
    c = w @ w.T + np.diag(psi)
    sign, logdet = np.linalg.slogdet(c)
    return -0.5 * (len(s) * np.log(2 * np.pi) + logdet + np.trace(np.linalg.solve(c, s)))


def bfgs(x, k, starts=6, floor=1e-6):
    """The maximum by a general-purpose optimiser over (W, ln psi), on standardised variables; nothing of the crate's algorithm is in it."""
    d, scale = x.shape[1], x.std(0)
    s = np.corrcoef(x.T)
    rng, best = np.random.default_rng(0), -np.inf

    def negative(p):
        w, log_psi = p[: d * k].reshape(d, k), p[d * k :]
        psi = np.exp(log_psi)
        c = w @ w.T + np.diag(psi)
        inverse = np.linalg.inv(c)
        g = inverse - inverse @ s @ inverse
        value = 0.5 * (d * np.log(2 * np.pi) + np.linalg.slogdet(c)[1] + np.sum(inverse * s))
        return value, np.concatenate([(g @ w).ravel(), 0.5 * np.diag(g) * psi])

    for _ in range(starts):
        p = np.concatenate([0.5 * rng.standard_normal(d * k), np.log(np.full(d, 0.5))])
        bounds = [(None, None)] * (d * k) + [(np.log(floor), None)] * d
        r = minimize(negative, p, jac=True, method="L-BFGS-B", bounds=bounds,
                     options={"maxiter": 100000, "maxfun": 200000, "ftol": 1e-16, "gtol": 1e-9, "maxcor": 50})
        best = max(best, -r.fun)
    return best - np.log(scale).sum()


cases = []
for name, x, ks in [("iris", load_iris().data, (1, 2)), ("wine", load_wine().data, (1, 2, 3, 5))]:
    for k in ks:
        z = (x - x.mean(0)) / x.std(0)
        fa = FactorAnalysis(k, tol=1e-10, max_iter=20000, svd_method="lapack").fit(z)
        w, psi = fa.components_.T * x.std(0)[:, None], fa.noise_variance_ * x.std(0) ** 2
        case = {
            "data": name, "latent_dim": k,
            "sklearn_log_likelihood": log_likelihood(np.cov(x.T, bias=True), w, psi), "sklearn_iterations": int(fa.n_iter_),
            "bfgs_log_likelihood": bfgs(x, k), "uniquenesses": (fa.noise_variance_).tolist(),
        }
        cases.append(case)

z = load_wine().data
fa = FactorAnalysis(3, tol=1e-10, max_iter=20000, svd_method="lapack").fit((z - z.mean(0)) / z.std(0))
rotated = _ortho_rotation(fa.components_.T, method="varimax", tol=1e-14, max_iter=10000)
varimax = {"loadings": fa.components_.T.tolist(), "rotated": np.asarray(rotated).T.tolist() if np.asarray(rotated).shape[0] == 3 else np.asarray(rotated).tolist()}
print(json.dumps({
    "numpy": np.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__, "cases": cases, "varimax": varimax,
}, indent=1))
