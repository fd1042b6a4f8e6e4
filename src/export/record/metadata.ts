/** What a trace.dat says of the traced system, from its tracing folder. */
import { checkArgument, having } from '../../arguments.ts';
import { bytesToString, utf8String } from '../../kernel/trace/byte-string.ts';
import { ownSymbols } from '../../kernel/trace/symbols.ts';
import type { Tracefs } from '../../tracefs/tracefs.ts';
import type { TraceMetadata } from '../trace-dat/writer.ts';

export const aTracefs = having('a Tracefs', 'readdir', 'open', 'tracing');

export interface MetadataOptions {
  /** Of the traced system: `Linux host 6.12 x86_64`. */
  readonly uname: string;
  /** Of the program that writes. */
  readonly version: string;
  readonly dateOffsetUs?: bigint;
  readonly traceId?: bigint;
}

/** Asks the folder for everything but pages. */
export function traceMetadata(fs: Tracefs, options: MetadataOptions): TraceMetadata {
  checkArgument('traceMetadata()', 'fs', fs, aTracefs);
  checkArgument(
    'traceMetadata()',
    'options',
    options,
    having('options with uname and version', 'uname', 'version'),
  );
  const read = (path: string): string => bytesToString(fs.readBytes(path));
  const formats = (system: string): string[] =>
    fs
      .readdir(`events/${system}`)
      .filter((name) => fs.stat(`events/${system}/${name}`).isDirectory)
      .map((name) => read(`events/${system}/${name}/format`));
  const systems = fs.readdir('events').filter((name) => fs.stat(`events/${name}`).isDirectory);
  const { ncpu } = fs.tracing.arch;
  return {
    headerPage: read('events/header_page'),
    headerEvent: read('events/header_event'),
    ftraceFormats: formats('ftrace'),
    eventFormats: systems
      .filter((system) => system !== 'ftrace')
      .map((system) => ({ system, formats: formats(system) })),
    kallsyms: kallsymsOf(fs),
    printkFormats: read('printk_formats'),
    savedCmdlines: read('saved_cmdlines'),
    traceClock: read('trace_clock'),
    cpus: ncpu,
    cpuStats: Array.from({ length: ncpu }, (_, cpu) => read(`per_cpu/cpu${cpu}/stats`)),
    ...options,
  };
}

/** Every symbol, as /proc/kallsyms has them; a name has no blank in it. */
function kallsymsOf({ tracing }: Tracefs): string {
  const lines: string[] = [];
  const add = (address: bigint, name: string, module: string | undefined): void => {
    const word = utf8String(name).replace(/[\s\0]/g, '_') || '?';
    const where = module === undefined ? '' : `\t[${utf8String(module).replace(/[\s\0\]]/g, '_')}]`;
    lines.push(`${address.toString(16).padStart(16, '0')} t ${word}${where}\n`);
  };
  for (const { address, name, module } of tracing.arch.functions()) add(address, name, module);
  for (const [address, name] of ownSymbols()) add(address, name, undefined);
  return lines.join('');
}
