#!/usr/bin/env python3
"""Times whole CLIP training steps of PyTorch and of `scaledown bench step` on one GPU, alternating, and prints the ratios.

    python3 benches/torch_gpu.py --scaledown target/release/scaledown [--only vit-b-32] [--out results/gpu/torch.json]

PyTorch gets its best: SDPA, fused AdamW, bf16 autocast, torch.compile, and for small models CUDA graphs. Both sides step the
same shapes from uint8 images that lie on the GPU: normalise, encode, symmetric contrastive loss, backward, AdamW. Needs PyTorch
with CUDA; nothing of the project depends on it.
"""
import argparse
import json
import math
import statistics
import subprocess
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

# name: image size, patch, (width, depth, heads), (text width, depth, heads), tokens, vocabulary, embed_dim, batch, masked
MODELS = {
    "vit-b-32": (224, 32, (768, 12, 12), (512, 12, 8), 77, 49408, 512, 4096, 0.0),
    "vit-b-16": (224, 16, (768, 12, 12), (512, 12, 8), 77, 49408, 512, 1024, 0.0),
    "flip50-b-16": (224, 16, (768, 12, 12), (512, 12, 8), 77, 49408, 512, 2048, 0.5),
    "flip75-b-16": (224, 16, (768, 12, 12), (512, 12, 8), 77, 49408, 512, 4096, 0.75),
    "width-64": (32, 4, (64, 4, 2), (64, 4, 2), 16, 4096, 128, 256, 0.0),
    "width-128": (32, 4, (128, 6, 4), (128, 4, 4), 16, 4096, 256, 256, 0.0),
    "width-192": (64, 8, (192, 6, 3), (192, 4, 3), 16, 4096, 256, 256, 0.0),
}
MODES = ("eager", "compile", "graph")


class Block(nn.Module):
    def __init__(self, width, heads, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.ln1, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ln2, self.fc1, self.fc2 = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.fc2(F.gelu(self.fc1(self.ln2(x))))


class Clip(nn.Module):
    def __init__(self, image, patch, vit, text, tokens, vocab, embed_dim, masked):
        super().__init__()
        width, depth, heads = vit
        self.patches = (image // patch) ** 2
        self.kept = max(1, int(self.patches * (1 - masked)))
        self.conv = nn.Conv2d(3, width, patch, patch, bias=False)
        self.image_positions = nn.Parameter(torch.randn(self.patches, width) * width**-0.5)
        self.image_blocks = nn.ModuleList(Block(width, heads, False) for _ in range(depth))
        self.image_norm, self.image_project = nn.LayerNorm(width), nn.Linear(width, embed_dim, bias=False)
        width, depth, heads = text
        self.tokens = nn.Embedding(vocab, width)
        self.text_positions = nn.Parameter(torch.randn(tokens, width) * 0.01)
        self.text_blocks = nn.ModuleList(Block(width, heads, True) for _ in range(depth))
        self.text_norm, self.text_project = nn.LayerNorm(width), nn.Linear(width, embed_dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images, ids):
        x = (images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        x = self.conv(x).flatten(2).transpose(1, 2) + self.image_positions
        if self.kept < self.patches:
            keep = torch.rand(x.shape[:2], device=x.device).argsort(1)[:, : self.kept]
            x = x.gather(1, keep[:, :, None].expand(-1, -1, x.shape[2]))
        for block in self.image_blocks:
            x = block(x)
        image = F.normalize(self.image_project(self.image_norm(x).mean(1)), dim=-1)
        x = self.tokens(ids) + self.text_positions
        for block in self.text_blocks:
            x = block(x)
        text = F.normalize(self.text_project(self.text_norm(x[:, -1])), dim=-1)
        logits = self.log_scale.exp() * image @ text.T
        target = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def torch_step(spec, mode):
    """A function that does `n` steps and waits."""
    image, patch, vit, text, tokens, vocab, embed_dim, batch, masked = spec
    torch.manual_seed(0)
    model = Clip(image, patch, vit, text, tokens, vocab, embed_dim, masked).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True, capturable=mode == "graph")
    images = torch.randint(0, 256, (batch, image, image, 3), dtype=torch.uint8, device="cuda")
    ids = torch.randint(0, vocab, (batch, tokens), device="cuda")
    loss_of = torch.compile(model) if mode == "compile" else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            loss = loss_of(images, ids)
        loss.backward()
        optimizer.step()

    if mode == "graph":
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        replay = graph.replay
    else:
        replay = step

    def run(n):
        for _ in range(n):
            replay()
        torch.cuda.synchronize()

    run(3)
    return run


def milliseconds(run, seconds):
    times = []
    begun = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        run(10)
        times.append((time.perf_counter() - start) * 100)
    return statistics.median(times)


def ours(program, spec, seconds):
    image, patch, vit, text, tokens, vocab, embed_dim, batch, masked = spec
    options = {
        "what": "clip", "device": "cuda", "precision": "bf16", "format": "json", "seconds": seconds, "batch": batch,
        "image-size": image, "patch-size": patch, "width": vit[0], "depth": vit[1], "heads": vit[2], "masked": masked,
        "text-width": text[0], "text-depth": text[1], "text-heads": text[2], "context-length": tokens,
        "vocab-size": vocab, "embed-dim": embed_dim,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    out = subprocess.run([program, "bench", "step", *words], check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scaledown", required=True)
    parser.add_argument("--only", action="append", choices=MODELS)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--out")
    args = parser.parse_args()
    device = torch.cuda.get_device_name()
    print(f"{device}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    rows = []
    for name in args.only or MODELS:
        spec = MODELS[name]
        row = {"model": name, "batch": spec[7], "device": device, "torch": torch.__version__, "ms": {}}
        for _ in range(args.rounds):
            report = ours(args.scaledown, spec, args.seconds)
            row["tflop_per_s"] = report["gflop_per_s"] / 1e3
            row["ms"].setdefault("ours", []).append(report["median_ms"])
            for mode in args.modes.split(","):
                try:
                    run = torch_step(spec, mode)
                    row["ms"].setdefault(mode, []).append(milliseconds(run, args.seconds))
                    del run
                except Exception as error:  # out of memory, or a mode that this PyTorch cannot do: said, not hidden
                    row.setdefault("failed", {})[mode] = str(error).split("\n")[0]
                torch.cuda.empty_cache()
        best = {mode: min(times) for mode, times in row["ms"].items()}
        row["ratio"] = {mode: round(ms / best["ours"], 3) for mode, ms in best.items() if mode != "ours"}
        rows.append(row)
        print(json.dumps(row))
    if args.out:
        with open(args.out, "w") as file:
            json.dump(rows, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
