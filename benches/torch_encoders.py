"""Times a training step of timm's encoders at the sizes of this project's `*-20m` names, beside `scaledown bench step`.

    pip install torch==2.15.0 timm==1.0.31
    python benches/torch_encoders.py convnext --channels-last
    scaledown bench step --image-encoder convnext-20m --embed-dim 256 --batch 128 --threads 2

A step is forward, backward from a given gradient of the normalised features, and AdamW (fused); f32, eager. Both programs print the
number of parameters of the image encoder, so that it can be seen that they time the same network (the program's own also has a text
encoder, which this does not step, and one logit scale). Run them in turn on a machine that does nothing else, and keep the better memory
format of PyTorch.
"""

import argparse
import statistics
import time

import timm
import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from timm.models.convnext import ConvNeXt
from timm.models.mlp_mixer import MlpMixer
from timm.models.resnet import Bottleneck, ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

SIDE, EMBED = 32, 256


def resnet():
    model = ResNet(Bottleneck, (3, 4, 5, 3), channels=(16, 32, 64, 128), stem_width=16, num_classes=0)
    model.conv1, model.bn1 = torch.nn.Conv2d(3, 16, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(16)
    model.maxpool = torch.nn.Identity()
    # The first block is built for a stem of 64 channels.
    first = model.layer1[0]
    first.conv1 = torch.nn.Conv2d(16, 16, 1, bias=False)
    first.downsample = torch.nn.Sequential(torch.nn.Conv2d(16, 64, 1, bias=False), torch.nn.BatchNorm2d(64))
    return model, 512


def convnext():
    model = ConvNeXt(depths=(2, 2, 9, 3), dims=(24, 48, 96, 192), num_classes=0)
    model.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 24, 2, 2), LayerNorm2d(24, eps=1e-6))
    return model, 192


def swin():
    sizes = dict(embed_dim=24, depths=(2, 2, 5, 2), num_heads=(1, 2, 4, 8), window_size=WINDOW, patch_size=2)
    return SwinTransformer(img_size=SIDE, num_classes=0, **sizes), 192


def mixer():
    return MlpMixer(img_size=SIDE, patch_size=PATCH, num_blocks=6, embed_dim=128, mlp_ratio=(0.75, 4.0), num_classes=0), 128


def vit():
    sizes = dict(embed_dim=128, depth=6, num_heads=4, patch_size=PATCH)
    return VisionTransformer(img_size=SIDE, num_classes=0, pre_norm=True, **sizes), 128


WINDOW, PATCH = 4, 8
MODELS = {"resnet": resnet, "convnext": convnext, "swin": swin, "mixer": mixer, "vit": vit}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--patch", type=int, default=PATCH)
    parser.add_argument("--window", type=int, default=WINDOW)
    args = parser.parse_args()
    globals().update(PATCH=args.patch, WINDOW=args.window)
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    model, width = MODELS[args.model]()
    head = torch.nn.Linear(width, EMBED, bias=False)
    images, upstream = torch.randn(args.batch, 3, SIDE, SIDE), torch.full((args.batch, EMBED), 1e-3)
    if args.channels_last:
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.1, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        F.normalize(head(model(images)), dim=-1).backward(upstream)
        optimizer.step()

    for _ in range(3):
        step()
    times, begun = [], time.perf_counter()
    while time.perf_counter() - begun < args.seconds or len(times) < 3:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    count = sum(parameter.numel() for parameter in parameters)
    print(
        f"{args.model} channels_last={int(args.channels_last)} {count} parameters, batch {args.batch}, {args.threads} threads: "
        f"best {min(times) * 1e3:.1f} ms, median {statistics.median(times) * 1e3:.1f} ms, torch {torch.__version__}, timm {timm.__version__}"
    )


if __name__ == "__main__":
    main()
