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


def rnn(inputs, output, resets, kernel, recurrent, bias):
    """a[t] = tanh(b + W x[t] + Ω a[t−1]), for each sequence of the batch alone."""
    T, B, _ = inputs.shape
    outputs = np.zeros((T, B, output.shape[1]))
    for b in range(B):
        a = output[b].astype(float)
        for t in range(T):
            if resets[t, b]:
                a = np.zeros_like(a)
            a = np.tanh(bias + inputs[t, b] @ kernel + a @ recurrent)
            outputs[t, b] = a
    return outputs


def lstm(inputs, output, cell, resets, kernel, recurrent, bias, peepholes, output_peephole="previous"):
    """Graves: z_G = b_G + ψ_G s[t−1] + W_G x[t] + Ω_G a[t−1] for each gate G, gate by gate, sequence by sequence."""
    T, B, _ = inputs.shape
    H = output.shape[1]
    outputs, cells = np.zeros((T, B, H)), np.zeros((B, H))
    part = {"i": slice(0, H), "f": slice(H, 2 * H), "g": slice(2 * H, 3 * H), "o": slice(3 * H, 4 * H)}
    psi = dict(zip("ifo", peepholes, strict=True))
    for b in range(B):
        a, s = output[b].astype(float), cell[b].astype(float)
        for t in range(T):
            if resets[t, b]:
                a, s = np.zeros(H), np.zeros(H)
            z = {k: bias[p] + inputs[t, b] @ kernel[:, p] + a @ recurrent[:, p] for k, p in part.items()}
            before = s
            s = _sigmoid(z["f"] + psi["f"] * before) * before + _sigmoid(z["i"] + psi["i"] * before) * np.tanh(z["g"])
            seen = s if output_peephole == "current" else before
            a = _sigmoid(z["o"] + psi["o"] * seen) * np.tanh(s)
            outputs[t, b] = a
        cells[b] = s
    return outputs, outputs[-1], cells


def dnc_content_weights(memory, keys, strengths):
    """Graves et al. 2016, C(M, k, β): a softmax of β times the cosine, key by key."""
    B, N, _ = memory.shape
    weights = np.zeros((B, keys.shape[1], N))
    for b in range(B):
        for r, key in enumerate(keys[b]):
            cosines = [key @ row / (np.linalg.norm(key) * np.linalg.norm(row)) for row in memory[b]]
            scores = np.exp(strengths[b, r] * np.array(cosines))
            weights[b, r] = scores / scores.sum()
    return weights


def dnc_usage(usage, write, read, free_gates):
    """u_t = (u + w^w − u w^w) Π_r (1 − f^r w^r), location by location."""
    new = np.zeros_like(usage)
    for b, n in np.ndindex(*usage.shape):
        retention = np.prod([1 - free_gates[b, r] * read[b, r, n] for r in range(read.shape[1])])
        new[b, n] = (usage[b, n] + write[b, n] - usage[b, n] * write[b, n]) * retention
    return new


def dnc_allocation(usage):
    """a[φ_j] = (1 − u[φ_j]) Π_{i<j} u[φ_i], with the free list φ sorted, as the paper has it."""
    weights = np.zeros_like(usage)
    for b in range(len(usage)):
        used = 1.0
        for location in np.argsort(usage[b], kind="stable"):
            weights[b, location] = (1 - usage[b, location]) * used
            used *= usage[b, location]
    return weights


def dnc_write(memory, weights, erase, write):
    """M_t[n, w] = M[n, w] (1 − w^w[n] e[w]) + w^w[n] v[w]."""
    new = np.zeros_like(memory)
    for b, n, w in np.ndindex(*memory.shape):
        new[b, n, w] = memory[b, n, w] * (1 - weights[b, n] * erase[b, w]) + weights[b, n] * write[b, w]
    return new


def dnc_link(link, precedence, write):
    """L_t[i, j] = (1 − w[i] − w[j]) L[i, j] + w[i] p[j], nothing on the diagonal."""
    new = np.zeros_like(link)
    for b, i, j in np.ndindex(*link.shape):
        if i != j:
            new[b, i, j] = (1 - write[b, i] - write[b, j]) * link[b, i, j] + write[b, i] * precedence[b, j]
    return new


def dnc_precedence(precedence, write):
    """p_t = (1 − Σ w) p + w."""
    return np.array([(1 - w.sum()) * p + w for p, w in zip(precedence, write, strict=True)])


