/** What a trace.dat file is made of: trace-cmd.dat.v6(5), trace-cmd.dat.v7(5). */
import { TraplineError } from '../../errors.ts';

export const MAGIC: Uint8Array = Uint8Array.of(
  0x17,
  0x08,
  0x44,
  ...[...'tracing'].map((c) => c.charCodeAt(0)),
);

/** Options, and the sections that have the same numbers. */
export const OPTION = {
  done: 0,
  date: 1,
  cpustat: 2,
  buffer: 3,
  traceclock: 4,
  uname: 5,
  hook: 6,
  offset: 7,
  cpucount: 8,
  version: 9,
  procmaps: 10,
  traceid: 11,
  timeShift: 12,
  guest: 13,
  tsc2nsec: 14,
  strings: 15,
  headerInfo: 16,
  ftraceEvents: 17,
  eventFormats: 18,
  kallsyms: 19,
  printk: 20,
  cmdlines: 21,
  bufferText: 22,
} as const;

/** A section's flags. */
export const SECTION_COMPRESSED = 1;
export const SECTION_HEADER_SIZE = 16;

/** Version 6: what stands in front of options and of CPU data, NUL included. */
export const OPTIONS_MARK = 'options  \0';
export const FLYRECORD_MARK = 'flyrecord\0';
export const LATENCY_MARK = 'latency  \0';

export const HEADER_PAGE_MARK = 'header_page\0';
export const HEADER_EVENT_MARK = 'header_event\0';

export type TraceDatVersion = 6 | 7;

/** ETRACEDAT: the file is not what it has to be. */
export function badFile(message: string, hint?: string): TraplineError {
  return new TraplineError('ETRACEDAT', message, hint === undefined ? {} : { hint });
}
