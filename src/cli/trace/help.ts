/** Help and documentation of `trapline record`, `report` and `export`. */
import { describe, optionLines, wrap } from '../help.ts';
import { TRACE_COMMANDS, type TraceCommandName } from './names.ts';
import { optionsOf } from './options.ts';

interface TraceCommandText {
  readonly usage: string;
  readonly summary: string;
  readonly details: readonly string[];
}

export const TRACE_COMMAND_TEXTS: Readonly<Record<TraceCommandName, TraceCommandText>> = {
  record: {
    usage: '-p PID -e EVENT [-f FILTER] [-R TRIGGER]... [-o FILE]',
    summary: "Record a process's trace events into a trace.dat file.",
    details: [
      'Options are called as those of trace-cmd record, but for -p, which is the process. -f and -R are about the -e in front of them, -e about the -B.',
      'The exit code is 1 when events were lost.',
    ],
  },
  report: {
    usage: '[-i FILE] [-l] [-t] [-R] [--ts-diff] [-F FILTER]',
    summary: 'Show a trace.dat file as text, as trace-cmd report does.',
    details: ['Files of trace-cmd can be read, too: version 6 and 7, little-endian.'],
  },
  export: {
    usage: '--to perfetto|chrome|speedscope|json [-i FILE] [-o FILE]',
    summary: 'Turn a trace.dat file into what other tools show.',
    details: [
      'An entry probe and a return probe of one function on the same task become a slice, other events are instants.',
    ],
  },
};

export function traceHelp(command: TraceCommandName): string {
  const { usage, summary, details } = TRACE_COMMAND_TEXTS[command];
  const lines = [`Usage: trapline ${command} ${usage}`, '', summary];
  for (const text of details) lines.push('', ...wrap(text, 98));
  lines.push('');
  for (const option of optionsOf(command)) lines.push(...optionLines(option));
  return `${lines.join('\n')}\n`;
}

/** docs/record-cli.md */
export function traceDocs(): string {
  const lines = [
    '# trapline record, report, export: the options',
    '',
    '<!-- made from src/cli/trace/options.ts by `npm run generate` -->',
    '',
    'What they are for, with examples: [recording](record.md).',
  ];
  for (const command of TRACE_COMMANDS) {
    const { usage, summary, details } = TRACE_COMMAND_TEXTS[command];
    lines.push('', `## trapline ${command}`, '', '```', `trapline ${command} ${usage}`, '```', '', summary);
    for (const text of details) lines.push('', text);
    lines.push('', '| option | meaning |', '| --- | --- |');
    for (const option of optionsOf(command)) {
      const value = option.value === undefined ? '' : ` ${option.value}`;
      const short = option.short === undefined ? '' : `\`-${option.short}${value}\`, `;
      lines.push(`| ${short}\`--${option.name}${value}\` | ${describe(option).replaceAll('|', '\\|')} |`);
    }
  }
  return `${lines.join('\n')}\n`;
}
