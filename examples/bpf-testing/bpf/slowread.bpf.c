// SPDX-License-Identifier: MIT
// Which reads are slow? Times vfs_read(): a histogram of powers of two a process, and a record of each read that takes longer than
// `min_us`.
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>

#define SLOTS 20

struct start {
  __u64 time;
  __u64 bytes;
};

struct histogram {
  __u32 slots[SLOTS];
  char comm[16];
};

struct slow_read {
  __u32 pid;
  __u32 us;
  __s64 result;
  __u64 asked;
  char comm[16];
};

const volatile __u32 min_us = 1000;
/* 0 is every process. */
const volatile __u32 only_pid = 0;

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 10240);
  __type(key, __u64);
  __type(value, struct start);
} starts SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1024);
  __type(key, __u32);
  __type(value, struct histogram);
} histograms SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 64 * 1024);
} events SEC(".maps");

static const struct histogram empty;

/* The types that user space reads are in the object for it to see. */
const struct slow_read *unused_slow_read __attribute__((unused));

static __always_inline __u32 log2(__u32 value) {
  __u32 result = 0;

#pragma unroll
  for (int bit = 16; bit > 0; bit >>= 1) {
    if (value >= 1u << bit) {
      value >>= bit;
      result += bit;
    }
  }
  return result;
}

SEC("kprobe/vfs_read")
int read_begin(struct pt_regs *ctx) {
  __u64 id = bpf_get_current_pid_tgid();
  struct start start = {.bytes = ctx->rdx};

  if (only_pid && id >> 32 != only_pid) return 0;
  start.time = bpf_ktime_get_ns();
  bpf_map_update_elem(&starts, &id, &start, BPF_ANY);
  return 0;
}

SEC("kretprobe/vfs_read")
int read_end(struct pt_regs *ctx) {
  __u64 id = bpf_get_current_pid_tgid();
  __u32 pid = id >> 32, us, slot;
  struct start *start = bpf_map_lookup_elem(&starts, &id);
  struct histogram *histogram;
  struct slow_read *event;

  if (!start) return 0; /* it began before we did */
  us = (bpf_ktime_get_ns() - start->time) / 1000;

  histogram = bpf_map_lookup_elem(&histograms, &pid);
  if (!histogram) {
    bpf_map_update_elem(&histograms, &pid, &empty, BPF_NOEXIST);
    histogram = bpf_map_lookup_elem(&histograms, &pid);
    if (!histogram) goto out;
    bpf_get_current_comm(histogram->comm, sizeof(histogram->comm));
  }
  slot = log2(us);
  if (slot >= SLOTS) slot = SLOTS - 1;
  __sync_fetch_and_add(&histogram->slots[slot], 1);

  if (us >= min_us) {
    event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (event) {
      event->pid = pid;
      event->us = us;
      event->result = ctx->rax;
      event->asked = start->bytes;
      bpf_get_current_comm(event->comm, sizeof(event->comm));
      bpf_ringbuf_submit(event, 0);
    }
  }
out:
  bpf_map_delete_elem(&starts, &id);
  return 0;
}

char LICENSE[] SEC("license") = "GPL";
