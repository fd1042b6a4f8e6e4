/** The context of XDP programs in linear memory: `struct xdp_md` (include/uapi/linux/bpf.h), then what programs do not see. */

/** u32 each; data, data_end and data_meta are addresses. */
export const XDP_MD = {
  data: 0,
  data_end: 4,
  data_meta: 8,
  ingress_ifindex: 12,
  rx_queue_index: 16,
  egress_ifindex: 20,
  size: 24,
} as const;

/** `struct xdp_buff`'s bounds: addresses. */
export const XDP_MD_PRIVATE = {
  dataHardStart: 24,
  /** The packet may grow up to here. */
  frameEnd: 28,
  size: 32,
} as const;
