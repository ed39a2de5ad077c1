#!/usr/bin/env python3
"""Compares the gradients of a few steps with PyTorch's: f32 with f32, and how far bf16 is from f32 on either side.

    scaledown gpu-check --gradients FOLDER
    python3 benches/torch_gradients.py FOLDER [--device cuda]

PyTorch runs the same model from the same parameters and batches, in f32 and under bf16 autocast. How far one step of bf16 is off
is chance, so distances are root mean squares over the batches. Exits with 1 where an f32 gradient differs by more than 1e-4 of its
largest element, or where a bf16 gradient of ours is further from f32 than PyTorch's is from its own. Needs PyTorch alone; nothing of the project depends on it.
"""
import argparse
import json
import os
import struct
import sys

import torch
import torch.nn.functional as F

# As in src/trainer/check/gradients.rs.
PATCH, LAYERS, IMAGE_HEADS, TEXT_HEADS = 4, 3, 3, 2
MEAN, STD = (0.5, 0.4, 0.45), (0.5, 0.25, 0.3)
TYPES = {"F32": torch.float32, "I32": torch.int32, "U8": torch.uint8}


def read(path):
    """Tensors of a safetensors file."""
    data = open(path, "rb").read()
    (length,) = struct.unpack("<Q", data[:8])
    tensors, body = {}, bytearray(data[8 + length :])
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            kind = TYPES[entry["dtype"]]
            tensors[name] = torch.frombuffer(body[first:last], dtype=kind).view(entry["shape"])
    return tensors


def block(p, prefix, x, heads, causal):
    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], p[f"{prefix}.{name}.weight"], p[f"{prefix}.{name}.bias"])

    def linear(x, weight, bias):
        return F.linear(x, p[f"{prefix}.{weight}"], p[f"{prefix}.{bias}"])

    b, t, c = x.shape
    qkv = linear(norm(x, "ln_1"), "attn.in_proj_weight", "attn.in_proj_bias")
    q, k, v = qkv.view(b, t, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).reshape(b, t, c)
    x = x + linear(y, "attn.out_proj.weight", "attn.out_proj.bias")
    y = F.gelu(linear(norm(x, "ln_2"), "mlp.c_fc.weight", "mlp.c_fc.bias"))
    return x + linear(y, "mlp.c_proj.weight", "mlp.c_proj.bias")


def loss(p, images, tokens, ends):
    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"])

    x = F.conv2d(images, p["visual.conv1.weight"], stride=PATCH).flatten(2).transpose(1, 2)
    token = p["visual.class_embedding"].to(x.dtype).expand(len(x), 1, -1)
    x = torch.cat([token, x], 1) + p["visual.positional_embedding"].to(x.dtype)
    x = norm(x, "visual.ln_pre")
    for layer in range(LAYERS):
        x = block(p, f"visual.transformer.resblocks.{layer}", x, IMAGE_HEADS, False)
    image = F.normalize(norm(x[:, 0], "visual.ln_post") @ p["visual.proj"], dim=-1)
    x = F.embedding(tokens, p["token_embedding.weight"]) + p["positional_embedding"]
    for layer in range(LAYERS):
        x = block(p, f"transformer.resblocks.{layer}", x, TEXT_HEADS, True)
    rows = torch.arange(len(x), device=x.device)
    text = F.normalize(norm(x, "ln_final")[rows, ends] @ p["text_projection"], dim=-1)
    logits = p["logit_scale"].exp() * image @ text.T
    return (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2


def gradients(parameters, batch, device, bf16):
    p = {name: value.to(device).clone().requires_grad_() for name, value in parameters.items()}
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        value = loss(p, *batch)
    value.backward()
    return value.item(), {name: parameter.grad.float().cpu() for name, parameter in p.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    parameters = read(f"{args.folder}/parameters.safetensors")
    shape = (1, 3, 1, 1)
    mean, std = (torch.tensor(values, device=args.device).view(shape) for values in (MEAN, STD))
    differ, ours, theirs = ({name: [] for name in parameters} for _ in range(3))
    for folder in sorted(entry.path for entry in os.scandir(args.folder) if entry.is_dir()):
        batch, f32, bf16 = (read(f"{folder}/{name}.safetensors") for name in ("batch", "gradients-f32", "gradients-bf16"))
        images = (batch["images"].to(args.device).permute(0, 3, 1, 2).float() / 255 - mean) / std
        inputs = images, batch["tokens"].to(args.device).long(), batch["ends"].to(args.device).long()
        (full_loss, full), (half_loss, half) = (gradients(parameters, inputs, args.device, way) for way in (False, True))
        print(f"{folder}: PyTorch's loss {full_loss:.6f} in f32, {half_loss:.6f} in bf16")
        for name, reference in full.items():
            differ[name].append(((f32[name] - reference).abs().max() / reference.abs().max()).item())
            ours[name].append(((bf16[name] - f32[name]).norm() / reference.norm()).item())
            theirs[name].append(((half[name] - reference).norm() / reference.norm()).item())
    rms = lambda values: (sum(value * value for value in values) / len(values)) ** 0.5
    rows = sorted(((rms(ours[name]) / rms(theirs[name]), name) for name in parameters), reverse=True)
    print(f"PyTorch {torch.__version__} on {args.device}, {len(differ['logit_scale'])} batches")
    print("distance of bf16 from f32, relative to the gradient: ours, PyTorch's, ratio; the furthest first")
    for ratio, name in rows[:5]:
        print(f"  {rms(ours[name]):.4f}  {rms(theirs[name]):.4f}  {ratio:.2f}  {name}")
    far = sum(ratio > 1 for ratio, _ in rows)
    print(f"of {len(rows)} gradients {far} are further than PyTorch's; median ratio {rows[len(rows) // 2][0]:.2f}")
    worst = max(differ, key=lambda name: max(differ[name]))
    print(f"largest difference in f32: {max(differ[worst]):.1e} of the largest element ({worst})")
    sys.exit(far > 0 or max(differ[worst]) > 1e-4)


if __name__ == "__main__":
    main()
