// SPDX-License-Identifier: MIT
// A firewall at the network card: blocked sources by longest prefix, open ports, a limit of new connections a source, counters, and
// a report of each drop.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define SECOND 1000000000ull

enum reason {
  REASON_PASSED,
  REASON_SOURCE,
  REASON_PORT,
  REASON_RATE,
  REASON_MALFORMED,
  REASONS,
};

struct prefix {
  __u32 length;
  __u8 address[4];
};

struct bucket {
  __u64 since;
  __u32 used;
};

struct drop {
  __u8 source[4];
  __u16 port;
  __u16 reason;
};

/* New TCP connections that one source may open a second; 0 is no limit. */
const volatile __u32 max_connections = 0;
/* Only packets to open ports pass, if there are any rules for ports. */
const volatile bool check_ports = false;

__u64 reports_lost = 0;

/* The type of reports is in the object for user space to see. */
const struct drop *unused_drop __attribute__((unused));

struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1024);
  __type(key, struct prefix);
  __type(value, __u64);
} blocked SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 256);
  __type(key, __u16);
  __type(value, __u8);
} open_ports SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, __u32);
  __type(value, struct bucket);
} buckets SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, REASONS);
  __type(key, __u32);
  __type(value, __u64);
} counters SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4096);
} drops SEC(".maps");

static __always_inline void count(__u32 reason) {
  __u64 *counter = bpf_map_lookup_elem(&counters, &reason);
  if (counter) (*counter)++;
}

static __always_inline int refuse(__u32 source, __u16 port, enum reason reason) {
  struct drop *drop = bpf_ringbuf_reserve(&drops, sizeof(*drop), 0);

  count(reason);
  if (!drop) {
    __sync_fetch_and_add(&reports_lost, 1);
    return XDP_DROP;
  }
  __builtin_memcpy(drop->source, &source, sizeof(drop->source));
  drop->port = port;
  drop->reason = reason;
  bpf_ringbuf_submit(drop, 0);
  return XDP_DROP;
}

/* True where the source has opened too many connections within the last second. */
static __noinline bool too_fast(__u32 source) {
  __u64 now = bpf_ktime_get_ns();
  struct bucket *bucket = bpf_map_lookup_elem(&buckets, &source);

  if (!bucket || now - bucket->since >= SECOND) {
    struct bucket fresh = {.since = now, .used = 1};
    bpf_map_update_elem(&buckets, &source, &fresh, BPF_ANY);
    return false;
  }
  return ++bucket->used > max_connections;
}

SEC("xdp")
int firewall(struct xdp_md *ctx) {
  void *end = (void *)(long)ctx->data_end;
  struct ethhdr *eth = (void *)(long)ctx->data;
  struct iphdr *ip = (void *)(eth + 1);
  void *transport;
  struct prefix source = {.length = 32};
  __u16 port = 0;
  bool is_new = false;
  __u64 *hits;

  if ((void *)(eth + 1) > end) return XDP_DROP;
  if (eth->h_proto != bpf_htons(ETH_P_IP)) return XDP_PASS;
  if ((void *)(ip + 1) > end || ip->ihl < 5) return refuse(0, 0, REASON_MALFORMED);

  __builtin_memcpy(source.address, &ip->saddr, sizeof(source.address));
  hits = bpf_map_lookup_elem(&blocked, &source);
  if (hits) {
    __sync_fetch_and_add(hits, 1);
    return refuse(ip->saddr, 0, REASON_SOURCE);
  }

  transport = (void *)ip + ip->ihl * 4;
  if (ip->protocol == IPPROTO_TCP) {
    struct tcphdr *tcp = transport;
    if ((void *)(tcp + 1) > end) return refuse(ip->saddr, 0, REASON_MALFORMED);
    port = bpf_ntohs(tcp->dest);
    is_new = tcp->syn && !tcp->ack;
  } else if (ip->protocol == IPPROTO_UDP) {
    struct udphdr *udp = transport;
    if ((void *)(udp + 1) > end) return refuse(ip->saddr, 0, REASON_MALFORMED);
    port = bpf_ntohs(udp->dest);
  }

  if (check_ports && port && !bpf_map_lookup_elem(&open_ports, &port)) {
    return refuse(ip->saddr, port, REASON_PORT);
  }
  if (max_connections && is_new && too_fast(ip->saddr)) return refuse(ip->saddr, port, REASON_RATE);

  count(REASON_PASSED);
  return XDP_PASS;
}

/* Answers a ping at the card: addresses swapped, checksum corrected. */
struct icmp_echo {
  __u8 type;
  __u8 code;
  __u16 checksum;
};

SEC("xdp")
int answer_ping(struct xdp_md *ctx) {
  void *end = (void *)(long)ctx->data_end;
  struct ethhdr *eth = (void *)(long)ctx->data;
  struct iphdr *ip = (void *)(eth + 1);
  struct icmp_echo *echo = (void *)(ip + 1);
  __u8 mac[ETH_ALEN];
  __u32 address, sum;

  if ((void *)(echo + 1) > end) return XDP_PASS;
  if (eth->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5) return XDP_PASS;
  if (ip->protocol != IPPROTO_ICMP || echo->type != 8) return XDP_PASS;

  __builtin_memcpy(mac, eth->h_source, ETH_ALEN);
  __builtin_memcpy(eth->h_source, eth->h_dest, ETH_ALEN);
  __builtin_memcpy(eth->h_dest, mac, ETH_ALEN);
  address = ip->saddr;
  ip->saddr = ip->daddr;
  ip->daddr = address;
  echo->type = 0;
  /* RFC 1624: the type was 8, in the high byte. */
  sum = (__u32)echo->checksum + bpf_htons(0x0800);
  echo->checksum = sum + (sum >> 16);
  return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
