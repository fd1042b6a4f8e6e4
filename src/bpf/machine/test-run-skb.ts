/** Test runs of programs with a `struct __sk_buff`, and of flow dissectors (bpf_prog_test_run_skb, _flow_dissector). */
import { percpuBlock } from '../layout.ts';
import { viewMemory } from '../maps/memory-view.ts';
import { ETH_P_IP, ETH_P_IPV6 } from '../net.ts';
import { SK_BUFF, SK_BUFF_PRIVATE, writeSkBuff } from '../sk-buff.ts';
import {
  checkPacket,
  contextBytes,
  ETH_HLEN,
  LOOPBACK_IFINDEX,
  PAGE_SIZE,
  padded,
  refuse,
  repeatRun,
  slice,
  type TestProgram,
  withBlock,
} from './test-run-common.ts';
import type { TestRunOptions, TestRunResult } from './types.ts';

/** Kept free before the packet: NET_SKB_PAD and NET_IP_ALIGN. */
const SKB_HEADROOM = 64;
const GSO_LEGACY_MAX_SIZE = 65536;
const GSO_MAX_SEGS = 65535;
const IPV4_HLEN = 20;
const IPV6_HLEN = 40;
const ETH_P_802_3_MIN = 0x600;
const ETH_P_802_3 = 1;
const ETH_P_802_2 = 4;
/** BPF_FLOW_DISSECTOR_F_* */
const FLOW_DISSECTOR_FLAGS = 7;

/** Further fields of struct __sk_buff. */
const SKB = {
  dataMeta: 140,
  flowKeys: 144,
  tstamp: 152,
  wireLen: 160,
  gsoSegs: 164,
  gsoSize: 176,
  hwtstamp: 184,
} as const;

/** struct bpf_flow_keys */
const FLOW_KEYS = { nhoff: 0, thoff: 2, nProto: 10, flags: 48, size: 56 } as const;

const be16 = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;

/** Bytes of a `struct __sk_buff` that the caller may give (convert___skb_to_skb); all others have to be zero. */
const SKB_INPUT: readonly (readonly [from: number, to: number])[] = [
  [SK_BUFF.mark, SK_BUFF.mark + 4],
  [SK_BUFF.priority, SK_BUFF.ifindex + 4],
  [SK_BUFF.cb, SK_BUFF.cb + 20],
  [SKB.tstamp, SKB.gsoSegs + 4],
  [SKB.gsoSize, SKB.gsoSize + 4],
  [SKB.hwtstamp, SKB.hwtstamp + 8],
];
const isSkbInput = (at: number): boolean => SKB_INPUT.some(([from, to]) => at >= from && at < to);

/** The context that was given, checked; without one, zeros. */
function skbInput(ctxIn: Uint8Array | undefined, length: number): DataView {
  if (ctxIn === undefined) return new DataView(new ArrayBuffer(SK_BUFF.size));
  const bytes = contextBytes(ctxIn, SK_BUFF.size);
  const wrong = bytes.findIndex((byte, at) => byte !== 0 && !isSkbInput(at));
  if (wrong >= 0) refuse('EINVAL', `byte ${wrong} of the context cannot be given`);
  const input = new DataView(bytes.buffer);
  const get = (at: number): number => input.getUint32(at, true);
  const wireLength = get(SKB.wireLen);
  if (wireLength !== 0 && (wireLength < length || wireLength > GSO_LEGACY_MAX_SIZE)) {
    refuse('EINVAL', `wire_len ${wireLength} of a packet of ${length} bytes`);
  }
  if (get(SKB.gsoSegs) > GSO_MAX_SEGS) refuse('EINVAL', `gso_segs ${get(SKB.gsoSegs)}`);
  // 16 bits in struct skb_shared_info
  input.setUint32(SKB.gsoSize, get(SKB.gsoSize) & 0xffff, true);
  if (get(SK_BUFF.ifindex) > LOOPBACK_IFINDEX) refuse('ENODEV', `there is no device ${get(SK_BUFF.ifindex)}`);
  return input;
}

/** eth_type_trans: the protocol in host order, and the packet's type for a device with the address 0. */
function linkHeader(packet: Uint8Array): { protocol: number; pktType: number } {
  const [PACKET_HOST, PACKET_MULTICAST, PACKET_OTHERHOST] = [0, 2, 3];
  const address = packet.subarray(0, 6);
  let pktType = PACKET_OTHERHOST;
  // The loopback device has no broadcast address.
  if ((address[0]! & 1) !== 0) pktType = PACKET_MULTICAST;
  else if (address.every((byte) => byte === 0)) pktType = PACKET_HOST;
  const type = be16(packet, 12);
  if (type >= ETH_P_802_3_MIN) return { protocol: type, pktType };
  const isRaw = packet[ETH_HLEN] === 0xff && packet[ETH_HLEN + 1] === 0xff;
  return { protocol: isRaw ? ETH_P_802_3 : ETH_P_802_2, pktType };
}

