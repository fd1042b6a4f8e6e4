// Case files: `== N`, file, mode, write, result, error_log, read-backs. See the README beside the recordings.

import { readFileSync } from 'node:fs';
import { difference } from './compare.mjs';
import { runCommand } from './shell.mjs';

const ROOT = '/sys/kernel/tracing/';

/** A part that shows a file's content: `readback: PATH (N bytes)` and lines. */
export function parseCases(text) {
  const cases = [];
  let setup = [];
  let current;
  let part;
  for (const line of text.split('\n')) {
    const number = /^== (\d+)$/.exec(line);
    if (number !== null) {
      current = { number: Number(number[1]), setup, readbacks: [], commands: [] };
      cases.push(current);
      setup = [];
      part = undefined;
    } else if (line.startsWith('setup: ')) setup.push(line.slice(7));
    else if (current === undefined) continue;
    else if (line.startsWith('  |')) part?.lines.push(line.slice(3));
    else if (line.startsWith('file: ')) current.file = line.slice(6).replace(ROOT, '');
    else if (line.startsWith('mode: ')) current.mode = line.slice(6);
    else if (line.startsWith('write: ')) current.write = unescaped(line.slice(7));
    else if (line === 'write:') current.write = '';
    else if (line.startsWith('result: ')) current.result = line.slice(8);
    else if (line.startsWith('command: ')) {
      part = { command: line.slice(9), lines: [] };
      current.commands.push(part);
    } else {
      const shown = /^(error_log|readback): (\S+?)(?: \((\d+) bytes\)|: (open errno .*))$/.exec(line);
      if (shown === null) continue;
      part = { path: shown[2].replace(ROOT, ''), lines: shown[4] === undefined ? [] : [shown[4]] };
      if (shown[1] === 'error_log') current.errorLog = part;
      else current.readbacks.push(part);
    }
  }
  return cases;
}

function unescaped(text) {
  return text.replace(/\\([nt\\])/g, (_, c) => ({ n: '\n', t: '\t', '\\': '\\' })[c]);
}

/** Files whose cases go on from the one before; the others begin anew. */
const CONTINUING = new Set(['kprobe_seq.txt', 'control.txt', 'filters.txt', 'triggers.txt']);

/** Events whose definitions are not in the files; what they have for fields is known from the cases that name them. */
const DEFINITIONS = {
  'grp/orc':
    'p:grp/orc do_sys_openat2 dfd=%di:s32 name=+0(%si):ustring flags=+0(%dx):u64 mode=+8(%dx):u32 res=+16(%dx):x64 ' +
    'p=%dx:symbol arr=+0(%si):u8[4] comm=$comm',
  'grp/ft':
    'p:grp/ft do_sys_openat2 u8=%di:u8 s8=%di:s8 s16=%di:s16 x64=%di:x64 ch=%di:char str=+0(%si):ustring ' +
    'arr=+0(%si):u8[4] sym=%dx:symbol symstr=%dx:symstr bf=%di:b4@0/32 comm=$comm',
};

/** Runs a case file. `report(name, problems)` is told of every case. */
export function runCases(createSystem, file, name, report, omit = []) {
  const continuing = CONTINUING.has(name);
  const setups = [];
  let system;
  let last = 0;
  for (const test of parseCases(readFileSync(file, 'utf8'))) {
    setups.push(...test.setup);
    if (omit.includes(test.file)) {
      report(`${name} ${test.number}`, [], 'listed among the differences');
      continue;
    }
    let problems;
    try {
      const gap = last !== test.number - 1;
      if (system === undefined || !continuing || (gap && name === 'control.txt')) {
        system = createSystem();
        for (const command of setups) runCommand(system, command);
      } else for (const command of test.setup) runCommand(system, command);
      if (continuing && gap) prepare(system, test);
      problems = runCase(system, test);
    } catch (error) {
      problems = [`the replay failed: ${error.stack}`];
    }
    last = test.number;
    report(`${name} ${test.number}`, problems);
  }
}

/**
 * The case before is not in the file, so the state that this one began from is not known. It is derived from what is recorded:
 * a refused write changed nothing, so the read-back was there before; a removal needs what it removes; an option was the other way.
 */
