import { OPTION_SPECS, type OptionSpec } from './options.ts';

export const USAGE = [
  'trapline [options] -p PID PROGRAM|FILE [parameter...]',
  "trapline [options] -c 'node app.js' PROGRAM|FILE [parameter...]",
  "trapline -l 'kprobe:server.js:*' -p PID",
  'trapline record -p PID -e EVENT ...',
  'trapline report|export [-i FILE] ...',
  'trapline bpf COMMAND ...',
  'trapline tracefs --mount DIR [-p PID]',
] as const;

export const EXAMPLES: readonly (readonly [command: string, what: string])[] = [
  ["trapline -l 'kprobe:server.js:*' -p 4711", 'what can be probed'],
  ["trapline -p 4711 'kprobe:server.js:handle { @[str(arg0.url)] = count(); }'", 'calls by URL'],
  [
    'trapline -p 4711 \'kretprobe:cart.js:total /retval > 100/ { printf("%s %d\\n", func, retval); }\'',
    'return values',
  ],
];

const LEAD = 24;
const WIDTH = 100;

export function helpText(): string {
  const lines = ['Traces a running Node.js process, in the language of bpftrace.', '', 'Usage:'];
  for (const usage of USAGE) lines.push(`  ${usage}`);
  for (const [group, options] of byGroup()) {
    lines.push('', `${group}:`);
    for (const option of options) lines.push(...optionLines(option));
  }
  lines.push('', 'Examples:');
  for (const [command, what] of EXAMPLES) lines.push(`  # ${what}`, `  ${command}`);
  return `${lines.join('\n')}\n`;
}

export function byGroup(): [OptionSpec['group'], OptionSpec[]][] {
  const groups = new Map<OptionSpec['group'], OptionSpec[]>();
  for (const option of OPTION_SPECS) groups.set(option.group, [...(groups.get(option.group) ?? []), option]);
  return [...groups];
}

/** `-p, --pid PID` */
export function optionLabel(option: Omit<OptionSpec, 'group'>): string {
  const short = option.short === undefined ? '    ' : `-${option.short}, `;
  return `${short}--${option.name}${option.value === undefined ? '' : ` ${option.value}`}`;
}

export function describe(option: Omit<OptionSpec, 'group'>): string {
  const choices = option.choices === undefined ? '' : ` One of ${option.choices.join(', ')}.`;
  const fallback = option.default === undefined ? '' : ` Default ${option.default}.`;
  return option.description + choices + fallback;
}

/** An option's lines in help. */
export function optionLines(option: Omit<OptionSpec, 'group'>): string[] {
  const [first = '', ...rest] = wrap(describe(option), WIDTH - LEAD - 2);
  const label = `  ${optionLabel(option)}`;
  const lines =
    label.length < LEAD + 1 ? [label.padEnd(LEAD + 2) + first] : [label, ' '.repeat(LEAD + 2) + first];
  return [...lines, ...rest.map((line) => ' '.repeat(LEAD + 2) + line)];
}

export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = '';
    }
    line += line === '' ? word : ` ${word}`;
  }
  return [...lines, line];
}