def dnc_read_weights(link, read, by_content, modes):
    """w_t = π_1 b + π_2 c + π_3 f with f[i] = Σ_j L[i, j] w[j] and b[i] = Σ_j L[j, i] w[j]."""
    new = np.zeros_like(read)
    for b, r, i in np.ndindex(*read.shape):
        backward, forward = link[b][:, i] @ read[b, r], link[b][i] @ read[b, r]
        new[b, r, i] = modes[b, r] @ np.array([backward, by_content[b, r, i], forward])
    return new


def dnc(inputs, weights, locations, width, heads):
    """A whole DNC from empty memory, as Graves et al. 2016 order it: interface, write, link, read, output."""
    kernel, recurrent, bias, peepholes, interface, interface_bias, output_map, output_bias = weights
    T, B, _ = inputs.shape
    N, W, R, H = locations, width, heads, len(recurrent)
    memory, usage, precedence, write = np.zeros((B, N, W)), np.zeros((B, N)), np.zeros((B, N)), np.zeros((B, N))
    link, read, reads = np.zeros((B, N, N)), np.zeros((B, R, N)), np.zeros((B, R, W))
    hidden, cell = np.zeros((B, H)), np.zeros((B, H))
    outputs = []
    for t in range(T):
        seen = np.concatenate([inputs[t], reads.reshape(B, -1)], -1)
        _, hidden, cell = lstm(seen[None], hidden, cell, np.zeros((1, B)), kernel, recurrent, bias, peepholes)
        xi = hidden @ interface + interface_bias
        ends = np.cumsum([W * R, R, W, 1, W, W, R, 1, 1, 3 * R])
        keys, strengths, key, strength, erase, vector, free, allocate, gate, modes = np.split(xi, ends[:-1], axis=-1)
        modes = np.exp(modes.reshape(B, R, 3))
        modes /= modes.sum(-1, keepdims=True)
        usage = dnc_usage(usage, write, read, _sigmoid(free))
        by_content = dnc_content_weights(memory + 1e-30, key[:, None], 1 + np.log1p(np.exp(strength)))[:, 0]
        allocation, g = dnc_allocation(usage), _sigmoid(allocate)
        write = _sigmoid(gate) * (g * allocation + (1 - g) * by_content)
        memory = dnc_write(memory, write, _sigmoid(erase), vector)
        link, precedence = dnc_link(link, precedence, write), dnc_precedence(precedence, write)
        found = dnc_content_weights(memory, keys.reshape(B, R, W), 1 + np.log1p(np.exp(strengths)))
        read = dnc_read_weights(link, read, found, modes)
        reads = np.einsum("brn,bnw->brw", read, memory)
        outputs.append(np.concatenate([hidden, reads.reshape(B, -1)], -1) @ output_map + output_bias)
    return np.array(outputs)


def attention(encoder_outputs, mask, outputs, kernel):
    """Luong et al. 2015, equations 7 and 8 (general): softmax over source tokens of outputᵀ W encoded."""
    T, B, _ = outputs.shape
    S = len(encoder_outputs)
    weights = np.zeros((T, B, S))
    for t, b in np.ndindex(T, B):
        present = [s for s in range(S) if mask[s, b]]
        scores = np.exp([outputs[t, b] @ kernel @ encoder_outputs[s, b] for s in present])
        weights[t, b, present] = scores / scores.sum()
    return weights


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def actor_critic(logits, values, actions, advantages, returns, value_weight, entropy_weight):
    """Mnih et al. 2016, algorithm S3 with its entropy bonus, step by step: total, policy, value and entropy, means."""
    policy = value = entropy = 0.0
    for t, b in np.ndindex(*actions.shape):
        p = np.exp(logits[t, b] - logits[t, b].max())
        p /= p.sum()
        policy -= np.log(p[actions[t, b]]) * advantages[t, b]
        value += (returns[t, b] - values[t, b]) ** 2
        entropy -= (p * np.log(p)).sum()
    policy, value, entropy = (part / actions.size for part in (policy, value, entropy))
    return policy + value_weight * value - entropy_weight * entropy, policy, value, entropy


def episodic_loss(logits, actions, advantages, valid, episodes, entropy_weight):
    """Wierstra et al. 2009: −1/N Σ (ln π(a_t) A_t + β H_t) over all steps that count; its first part, and Σ H."""
    total = policy = entropies = 0.0
    for t, b in np.ndindex(*actions.shape):
        if valid[t, b]:
            p = np.exp(logits[t, b] - logits[t, b].max())
            p /= p.sum()
            entropy = -(p * np.log(p)).sum()
            policy -= np.log(p[actions[t, b]]) * advantages[t, b] / episodes
            total -= entropy_weight * entropy / episodes
            entropies += entropy
    return total + policy, policy, entropies
