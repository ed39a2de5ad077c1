#!/usr/bin/env python3
"""Times whole CLIP training steps of PyTorch on one GPU, beside those that `scaledown gpu-check --only models` timed.

    scaledown gpu-check --only models --out results/gpu/rows.jsonl
    python3 benches/torch_gpu.py --seconds 120 --beside results/gpu/rows.jsonl --out results/gpu/torch.jsonl

PyTorch gets its best: SDPA, fused AdamW, bf16 autocast, torch.compile, for small models CUDA graphs. Both sides step the
same shapes from uint8 images that lie on the GPU: normalise, encode, symmetric contrastive loss, backward, AdamW. A row is
written before the next is begun; all of it ends within `--seconds` but for the row under way, and what there was no time for
is a row that says so. Needs PyTorch with CUDA; nothing of the project depends on it.
"""
import argparse
import json
import math
import signal
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

# name: image size, patch, (width, depth, heads), (text width, depth, heads), tokens, vocabulary, embed_dim, batch, masked
MODELS = {
    "vit-b-32": (224, 32, (768, 12, 12), (512, 12, 8), 77, 49408, 512, 4096, 0.0),
    "vit-b-32-half": (224, 32, (768, 12, 12), (512, 12, 8), 77, 49408, 512, 2048, 0.0),
    "vit-s-16": (224, 16, (384, 12, 6), (64, 1, 1), 16, 512, 384, 1024, 0.0),
    "width-48": (32, 8, (48, 3, 2), (48, 2, 2), 16, 512, 64, 128, 0.0),
    "width-96": (32, 4, (96, 4, 2), (64, 3, 2), 16, 4096, 128, 256, 0.0),
    "width-192": (32, 4, (192, 6, 3), (192, 4, 3), 16, 4096, 256, 256, 0.0),
    "vit-b-16": (224, 16, (768, 12, 12), (512, 12, 8), 77, 49408, 512, 1024, 0.0),
    "flip50-b-16": (224, 16, (768, 12, 12), (512, 12, 8), 77, 49408, 512, 2048, 0.5),
    "flip75-b-16": (224, 16, (768, 12, 12), (512, 12, 8), 77, 49408, 512, 4096, 0.75),
}
# What tells most first: a half batch is what eager mode has memory for, a graph is what small models gain by.
ROWS = [
    ("vit-b-32-half", "compile"), ("width-48", "graph"), ("width-192", "graph"), ("vit-s-16", "compile"), ("width-96", "graph"),
    ("vit-b-32-half", "eager"), ("vit-b-16", "compile"), ("flip50-b-16", "compile"), ("vit-b-32", "compile"),
    ("width-192", "compile"), ("width-48", "compile"), ("flip75-b-16", "compile"), ("width-48", "eager"),
]


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
    """Median of groups of steps for about so many seconds, and how many steps there were; at least one."""
    start = time.perf_counter()
    run(1)
    first = time.perf_counter() - start
    group = max(1, min(10, int(0.02 / first)))
    times, steps, begun = [], 0, time.perf_counter()
    while len(times) < 9 and (not times or time.perf_counter() - begun + first * group <= seconds):
        start = time.perf_counter()
        run(group)
        times.append((time.perf_counter() - start) * 1000 / group)
        steps += group
    return statistics.median(times), steps


class TookTooLong(Exception):
    pass


def too_long(*_):
    raise TookTooLong("took longer than its share of the time")


def measured(name, mode, seconds):
    torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    run = torch_step(MODELS[name], mode)
    ready = time.perf_counter() - begun
    ms, steps = milliseconds(run, seconds)
    batch = MODELS[name][7]
    return {
        "ms": round(ms, 4), "steps": steps, "samples_per_s": round(batch * 1000 / ms, 1), "ready_s": round(ready, 2),
        "peak_bytes": torch.cuda.max_memory_allocated(), "free_bytes": torch.cuda.mem_get_info()[0],
    }


def beside(path):
    """Milliseconds of our own steps, by model."""
    rows = (json.loads(line) for line in open(path)) if path else []
    return {row["model"]: row["ms"] for row in rows if row["row"] == "model"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--row-seconds", type=float, default=2.0)
    parser.add_argument("--only", action="append", choices=MODELS)
    parser.add_argument("--beside", help="rows of `scaledown gpu-check --only models`")
    parser.add_argument("--out", help="rows are appended here")
    args = parser.parse_args()
    begun, ours = time.perf_counter(), beside(args.beside)
    device = torch.cuda.get_device_name()
    signal.signal(signal.SIGALRM, too_long)

    def give(row):
        line = json.dumps(row)
        print(line, flush=True)
        if args.out:
            with open(args.out, "a") as file:
                file.write(line + "\n")

    give({"row": "machine", "device": device, "torch": torch.__version__, "cuda": torch.version.cuda, "seconds": args.seconds})
    for name, mode in ROWS:
        if args.only and name not in args.only:
            continue
        row = {"row": "torch", "model": name, "mode": mode, "batch": MODELS[name][7]}
        left = args.seconds - (time.perf_counter() - begun)
        if left < 5:
            give({**row, "left_out": f"{max(left, 0):.0f} s are left"})
            continue
        signal.alarm(int(left))
        try:
            row.update(measured(name, mode, args.row_seconds))
            if name in ours:
                row["torch_by_ours"] = round(row["ms"] / ours[name], 3)
        except Exception as error:  # out of memory, a mode that this PyTorch cannot do, no time: said, not hidden
            row["failed"] = f"{type(error).__name__}: {error}".split("\n")[0]
        signal.alarm(0)
        give(row)
        torch._dynamo.reset()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