function prepare(system, test) {
  const event = /^events\/(\w+)\/(\w+)\//.exec(test.file);
  const definition = DEFINITIONS[event?.slice(1).join('/')];
  if (definition !== undefined && !system.fs.exists(`events/${event[1]}/${event[2]}`))
    system.fs.appendFile('kprobe_events', definition);
  for (const { path, lines } of test.readbacks) {
    const wanted = lines.filter((line) => line !== '' && !line.startsWith('#'));
    if (path === 'tracing_on' && wanted[0] === '0') attempt(system, path, '0', 'writeFile');
    if (path === 'snapshot' && lines.some((line) => / is allocated /.test(line)))
      attempt(system, path, '1', 'writeFile');
    if (path === test.file) prepareFile(system, test, wanted);
    else if (/(?:^|_)events$/.test(path)) define(system, path, wanted);
  }
  system.fs.writeFile('error_log', '');
}

/** Writes what may be refused: what cannot be put back shows as a difference of the case itself. */
function attempt(system, path, text, mode = 'appendFile') {
  try {
    system.fs[mode](path, text);
  } catch (error) {
    errno(system, error);
  }
}

function prepareFile(system, test, wanted) {
  const { file } = test;
  const refused = test.result.startsWith('errno');
  const word = test.write.trim();
  if (file === 'trace_options') {
    for (const line of wanted) attempt(system, file, line);
    if (!refused) attempt(system, file, word.startsWith('no') ? word.slice(2) : `no${word}`);
  } else if (file === 'trace_clock') attempt(system, file, /\[(.*)\]/.exec(wanted[0])?.[1] ?? 'local');
  else if (file.endsWith('/trigger')) prepareTriggers(system, test, wanted, refused);
  else if (file === 'set_event') {
    attempt(system, file, '', 'writeFile');
    if (refused || test.mode === '>>') for (const line of wanted) attempt(system, file, line);
    if (!refused && word.startsWith('!')) attempt(system, file, word.slice(1));
  } else if (/(?:^|_)events$/.test(file)) {
    // What a removal took away was there.
    if (!refused && /^[!-]/.test(word)) define(system, file, wanted, lines(system, file));
    else define(system, file, refused ? wanted : wanted.slice(0, -1), wanted);
  } else if (file.endsWith('/filter')) {
    if (refused && wanted[0] === 'none') attempt(system, file, '0');
    // Behind a filter that was not understood is where; one line is what was there.
    else if (refused && wanted.length === 1) attempt(system, file, wanted[0], 'writeFile');
  } else if (refused || (test.mode === '>>' && wanted.length > 1)) {
    for (const [n, line] of wanted.entries())
      attempt(system, file, line, n === 0 ? 'writeFile' : 'appendFile');
  }
}

/** The triggers that were there: all that are shown behind a refused command or a removal, all but the new one behind another. */
function prepareTriggers(system, test, wanted, refused) {
  const command = test.write.trim();
  const removed = command.startsWith('!') && !refused ? [command.slice(1)] : [];
  const shown = () => lines(system, test.file).filter((line) => !line.startsWith('#'));
  const own = refused || removed.length > 0 ? undefined : (madeBy(command, wanted) ?? madeAnew());
  const before = wanted.filter((line) => line !== own);
  for (const line of shown().reverse())
    if (!before.includes(line)) attempt(system, test.file, `!${triggerCommand(line)}`);
  // What does not go by what it shows goes by the words that made it.
  if (shown().some((line) => !before.includes(line)))
    for (const text of system.triggers ?? []) attempt(system, test.file, `!${text}`);
  system.triggers = [command, ...(system.triggers ?? [])].slice(0, REMEMBERED);
  const isHist = (line) => line.startsWith('hist:');
  // A hist that is not there cannot be put between others.
  if (before.some((line) => isHist(line) && !shown().includes(line)))
    for (const line of shown().filter(isHist)) attempt(system, test.file, `!${triggerCommand(line)}`);
  const present = shown();
  const missing = before.filter((line) => !present.includes(line));
  // The latest of the others is listed first.
  for (const line of [...missing.filter(isHist), ...missing.filter((line) => !isHist(line)).reverse()])
    attempt(system, test.file, triggerCommand(line, true));
  for (const text of removed) attempt(system, test.file, text);

  /** What it makes where nothing is: a hist shows the names of keys that the command may have called otherwise. */
  function madeAnew() {
    if (!command.startsWith('hist:') || /:pause(:|$)/.test(command) || CHANGES.test(command))
      return undefined;
    for (const line of shown().reverse()) attempt(system, test.file, `!${triggerCommand(line)}`);
    attempt(system, test.file, command);
    const made = shown().find((line) => wanted.includes(line));
    // By its own words: what it shows may name another.
    attempt(system, test.file, `!${command}`);
    return made;
  }
}

