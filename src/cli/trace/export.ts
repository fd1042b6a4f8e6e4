/** `trapline export`: a trace.dat file as what other tools show. */
import path from 'node:path';
import { TraplineError } from '../../errors.ts';
import {
  exportChrome,
  exportJson,
  exportPerfetto,
  exportSpeedscope,
  fileSource,
  TraceDat,
  type TraceEvent,
  TraceEvents,
} from '../../export/index.ts';
import { version } from '../version.ts';
import { EXPORT_FORMATS, type ExportFormat, type TraceArguments } from './options.ts';
import { filterOf, inputOf, Output } from './report.ts';

type Filter = ((event: TraceEvent) => boolean) | undefined;

function pieces(
  events: TraceEvents,
  format: ExportFormat,
  filter: Filter,
  name: string,
): Iterable<Uint8Array> {
  switch (format) {
    case 'perfetto':
      return exportPerfetto(events, filter);
    case 'chrome':
      return exportChrome(events, filter);
    case 'json':
      return exportJson(events, filter);
    case 'speedscope':
      return exportSpeedscope(events, { name, exporter: `trapline ${version()}` });
  }
}

export async function exportCommand(args: TraceArguments): Promise<number> {
  const format = args.value('to') as ExportFormat | undefined;
  if (format === undefined)
    throw new TraplineError('EUSAGE', 'there is no format', { hint: `--to ${EXPORT_FORMATS.join(', ')}` });
  const file = inputOf(args);
  const target = args.value('output');
  if (format === 'perfetto' && target === undefined && process.stdout.isTTY)
    throw new TraplineError('EUSAGE', 'a perfetto trace is no text', {
      hint: 'name a file: -o trace.perfetto-trace',
    });
  const dat = new TraceDat(fileSource(file));
  try {
    const events = new TraceEvents(dat);
    const filter = filterOf(args, events);
    const iterator = pieces(events, format, filter, path.basename(file))[Symbol.iterator]();
    // What cannot be exported is said before a file is made.
    let next = iterator.next();
    const out = new Output(target);
    try {
      for (; next.done !== true && !out.closed; next = iterator.next()) out.write(next.value);
    } finally {
      out.close();
    }
    return 0;
  } finally {
    dat.close();
  }
}
