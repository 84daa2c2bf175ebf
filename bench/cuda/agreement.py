"""python3 agreement.py MODEL.gguf IDS.json: PyTorch's word on texts of token ids, teacher-forced, as JSON: by data type and text the
likeliest token of every position, by how much it leads (natural logarithm), and the log-probability of the token that follows."""
import json
import sys

import gguf_torch
import torch


@torch.no_grad()
def judge(net, ids, device):
    x = torch.tensor([ids], device=device)
    logits = net(x, use_cache=False).logits[0].double()
    logp = torch.log_softmax(logits, -1)
    best = torch.topk(logp, 2, -1).values
    follows = logp[:-1].gather(1, x[0, 1:, None])[:, 0]
    # of two equal ones the lower id, as everywhere in this comparison
    top = (logits == logits.max(-1, keepdim=True).values).int().argmax(-1)
    return dict(top=top.tolist(), margin=(best[:, 0] - best[:, 1]).tolist(), follows=follows.tolist())


def main():
    path, file = sys.argv[1:3]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    texts = json.load(open(file))
    out = dict(torch=torch.__version__, device=torch.cuda.get_device_name() if device == "cuda" else "cpu")
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        net, _ = gguf_torch.model(path, dtype, device)
        out[name] = [judge(net, ids, device) for ids in texts]
        del net
    print(json.dumps(out))


main()
