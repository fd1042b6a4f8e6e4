// SPDX-License-Identifier: MIT
// A mistake that everybody makes once: the packet may be shorter than its headers.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int no_check(struct xdp_md *ctx) {
  struct ethhdr *eth = (void *)(long)ctx->data;

  return eth->h_proto == 0x0008 ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
