"""Slow NumPy twins: each transcribes the paper's sum as a plain loop. Shapes are those of the fast code."""

import numpy as np


def n_step_returns(rewards, discounts, boundaries, next_values):
    """Mnih et al. 2016, algorithm S3: R ← r_i + γR, from V(x_{t+1}) at the end of each episode or of the rollout."""
    T, B = rewards.shape
    returns = np.zeros((T, B))
    for b in range(B):
        for t in range(T):
            total, weight = 0.0, 1.0
            for i in range(t, T):
                total += weight * rewards[i, b]
                weight *= discounts[i, b]
                if boundaries[i, b] or i == T - 1:
                    total += weight * next_values[i, b]
                    break
            returns[t, b] = total
    return returns


def generalized_advantage(rewards, discounts, boundaries, values, next_values, lam):
    """Schulman et al. 2016, equation 16: Σ_l (γλ)^l δ_{t+l}, within the episode."""
    T, B = rewards.shape
    advantages = np.zeros((T, B))
    for b in range(B):
        for t in range(T):
            weight = 1.0
            for i in range(t, T):
                delta = rewards[i, b] + discounts[i, b] * next_values[i, b] - values[i, b]
                advantages[t, b] += weight * delta
                weight *= discounts[i, b] * lam
                if boundaries[i, b]:
                    break
    return advantages


def rmsprop(parameters, mean_square, gradient, learning_rate, decay, epsilon):
    """Mnih et al. 2016, equations S2 and S3, element by element; returns the new parameters and statistics."""
    new_parameters, new_square = np.zeros_like(parameters), np.zeros_like(mean_square)
    for i in range(len(parameters)):
        new_square[i] = decay * mean_square[i] + (1 - decay) * gradient[i] ** 2
        new_parameters[i] = parameters[i] - learning_rate * gradient[i] / np.sqrt(new_square[i] + epsilon)
    return new_parameters, new_square


def strided_convolution(images, kernel, bias, stride):
    """A convolution without padding as its definition: Σ over the window, for each output pixel."""
    N, H, W, _ = images.shape
    k, _, _, F = kernel.shape
    rows, columns = (H - k) // stride + 1, (W - k) // stride + 1
    out = np.zeros((N, rows, columns, F))
    for i in range(rows):
        for j in range(columns):
            window = images[:, i * stride : i * stride + k, j * stride : j * stride + k]
            out[:, i, j] = np.einsum("nhwc,hwcf->nf", window, kernel) + bias
    return out


def lstm(inputs, output, cell, resets, kernel, recurrent, bias):
    """Long short-term memory step by step, gate by gate, for each sequence of the batch alone."""
    T, B, _ = inputs.shape
    H = output.shape[1]
    outputs = np.zeros((T, B, H))
    for b in range(B):
        a, s = output[b].astype(float), cell[b].astype(float)
        for t in range(T):
            if resets[t, b]:
                a, s = np.zeros(H), np.zeros(H)
            z = inputs[t, b] @ kernel + a @ recurrent + bias
            i, f, g, o = z[:H], z[H : 2 * H], z[2 * H : 3 * H], z[3 * H :]
            s = _sigmoid(f) * s + _sigmoid(i) * np.tanh(g)
            a = _sigmoid(o) * np.tanh(s)
            outputs[t, b] = a
        output[b], cell[b] = a, s
    return outputs, output, cell


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))