/** As many commands as may have left something behind. */
const REMEMBERED = 8;
/** Commands that change a hist that is there. */
const CHANGES = /:(cont|continue|clear)(:|$)/;
const PAUSED = / \[paused\]$/;

/** Which of the lines behind it a command has made. */
function madeBy(command, wanted) {
  const made = wanted.filter((line) => adds(command, line)).at(-1);
  // A new hist is the last: another was there, and is paused now.
  const isNew =
    !/:pause(:|$)/.test(command) || made === wanted.filter((line) => line.startsWith('hist:')).at(-1);
  return isNew ? made : undefined;
}

/** Whether a trigger's line may be what a command makes: the same kind, and the same target, or keys and actions. */
function adds(command, line) {
  const [, kind, rest] = /^\s*(\w*)[\s:]*(.*)/s.exec(command);
  if (!line.startsWith(`${kind}:`)) return false;
  const target = /able_/.test(kind) ? (/^\w+:\w+/.exec(rest)?.[0] ?? '') : '';
  if (kind !== 'hist') return line.startsWith(`${kind}:${target}`);
  if (CHANGES.test(`:${rest}`)) return false;
  const keys = (text) => [...text.matchAll(/(?:^|:)keys?=([^:]*)/g)].at(-1)?.[1].split(' ')[0];
  const actions = (text) => [...text.matchAll(/:(on\w+\()/g)].map(([, action]) => action).join();
  return keys(rest) === keys(line) && actions(rest) === actions(line);
}

/** Dynamic events that were there before the case, by the lines that define them, and no others. */
function define(system, path, wanted, others = wanted) {
  for (const line of lines(system, path)) {
    if (others.includes(line)) continue;
    const name = line.split('\t')[0];
    const event = /^\w+:(\S+)/.exec(line)?.[1];
    attempt(system, path, path === 'synthetic_events' ? `!${name}` : `-:${event}`);
  }
  const present = lines(system, path);
  for (const line of wanted) if (!present.includes(line)) attempt(system, path, line.replace('\t', ' '));
}

/** The command that makes a trigger of which this is the line. */
function triggerCommand(line, pause = false) {
  if (pause && PAUSED.test(line)) return triggerCommand(line).replace(/(?= if |$)/, ':pause');
  return line
    .replace(/ \[(active|paused)\]$/, '')
    .replace(/^(\S+?):unlimited/, '$1')
    .replace(/^(\S+?):count=(\d+)/, '$1:$2');
}

function runCase(system, test) {
  const problems = [];
  const result = write(system, test);
  // The kernel's log is empty before every case.
  if (result !== test.result) problems.push(`expected ${test.result}, got ${result}`);
  if (test.errorLog !== undefined) {
    const problem = difference(test.errorLog.lines, lines(system, test.errorLog.path));
    if (problem !== undefined) problems.push(`error_log ${problem}`);
  }
  for (const readback of test.readbacks) {
    const problem = difference(readback.lines, lines(system, readback.path));
    if (problem !== undefined) problems.push(`${readback.path} ${problem}`);
  }
  for (const { command, lines: expected } of test.commands) {
    const { output, skipped } = runCommand(system, command);
    if (skipped !== undefined) continue;
    const problem = difference(expected.filter(ours), output.split('\n').slice(0, -1));
    if (problem !== undefined) problems.push(`$ ${command}: ${problem}`);
  }
  return problems;
}

/** Lines of the scheduler that recorded along with a case are not its own. */
function ours(line) {
  return !/: sched_\w+: /.test(line);
}

function write(system, test) {
  const data = new TextEncoder().encode(test.write);
  system.fs.writeFile('error_log', '');
  let file;
  try {
    file = system.fs.open(test.file, {
      write: true,
      truncate: test.mode === '>',
      append: test.mode === '>>',
    });
  } catch (error) {
    return `open ${errno(system, error)}`;
  }
  try {
    return `ok ${file.write(data)}/${data.length}`;
  } catch (error) {
    return errno(system, error);
  } finally {
    file.close();
  }
}

export function errno(system, error) {
  if (!(error instanceof system.modules.KernelError)) throw error;
  return `errno ${-error.errno} ${error.code}`;
}

function lines(system, path) {
  let content;
  try {
    content = system.fs.readFile(path);
  } catch (error) {
    return [`open ${errno(system, error)}`];
  }
  if (content === '') return [];
  return content.replace(/\n$/, '').split('\n');
}
