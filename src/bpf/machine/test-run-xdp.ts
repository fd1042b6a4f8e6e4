/** Test runs of XDP programs (bpf_prog_test_run_xdp). */
import { percpuBlock } from '../layout.ts';
import { viewMemory } from '../maps/memory-view.ts';
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
  TAILROOM,
  type TestProgram,
  withBlock,
} from './test-run-common.ts';
import type { TestRunOptions, TestRunResult } from './types.ts';
import { XDP_MD, XDP_MD_PRIVATE } from './xdp.ts';

/** Kept free before the packet. */
const XDP_PACKET_HEADROOM = 256;
/** Metadata takes of it what struct xdp_frame leaves. */
const META_MAX = XDP_PACKET_HEADROOM - 40;

export function runXdp(program: TestProgram, options: TestRunOptions): TestRunResult {
  const { machine } = program;
  const { ctxIn } = options;
  if ((options.flags ?? 0) !== 0 || (options.batchSize ?? 0) !== 0)
    refuse('EINVAL', 'there are no live frames');
  const packet = checkPacket(options.dataIn, XDP_PACKET_HEADROOM);
  let metaSize = 0;
  if (ctxIn !== undefined) {
    const fields = new DataView(contextBytes(ctxIn, XDP_MD.size).buffer);
    const dataEnd = fields.getUint32(XDP_MD.data_end, true);
    metaSize = fields.getUint32(XDP_MD.data, true);
    const bad =
      dataEnd !== packet.length ||
      metaSize > dataEnd ||
      fields.getUint32(XDP_MD.data_meta, true) !== 0 ||
      metaSize > META_MAX ||
      // As of Linux 6.18
      packet.length - metaSize < ETH_HLEN ||
      metaSize % 4 !== 0 ||
      fields.getUint32(XDP_MD.egress_ifindex, true) !== 0 ||
      (fields.getUint32(XDP_MD.ingress_ifindex, true) === 0 &&
        fields.getUint32(XDP_MD.rx_queue_index, true) !== 0);
    if (bad) refuse('EINVAL', 'the context does not fit the packet');
    const device = fields.getUint32(XDP_MD.ingress_ifindex, true);
    if (device > LOOPBACK_IFINDEX) refuse('ENODEV', `there is no network device ${device}, only lo (1)`);
    if (fields.getUint32(XDP_MD.rx_queue_index, true) !== 0) refuse('EINVAL', 'lo has one queue, 0');
  }
  const room = PAGE_SIZE;
  return withBlock(program, room, (block) => {
    const view = viewMemory(machine.memory);
    const { ctx } = percpuBlock(machine.layout, options.cpu ?? 0);
    const start = block + XDP_PACKET_HEADROOM;
    view.u8.set(packet, start);
    const set = (field: number, value: number) => view.data.setUint32(ctx + field, value, true);
    view.u8.fill(0, ctx, ctx + XDP_MD_PRIVATE.size);
    set(XDP_MD.data_meta, start);
    set(XDP_MD.data, start + metaSize);
    set(XDP_MD.data_end, start + packet.length);
    set(XDP_MD.ingress_ifindex, LOOPBACK_IFINDEX);
    set(XDP_MD_PRIVATE.dataHardStart, block);
    set(XDP_MD_PRIVATE.frameEnd, block + room - TAILROOM);
    const { retval, duration } = repeatRun(program, options, ctx);
    const get = (field: number) => viewMemory(machine.memory).data.getUint32(ctx + field, true);
    const meta = get(XDP_MD.data_meta);
    const data = get(XDP_MD.data);
    const end = get(XDP_MD.data_end);
    const first = meta < data ? meta : data;
    const result = { retval, duration, dataOut: slice(program, first, end) };
    if (ctxIn === undefined) return result;
    const ctxOut = padded(ctxIn, XDP_MD.size);
    const out = new DataView(ctxOut.buffer);
    out.setUint32(XDP_MD.data_meta, 0, true);
    out.setUint32(XDP_MD.data, data - first, true);
    out.setUint32(XDP_MD.data_end, end - first, true);
    return { ...result, ctxOut };
  });
}
