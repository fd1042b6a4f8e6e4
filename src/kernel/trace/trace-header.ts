import { utf8String } from './byte-string.ts';
import { ipText } from './symbols.ts';
import type { TraceArray } from './trace-array.ts';
import type { TraceBuffer } from './trace-buffer.ts';

/**
 * tracing_iter_reset(): how many records of each CPU `trace` leaves out, as they are older than its last emptying. A buffer that
 * comes back from the snapshot has such.
 */
export function skippedEntries(tr: TraceArray, buffer: TraceBuffer): readonly number[] {
  return Array.from({ length: buffer.ncpu }, (_, cpu) => {
    let skipped = 0;
    if (!tr.mayHoldOlder || buffer !== tr.buffer) return skipped;
    for (const { ts } of buffer.iterate(cpu)) {
      if (ts >= tr.timeStart) break;
      skipped++;
    }
    return skipped;
  });
}

/** get_total_entries(): what is in the buffer, and what was written to it. */
function totals(tr: TraceArray, buffer: TraceBuffer): { entries: number; total: number } {
  let entries = 0;
  let total = 0;
  for (const [cpu, skipped] of skippedEntries(tr, buffer).entries()) {
    const stats = buffer.stats(cpu);
    const count = stats.entries - skipped;
    entries += count;
    total += skipped > 0 ? count : count + stats.overrun;
  }
  return { entries, total };
}

const LATENCY_COLUMNS = [
  '#                    _------=> CPU#            ',
  '#                   / _-----=> irqs-off/BH-disabled',
  '#                  | / _----=> need-resched    ',
  '#                  || / _---=> hardirq/softirq ',
  '#                  ||| / _--=> preempt-depth   ',
  '#                  |||| / _-=> migrate-disable ',
  '#                  ||||| /     delay           ',
  '#  cmd     pid     |||||| time  |   caller     ',
  '#     \\   /        ||||||  \\    |    /       ',
  '',
].join('\n');

function columns(tgid: boolean): string {
  return (
    `#           TASK-PID    ${tgid ? '   TGID   ' : ''} CPU#     TIMESTAMP  FUNCTION\n` +
    `#              | |      ${tgid ? '     |    ' : ''}   |         |         |\n`
  );
}

function irqColumns(tgid: boolean): string {
  const width = tgid ? 12 : 2;
  const gap = ' '.repeat(width);
  const lines = [
    '  _-----=> irqs-off/BH-disabled',
    ' / _----=> need-resched',
    '| / _---=> hardirq/softirq',
    '|| / _--=> preempt-depth',
    '||| / _-=> migrate-disable',
    '|||| /     delay',
  ].map((line) => `#                            ${gap}${line}\n`);
  lines.push(`#           TASK-PID  ${'     TGID   '.slice(0, width)} CPU#  |||||  TIMESTAMP  FUNCTION\n`);
  lines.push(`#              | |    ${'       |    '.slice(0, width)}   |   |||||     |         |\n`);
  return lines.join('');
}

/** print_trace_header(): the head of the latency format. */
function latencyHeader(tr: TraceArray, buffer: TraceBuffer): string {
  const { entries, total } = totals(tr, buffer);
  const { release = 'trapline', preemption = 'desktop' } = tr.tracing.arch.uname?.() ?? {};
  const rule = '#    -----------------\n';
  const { pid = 0, start, end } = tr.longest ?? {};
  const comm = pid === 0 ? '' : utf8String(tr.tracing.savedCmdlines.find(pid));
  const where =
    start === undefined || end === undefined
      ? ''
      : `#  => started at: ${ipText(tr, start)}\n#  => ended at:   ${ipText(tr, end)}\n#\n`;
  return (
    `# ${tr.currentTracer} latency trace v1.1.5 on ${release}\n# ${'-'.repeat(68)}\n` +
    `# latency: ${tr.maxLatency / 1000n} us, #${entries}/${total}, CPU#0 | ` +
    `(M:${preemption} VP:0, KP:0, SP:0 HP:0 #P:${buffer.ncpu})\n` +
    `${rule}#    | task: ${comm}-${pid} (uid:0 nice:0 policy:0 rt_prio:0)\n${rule}${where}#\n`
  );
}

/** trace_default_header() (kernel/trace/trace.c). */
export function traceHeader(tr: TraceArray, buffer: TraceBuffer, latency: boolean): string {
  const { options } = tr;
  if (!options.has('context-info')) return '';
  if (latency) {
    if (totals(tr, buffer).entries === 0) return '';
    return latencyHeader(tr, buffer) + (options.has('verbose') ? '' : LATENCY_COLUMNS);
  }
  if (options.has('verbose')) return '';
  const { entries, total } = totals(tr, buffer);
  const tgid = options.has('record-tgid');
  return (
    `# entries-in-buffer/entries-written: ${entries}/${total}   #P:${buffer.ncpu}\n#\n` +
    (options.has('irq-info') ? irqColumns(tgid) : columns(tgid))
  );
}

/** What the `snapshot` file says while it is empty (print_snapshot_help()). */
export function snapshotHelp(allocated: boolean, perCpu: boolean): string {
  const head = `#\n# * Snapshot is ${allocated ? 'allocated' : 'freed'} *\n#\n# Snapshot commands:\n`;
  const clears = perCpu
    ? "# echo 2 > snapshot : Clears this cpu's snapshot buffer (but does not allocate)\n"
    : '# echo 2 > snapshot : Clears snapshot buffer (but does not allocate or free)\n';
  const commands = perCpu
    ? '# echo 0 > snapshot : Invalid for per_cpu snapshot file.\n' +
      '# echo 1 > snapshot : Not supported with this kernel.\n' +
      '#                     Must use main snapshot file to allocate.\n'
    : '# echo 0 > snapshot : Clears and frees snapshot buffer\n' +
      '# echo 1 > snapshot : Allocates snapshot buffer, if not already allocated.\n' +
      '#                      Takes a snapshot of the main buffer.\n';
  const others =
    "#                      (Doesn't have to be '2' works with any number that\n" +
    "#                       is not a '0' or '1')\n";
  return head + commands + clears + others;
}
