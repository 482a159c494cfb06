"""Values and gradients of a small variational autoencoder by JAX's automatic differentiation, in float64.

    pip install jax==0.10.2 && python tests/reference/make_gradients.py > tests/reference/gradients.json

One column is an observation; every matrix is written by columns. A layer is [W | b]. phi is (mean, log-variances, entries of L below the
diagonal by columns). The value is the sum over the observations, every constant kept, times POPULATION / N.
"""
import json
import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
D, H, K, N, SAMPLES, POPULATION = 5, 4, 2, 3, 2, 7
ROWS = {"isotropic": K + 1, "diagonal": 2 * K, "full": 2 * K + K * (K - 1) // 2}
rng = np.random.default_rng(2026)


def network(parameters, sizes, x):
    at = 0
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        weights = parameters[at:at + inputs * outputs].reshape(inputs, outputs).T
        at += inputs * outputs
        x = weights @ x + parameters[at:at + outputs][:, None]
        at += outputs
        if i + 2 < len(sizes):
            x = jnp.tanh(x)
    return x


def scale_factors(phi, family):
    """L_i, n x k x k."""
    if family == "isotropic":
        return jnp.exp(0.5 * phi[K])[:, None, None] * jnp.eye(K)
    factor = jnp.exp(0.5 * phi[K:2 * K]).T[:, :, None] * jnp.eye(K)
    if family == "full":
        below = [(row, column) for column in range(K) for row in range(column + 1, K)]
        for entry, (row, column) in enumerate(below):
            factor = factor.at[:, row, column].set(phi[2 * K + entry])
    return factor


def bound(encoder, decoder, log_variance, case):
    x = case["x"]
    phi = network(encoder, [D, H, ROWS[case["family"]]], (x - case["input_mean"][:, None]) / case["input_deviation"][:, None])
    mean, factor = phi[:K], scale_factors(phi, case["family"])
    covariance = factor @ factor.transpose(0, 2, 1)
    kl = 0.5 * jnp.sum(jnp.trace(covariance, axis1=1, axis2=2) + jnp.sum(mean**2, 0) - K - jnp.linalg.slogdet(covariance)[1])
    expected = 0.0
    for noise in case["noise"]:
        y = network(decoder, [K, H, D], mean + jnp.einsum("nij,jn->in", factor, noise))
        y = case["output_mean"][:, None] + case["output_deviation"][:, None] * y
        if case["likelihood"] == "bernoulli":
            expected += jnp.sum(x * y - jnp.logaddexp(0.0, y)) / SAMPLES
        else:
            variance = jnp.exp(log_variance)
            expected += jnp.sum(-0.5 * jnp.log(2 * jnp.pi * variance) - 0.5 * (x - y) ** 2 / variance) / SAMPLES
    return (expected - kl) * POPULATION / N


def flat(array):
    return np.asarray(array).flatten(order="F").tolist()


cases = []
for likelihood in ["gaussian", "bernoulli"]:
    for family in ROWS:
        x = rng.normal(size=(D, N)) * 2 + 1
        case = {
            "family": family,
            "likelihood": likelihood,
            "x": (x > 0.8).astype(float) if likelihood == "bernoulli" else x,
            "noise": rng.normal(size=(SAMPLES, K, N)),
            "input_mean": rng.normal(size=D),
            "input_deviation": rng.uniform(0.5, 2, size=D),
            "output_mean": rng.normal(size=D),
            "output_deviation": rng.uniform(0.5, 2, size=D),
        }
        count = lambda sizes: sum((i + 1) * o for i, o in zip(sizes, sizes[1:]))
        encoder = rng.normal(size=count([D, H, ROWS[family]])) * 0.6
        decoder = rng.normal(size=count([K, H, D])) * 0.6
        log_variance = float(rng.normal() * 0.5)
        value, gradients = jax.value_and_grad(bound, argnums=(0, 1, 2))(jnp.asarray(encoder), jnp.asarray(decoder), log_variance, case)
        cases.append({
            **{name: entry if isinstance(entry, str) else flat(entry) for name, entry in case.items() if name != "noise"},
            "noise": [flat(noise) for noise in case["noise"]],
            "encoder": flat(encoder), "decoder": flat(decoder), "log_variance": log_variance,
            "value": float(value), "d_encoder": flat(gradients[0]), "d_decoder": flat(gradients[1]), "d_log_variance": float(gradients[2]),
        })
sizes = {"data_dim": D, "hidden": H, "latent_dim": K, "observations": N, "samples": SAMPLES, "population": POPULATION}
print(json.dumps({"made_by": f"make_gradients.py with jax {jax.__version__}", **sizes, "cases": cases}))
