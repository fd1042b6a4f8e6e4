import type { ErrnoCode } from '../../errno.ts';
import { readable } from '../byte-string.ts';
import { kstrtol } from '../kstrto.ts';
import type { TraceArch } from '../trace-arch.ts';
import type { TraceEventCall } from '../trace-event.ts';
import { filterTypeOf, type TraceField } from '../trace-field.ts';
import type { ProbeArg } from './parse-arg.ts';

/** One probe of an event: its arguments and the event it belongs to (`struct trace_probe`). */
export interface TraceProbe {
  readonly args: readonly ProbeArg[];
  /** Bytes of the arguments' fixed parts. */
  readonly size: number;
}

/** An event and the probes on it (`struct trace_probe_event`). The first one's arguments are the event's fields. */
export class ProbeEvent<P extends TraceProbe> {
  readonly call: TraceEventCall;
  readonly probes: P[] = [];
  /** The source is running: an instance, a perf event or a program uses the event. */
  enabled = false;

  constructor(call: TraceEventCall) {
    this.call = call;
  }
}

/** How a record of the event is headed (enum probe_print_type). */
export type ProbeHead = 'normal' | 'return' | 'event';

const HEADS = {
  normal: { fmt: '(%lx)', arg: ', REC->__probe_ip', fields: ['__probe_ip'] },
  return: {
    fmt: '(%lx <- %lx)',
    arg: ', REC->__probe_func, REC->__probe_ret_ip',
    fields: ['__probe_func', '__probe_ret_ip'],
  },
  event: { fmt: '', arg: '', fields: [] },
} as const;

/** sizeof(struct trace_entry) */
const ENTRY_SIZE = 8;

/** Bytes in front of the first argument. */
export function headSize(head: ProbeHead): number {
  return ENTRY_SIZE + 8 * HEADS[head].fields.length;
}

/** __set_print_fmt() */
export function printFmt(args: readonly ProbeArg[], head: ProbeHead): string {
  let fmt = `"${HEADS[head].fmt}`;
  let values = `"${HEADS[head].arg}`;
  for (const { name, type, count } of args) {
    const one = type.isString
      ? (at: string) => `, __get_str(${name}${at})`
      : (at: string) => `, REC->${name}${at}`;
    fmt += ` ${name}=`;
    if (count === 0) {
      fmt += type.fmt;
      values += one('');
      continue;
    }
    fmt += `{${new Array(count).fill(type.fmt).join(',')}}`;
    for (let i = 0; i < count; i++) values += one(`[${i}]`);
  }
  return fmt + values;
}

/** The event's fields: the head's, then the arguments (traceprobe_define_arg_fields()). */
export function probeFields(args: readonly ProbeArg[], head: ProbeHead): TraceField[] {
  const fields: TraceField[] = HEADS[head].fields.map((name, i) => ({
    name,
    type: 'unsigned long',
    offset: ENTRY_SIZE + 8 * i,
    size: 8,
    isSigned: false,
    filterType: 'other',
  }));
  const base = headSize(head);
  for (const { name, type: fetchType, count, offset } of args) {
    const type = count > 0 ? `${fetchType.fmttype}[${count}]` : fetchType.fmttype;
    fields.push({
      name,
      type,
      offset: base + offset,
      size: fetchType.size * (count || 1),
      isSigned: fetchType.isSigned,
      filterType: filterTypeOf(type),
      len: 0,
    });
  }
  return fields;
}

/** trace_probe_compare_arg_type(): the number (from 1) of the first argument that differs in name or type; 0 when none does. */
export function compareArgTypes(a: readonly ProbeArg[], b: readonly ProbeArg[]): number {
  if (a.length !== b.length) return Math.min(a.length, b.length) + 1;
  const at = a.findIndex(
    (arg, i) => arg.type !== b[i]?.type || arg.count !== b[i]?.count || arg.name !== b[i]?.name,
  );
  return at + 1;
}

export function sameComms(a: readonly ProbeArg[], b: readonly ProbeArg[]): boolean {
  return a.every((arg, i) => arg.comm === b[i]?.comm);
}

/** trace_probe_match_command_args(): whether the first arguments are these, `NAME=FETCHARG` each. */
export function matchArgs(args: readonly ProbeArg[], words: readonly string[]): boolean {
  return (
    words.length <= args.length && words.every((word, i) => word === `${args[i]?.name}=${args[i]?.comm}`)
  );
}

/** The arguments as a definition writes them, each with a space in front. */
export function showArgs(args: readonly ProbeArg[]): string {
  return args.map(({ name, comm }) => ` ${name}=${comm}`).join('');
}

/** traceprobe_split_symbol_offset(): `SYM+OFFS`; the offset is undefined where it is not a number. */
export function splitSymbolOffset(text: string): {
  readonly symbol: string;
  readonly offset: bigint | undefined;
} {
  const at = text.search(/[+-]/);
  if (at < 0) return { symbol: text, offset: 0n };
  return { symbol: text.slice(0, at), offset: kstrtol(text.slice(at)) };
}

/** traceprobe_update_arg(): looks the symbols of `@SYM` up. The errno of a refusal. */
export function updateArgs(args: readonly ProbeArg[], arch: TraceArch): ErrnoCode | undefined {
  for (const { code } of args) {
    for (const [i, insn] of code.entries()) {
      if (insn.op !== 'symbol') continue;
      const { symbol, offset } = splitSymbolOffset(insn.data);
      if (offset === undefined) return 'EINVAL';
      const found = lookupName(arch, symbol);
      if (found === undefined) return 'ENOENT';
      code[i + 1]!.immediate = BigInt.asUintN(64, found + offset);
    }
  }
  return undefined;
}

/** kallsyms_lookup_name(): the address of `[MOD:]SYM`. */
export function lookupName(arch: TraceArch, name: string): bigint | undefined {
  const colon = name.indexOf(':');
  const module = colon < 0 ? undefined : readable(name.slice(0, colon));
  return arch.lookupSymbol(readable(name.slice(colon + 1)), module)[0]?.address;
}
