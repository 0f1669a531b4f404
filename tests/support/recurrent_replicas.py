"""Relevance through an LSTM and a GRU in NumPy, step by step, from the papers.

The formulas are those of Arras et al. (arXiv 1706.07206, 1909.12114). Slow, and without anything of the package: what its
rules, patterns and statistics are held against.
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def stabilized(z, epsilon):
    return z + epsilon * np.where(z >= 0, 1.0, -1.0)


def linear(inputs, kernels, bias, relevance, epsilon, factor):
    """The epsilon rule of z = sum_k x_k W_k + b: the relevance of each x_k, loops over samples and units (eq. 3)."""
    x, w = np.concatenate(inputs, axis=1), np.concatenate(kernels, axis=0)
    z = x @ w + bias
    found = np.zeros_like(x)
    for sample in range(len(x)):
        for unit in range(w.shape[1]):
            under = stabilized(z[sample, unit], epsilon)
            rest = bias[unit] + under - z[sample, unit]
            share = (x[sample] * w[:, unit] + factor * rest / len(w)) / under
            found[sample] += share * relevance[sample, unit]
    return np.split(found, np.cumsum([one.shape[1] for one in inputs])[:-1], axis=1)


def product(gate, signal, relevance, gates):
    """What a gate and its signal get of their product's relevance."""
    if gates == "constant":
        return 0 * relevance, relevance
    if gates == "halves":
        return relevance / 2, relevance / 2
    share = np.abs(gate) / (np.abs(gate) + np.abs(signal))
    return share * relevance, (1 - share) * relevance


def through_sigmoid(a, relevance):
    """What a sigmoid makes of 0 keeps its share."""
    return relevance * (sigmoid(a) - 0.5) / sigmoid(a)


class LSTM:
    """A forward pass that keeps everything of each step.

    Args:
        kernel, recurrent, bias: as Keras has them, the gates in the order i, f, c, o.
        x: (samples, steps, features).
        mask: (samples, steps), or None.
    """

    def __init__(self, kernel, recurrent, bias, x, mask=None):
        self.kernel, self.recurrent, self.bias, self.x, self.mask = kernel, recurrent, bias, x, mask
        units = len(recurrent)
        self.h, self.c = [np.zeros((len(x), units))], [np.zeros((len(x), units))]
        self.a, self.g, self.i, self.f, self.o, self.new = [], [], [], [], [], []
        for step in range(x.shape[1]):
            a = x[:, step] @ kernel + self.h[-1] @ recurrent + bias
            ai, af, ag, ao = np.split(a, 4, axis=1)
            i, f, g, o = sigmoid(ai), sigmoid(af), np.tanh(ag), sigmoid(ao)
            new = f * self.c[-1] + i * g
            h = o * np.tanh(new)
            seen = np.ones((len(x), 1), bool) if mask is None else mask[:, step, None]
            for kept, one in zip((self.a, self.i, self.f, self.g, self.o, self.new), (a, i, f, g, o, new), strict=True):
                kept.append(one)
            self.c.append(np.where(seen, new, self.c[-1]))
            self.h.append(np.where(seen, h, self.h[-1]))

    def relevance(self, last, epsilon, factor=0.0, gates="constant"):
        """Of the last output, (samples, units): that of the inputs, of the first h and of the first c."""
        r_h, r_c, found = last, np.zeros_like(last), []
        for t in reversed(range(self.x.shape[1])):
            before, after = self.c[t], self.new[t]
            to_o, to_tanh = product(self.o[t], np.tanh(after), r_h, gates)
            r_c = r_c + to_tanh
            added, carried = self.i[t] * self.g[t], self.f[t] * before
            r_added, r_carried = r_c * added / (added + carried), r_c * carried / (added + carried)
            to_i, to_g = product(self.i[t], self.g[t], r_added, gates)
            to_f, r_c = product(self.f[t], before, r_carried, gates)
            ai, af, _, ao = np.split(self.a[t], 4, axis=1)
            arrived = [through_sigmoid(ai, to_i), through_sigmoid(af, to_f), to_g, through_sigmoid(ao, to_o)]
            inputs, kernels = [self.x[:, t], self.h[t]], [self.kernel, self.recurrent]
            r_x, r_h = linear(inputs, kernels, self.bias, np.concatenate(arrived, 1), epsilon, factor)
            found.insert(0, r_x)
        return np.stack(found, axis=1), r_h, r_c

    def rows(self):
        """Of all steps that count, each a row: (x, h), the whole sum without its bias, and what the cell's sum adds up."""
        of_steps = []
        for t in range(self.x.shape[1]):
            seen = slice(None) if self.mask is None else self.mask[:, t]
            inputs = np.concatenate([self.x[:, t], self.h[t]], axis=1)
            parts = inputs, self.a[t] - self.bias, self.f[t] * self.c[t], self.i[t] * self.g[t]
            of_steps.append([part[seen] for part in parts])
        return [np.concatenate(parts) for parts in zip(*of_steps, strict=True)]


class GRU:
    """As `LSTM`, with `reset_after`: kernels in the order z, r, h; bias (2, 3 units)."""

    def __init__(self, kernel, recurrent, bias, x):
        self.kernel, self.recurrent, self.bias, self.x = kernel, recurrent, bias, x
        self.h, self.kept = [np.zeros((len(x), len(recurrent)))], []
        for step in range(x.shape[1]):
            xz, xr, xh = np.split(x[:, step] @ kernel + bias[0], 3, axis=1)
            hz, hr, hh = np.split(self.h[-1] @ recurrent + bias[1], 3, axis=1)
            z, r = sigmoid(xz + hz), sigmoid(xr + hr)
            new = np.tanh(xh + r * hh)
            self.kept.append((z, r, xh, hh, new))
            self.h.append(z * self.h[-1] + (1 - z) * new)

    def relevance(self, last, epsilon, factor=0.0):
        """As of `LSTM`, with the gates as constants."""
        r_h, found, units = last, [], len(self.recurrent)
        for t in reversed(range(self.x.shape[1])):
            z, r, xh, hh, new = self.kept[t]
            kept, added = z * self.h[t], (1 - z) * new
            r_kept, r_new = r_h * kept / (kept + added), r_h * added / (kept + added)
            under = xh + r * hh
            of_candidate = slice(2 * units, None)
            (r_x,) = linear(
                [self.x[:, t]],
                [self.kernel[:, of_candidate]],
                self.bias[0, of_candidate],
                r_new * xh / under,
                epsilon,
                factor,
            )
            (r_before,) = linear(
                [self.h[t]],
                [self.recurrent[:, of_candidate]],
                self.bias[1, of_candidate],
                r_new * r * hh / under,
                epsilon,
                factor,
            )
            r_h = r_kept + r_before
            found.insert(0, r_x)
        return np.stack(found, axis=1), r_h