/** bpf_prog_test_run_skb */
export function runSkb(program: TestProgram, options: TestRunOptions): TestRunResult {
  const { machine, type } = program;
  const { ctxIn } = options;
  if ((options.flags ?? 0) !== 0 || (options.batchSize ?? 0) !== 0)
    refuse('EINVAL', 'flags of another program type');
  const packet = checkPacket(options.dataIn, SKB_HEADROOM);
  const isL2 = type === 'sched_cls' || type === 'sched_act';
  const length = packet.length - (isL2 ? 0 : ETH_HLEN);
  const header = linkHeader(packet);
  // Linux 6.17 wants whole IP headers.
  const least = header.protocol === ETH_P_IP ? IPV4_HLEN : header.protocol === ETH_P_IPV6 ? IPV6_HLEN : 0;
  if (packet.length - ETH_HLEN < least)
    refuse('EINVAL', `packet of ${packet.length} bytes with an IP header`);
  const input = skbInput(ctxIn, length);
  return withBlock(program, PAGE_SIZE, (block) => {
    const view = viewMemory(machine.memory);
    const { ctx } = percpuBlock(machine.layout, options.cpu ?? 0);
    const start = block + SKB_HEADROOM;
    view.u8.set(packet, start);
    // eth_type_trans() pulls the link header; only programs of the traffic control see it.
    const data = isL2 ? start : start + ETH_HLEN;
    writeSkBuff(view.data, ctx, {
      data,
      len: length,
      networkOffset: isL2 ? ETH_HLEN : 0,
      ...header,
      ifindex: LOOPBACK_IFINDEX,
    });
    const set = (at: number, value: number): void => view.data.setUint32(ctx + at, value, true);
    set(SK_BUFF_PRIVATE.head, block);
    set(SK_BUFF_PRIVATE.macHeader, start);
    set(SKB.dataMeta, data);
    if (ctxIn !== undefined) set(SKB.wireLen, input.getUint32(SKB.wireLen, true) || length);
    for (const [from, to] of SKB_INPUT) {
      for (let at = from; at < to; at += 4) {
        if (at !== SK_BUFF.ifindex && at !== SKB.wireLen) set(at, input.getUint32(at, true));
      }
    }
    const { retval, duration } = repeatRun(program, options, ctx);
    const after = viewMemory(machine.memory);
    const from = after.data.getUint32(ctx + SK_BUFF.data, true);
    const end = from + after.data.getUint32(ctx + SK_BUFF.len, true);
    // A link header of zeros is pushed back.
    if (!isL2) after.u8.fill(0, from - ETH_HLEN, from);
    const result = { retval, duration, dataOut: slice(program, isL2 ? from : from - ETH_HLEN, end) };
    if (ctxIn === undefined) return result;
    // convert_skb_to___skb, over what was given
    const ctxOut = padded(ctxIn, SK_BUFF.size);
    const out = new DataView(ctxOut.buffer);
    for (const [first, last] of SKB_INPUT) {
      for (let at = first; at < last; at += 4) {
        if (at !== SKB.gsoSize) out.setUint32(at, after.data.getUint32(ctx + at, true), true);
      }
    }
    return { ...result, ctxOut };
  });
}

/** bpf_prog_test_run_flow_dissector, bpf_flow_dissect: the packet from its link header on; the keys are the output. */
export function runFlowDissector(program: TestProgram, options: TestRunOptions): TestRunResult {
  const { machine } = program;
  const { ctxIn } = options;
  if ((options.flags ?? 0) !== 0 || (options.batchSize ?? 0) !== 0)
    refuse('EINVAL', 'flags of another program type');
  const packet = checkPacket(options.dataIn, 0, 0);
  const given = new DataView(contextBytes(ctxIn ?? new Uint8Array(0), FLOW_KEYS.size).buffer);
  const wrong = new Uint8Array(given.buffer).findIndex(
    (byte, at) => byte !== 0 && (at < FLOW_KEYS.flags || at >= FLOW_KEYS.flags + 4),
  );
  if (wrong >= 0) refuse('EINVAL', `byte ${wrong} of the flow keys cannot be given`);
  const flags = given.getUint32(FLOW_KEYS.flags, true);
  if ((flags & ~FLOW_DISSECTOR_FLAGS) !== 0) refuse('EINVAL', `flow dissector flags ${flags}`);
  return withBlock(program, FLOW_KEYS.size + 8 + packet.length, (keys) => {
    const view = viewMemory(machine.memory);
    const data = keys + FLOW_KEYS.size + 8;
    const { ctx } = percpuBlock(machine.layout, options.cpu ?? 0);
    view.u8.set(packet, data);
    writeSkBuff(view.data, ctx, { data, len: packet.length, networkOffset: ETH_HLEN });
    view.data.setUint32(ctx + SKB.flowKeys, keys, true);
    const prepare = (): void => {
      const { u8, data: memory } = viewMemory(machine.memory);
      u8.fill(0, keys, keys + FLOW_KEYS.size);
      memory.setUint16(keys + FLOW_KEYS.nhoff, ETH_HLEN, true);
      memory.setUint16(keys + FLOW_KEYS.thoff, ETH_HLEN, true);
      u8.set(packet.subarray(12, 14), keys + FLOW_KEYS.nProto);
      memory.setUint32(keys + FLOW_KEYS.flags, flags, true);
    };
    const { retval, duration } = repeatRun(program, options, ctx, prepare);
    const { data: memory } = viewMemory(machine.memory);
    const clamp = (at: number, low: number): number => {
      const value = Math.min(packet.length, Math.max(low, memory.getUint16(keys + at, true)));
      memory.setUint16(keys + at, value, true);
      return value;
    };
    const nhoff = clamp(FLOW_KEYS.nhoff, ETH_HLEN);
    clamp(FLOW_KEYS.thoff, nhoff);
    const result = { retval, duration, dataOut: slice(program, keys, keys + FLOW_KEYS.size) };
    return ctxIn === undefined ? result : { ...result, ctxOut: padded(ctxIn, FLOW_KEYS.size) };
  });
}
