// Recordings of a shell: `$ command`, then what it printed. `# text` between them is a remark.

import { readFileSync } from 'node:fs';
import { difference } from './compare.mjs';
import { runCommand } from './shell.mjs';

export const TRANSCRIPTS = [
  'initial_values.txt',
  'tree.txt',
  'header_page_event.txt',
  'instances.txt',
  'trace_output.txt',
  'trace_after_removal.txt',
  'trigger_runtime.txt',
  'static_formats.txt',
  'available_events.txt',
];

export function runTranscript(createSystem, file, name, report, omit = []) {
  const omitted = (line) => omit.some((word) => line.includes(word));
  const system = createSystem();
  // The machine that recorded had tracing off between commands.
  system.tracing.globalTrace.tracingOn = false;
  let step = 0;
  for (const { command, lines } of parseTranscript(readFileSync(file, 'latin1'))) {
    step++;
    if (omitted(command)) {
      report(`${name} ${step}`, [], 'listed among the differences');
      continue;
    }
    const noise = lines.find((line) => /^ *(?:bash|cat|head|tr|sh)-\d+ +\[/.test(line));
    if (noise !== undefined) {
      runCommand(system, command);
      report(`${name} ${step}`, [], 'the recording has the calls of the shell itself');
      continue;
    }
    let result;
    try {
      result = runCommand(system, command);
    } catch (error) {
      report(`${name} ${step}`, [`$ ${command}: the replay failed: ${error.stack}`]);
      continue;
    }
    if (result.skipped !== undefined) {
      report(`${name} ${step}`, [], result.skipped);
      continue;
    }
    const problem = difference(
      lines.filter((line) => !omitted(line)),
      result.output.split('\n').slice(0, -1),
    );
    report(`${name} ${step}`, problem === undefined ? [] : [`$ ${command}: ${problem}`]);
  }
}

function parseTranscript(text) {
  const steps = [];
  const all = text.split('\n');
  if (all.at(-1) === '') all.pop();
  for (const [n, line] of all.entries()) {
    if (line.startsWith('$ ')) steps.push({ command: line.slice(2), lines: [] });
    // A remark stands alone in front of a command.
    else if (/^# [a-z]/.test(line) && all[n - 1] !== '# Available triggers:' && all[n + 1]?.startsWith('$ '))
      continue;
    else steps.at(-1)?.lines.push(line);
  }
  return steps;
}
