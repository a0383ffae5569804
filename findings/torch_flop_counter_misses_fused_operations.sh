#!/usr/bin/env bash
# torch's FlopCounterMode counts nothing for two operations in which a vision-language model spends much of its time, and says nothing about it:
# scaled_dot_product_attention on a CPU, where the fused kernel is the default, and grouped_mm, by which mixtures of experts multiply. The same attention
# by the MATH kernel is counted in full. Expected: equal figures for equal mathematics, or a warning that an operation has no formula. A cost measured
# with the counter is too low by a share that depends on the kernel, and a comparison of two settings may compare kernels.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/python" - <<'PYTHON' 2>"$folder/warnings" || { cat "$folder/warnings"; exit 1; }
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import grouped_mm, scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

TOKENS, HEADS, WIDTH = 512, 8, 64


def counted(work):
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def attend(*kernels):
    with sdpa_kernel(list(kernels)):
        return scaled_dot_product_attention(*torch.randn(3, 1, HEADS, TOKENS, WIDTH).unbind())


def experts():
    ends = torch.tensor([16, 32, 48, 64], dtype=torch.int32)
    return grouped_mm(torch.randn(64, 32).bfloat16(), torch.randn(4, 32, 48).bfloat16(), offs=ends)


print("torch", torch.__version__)
found = {
    "attention, default kernel": (counted(lambda: scaled_dot_product_attention(*torch.randn(3, 1, HEADS, TOKENS, WIDTH).unbind())), 4 * HEADS * TOKENS**2 * WIDTH),
    "attention, FLASH_ATTENTION": (counted(lambda: attend(SDPBackend.FLASH_ATTENTION)), 4 * HEADS * TOKENS**2 * WIDTH),
    "attention, MATH": (counted(lambda: attend(SDPBackend.MATH)), 4 * HEADS * TOKENS**2 * WIDTH),
    "grouped_mm, 4 experts": (counted(experts), 2 * 64 * 32 * 48),
}
for name, (flops, done) in found.items():
    print(f"{name:28} counted {flops:>12,} of {done:>12,}")
sys.exit([flops for flops, _ in found.values()] != [0, 0, 4 * HEADS * TOKENS**2 * WIDTH, 0])
PYTHON
# torch 2.13.0+cpu printed:
# attention, default kernel    counted            0 of  536,870,912
# attention, FLASH_ATTENTION   counted            0 of  536,870,912
# attention, MATH              counted  536,870,912 of  536,870,912
# grouped_mm, 4 experts        counted            0 of      196,608
