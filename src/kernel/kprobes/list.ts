import type { KprobeSlot } from './arch.ts';
import { pointer } from './blacklist.ts';
import {
  type Kprobe,
  kprobeAggrprobe,
  kprobeDisabled,
  kprobeFtrace,
  kprobeGone,
  kprobeOptimized,
} from './kprobe.ts';
import { kretprobeOf } from './kretprobe.ts';

/**
 * The text of `kprobes/list` (kernel/kprobes.c, show_kprobe_addr and report_probe): a line a probe,
 * `ADDRESS  k|r  SYMBOL+0xOFFSET  MODULE [GONE][DISABLED][OPTIMIZED][FTRACE]`.
 */
export function showKprobes(slots: Iterable<KprobeSlot>): string {
  let text = '';
  for (const slot of slots) {
    const head = slot.probe;
    if (kprobeAggrprobe(head)) {
      for (const p of head.list) text += reportProbe(slot, p, head);
    } else {
      text += reportProbe(slot, head, head);
    }
  }
  return text;
}

function reportProbe(slot: KprobeSlot, p: Kprobe, parent: Kprobe): string {
  const type = kretprobeOf(p) === undefined ? 'k' : 'r';
  const { symbol } = slot;
  const place =
    symbol === undefined
      ? `0x${slot.addr.toString(16)}`
      : `${symbol.name}+0x${(slot.addr - symbol.address).toString(16)}  ${symbol.module ?? ' '}`;
  const flags = [
    kprobeGone(p) ? '[GONE]' : '',
    kprobeDisabled(p) && !kprobeGone(p) ? '[DISABLED]' : '',
    kprobeOptimized(parent) ? '[OPTIMIZED]' : '',
    kprobeFtrace(parent) ? '[FTRACE]' : '',
  ];
  return `${pointer(slot.addr)}  ${type}  ${place} ${flags.join('')}\n`;
}
