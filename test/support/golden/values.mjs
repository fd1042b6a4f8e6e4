// Recordings in forms of their own: what fetch arguments print, which records filters let pass, what hist triggers show. Each runs the
// definition of its first line against orc's calls.

import { readFileSync } from 'node:fs';
import { errno } from './cases.mjs';
import { difference } from './compare.mjs';

export const VALUES = {
  'fetch_values.txt': runFetchValues,
  'filter_semantics.txt': runFilterSemantics,
  'hist_output.txt': runHistOutput,
};

/** Bytes that a terminal would not show. */
const shown = (text) => text.replace(/[^ -~\n\t]/g, '?');

/** Addresses that are others in each run: stacks, and code that is not declared. */
const addresses = (text) => text.replace(/0xff[0-9a-f]{14}\b/g, '0xADDR');

const latin1 = (system, path) => Buffer.from(system.fs.readBytes(path)).toString('latin1');

function define(system, definition) {
  system.fs.writeFile('kprobe_events', definition);
}

/** `ARGUMENT => TEXT`, then the field's line of the format. */
function runFetchValues(createSystem, file, name, report) {
  const tests = [];
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const start = /^(\S.*?) => (.*)$/s.exec(line);
    if (start !== null) tests.push({ argument: start[1], printed: [start[2]], fields: [] });
    else if (line.startsWith('      \t')) tests.at(-1)?.fields.push(line.trim());
    // The rest of a text that has a newline in it.
    else if (line !== '' && !line.startsWith('#') && tests.at(-1)?.fields.length === 0)
      tests.at(-1).printed.push(line);
    // The first line of this one is lost.
    else if (line !== '' && !line.startsWith('#')) tests.push({ fields: ['lost'] });
  }
  for (const [n, { argument, printed, fields }] of tests.entries()) {
    if (printed === undefined) continue;
    const system = createSystem();
    const expected = printed.join('\n');
    const kind = expected.includes(' <- ') ? 'r' : 'p';
    const problems = [];
    let got;
    try {
      define(system, `${kind}:grp/orc do_sys_openat2 ${argument}`);
      system.fs.writeFile('events/grp/orc/enable', '1');
      system.orc(['pat']);
      got = /: orc: ([\s\S]*)\n$/.exec(latin1(system, 'trace'))?.[1] ?? 'nothing';
    } catch (error) {
      errno(system, error);
      got = `REJECTED ${/error: (.*)/.exec(latin1(system, 'error_log'))?.[1]}`;
    }
    if (shown(addresses(got)) !== shown(addresses(expected)))
      problems.push(`${argument}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(got)}`);
    if (fields.length > 0 && system.fs.exists('events/grp/orc/format')) {
      const own = latin1(system, 'events/grp/orc/format')
        .split('\n')
        .filter((line) => /field:/.test(line) && !/ (?:common_|__probe_)/.test(line))
        .map((line) => line.trim());
      const problem = difference(fields, own);
      if (problem !== undefined) problems.push(`${argument}: format ${problem}`);
    }
    report(`${name} ${n + 1}`, problems);
  }
}

/** The remark of the first line says less than was written when the count of the second does not fit: then the comm is not named. */
const COMM_ARGUMENT = ' comm=$comm';

function header([remark, written = '']) {
  const [, definition, first, last] = /^ ?# event: (.*?) ; input orc seq (-?\d+) (-?\d+)/.exec(remark);
  const length = Number(/^write: ok (\d+) of/.exec(written)?.[1] ?? definition.length);
  const whole = length === definition.length + COMM_ARGUMENT.length ? definition + COMM_ARGUMENT : definition;
  return { definition: whole, seq: ['seq', first, last] };
}

/** `FILTER => the dfd values that passed`, or REJECTED and what the filter file says. */
function runFilterSemantics(createSystem, file, name, report) {
  const lines = readFileSync(file, 'utf8').split('\n');
  const { definition, seq } = header(lines);
  const tests = [];
  for (const line of lines.slice(1)) {
    const start = /^(.*?) => (.*)$/.exec(line);
    if (start !== null) tests.push({ filter: start[1], result: start[2], rest: [] });
    else tests.at(-1)?.rest.push(line);
  }
  for (const [n, { filter, result, rest }] of tests.entries()) {
    const system = createSystem();
    define(system, definition);
    system.fs.writeFile('events/grp/orc/enable', '1');
    const got = [];
    try {
      system.fs.writeFile('events/grp/orc/filter', filter);
      system.orc(seq);
      const passed = [...latin1(system, 'trace').matchAll(/: orc: .*? dfd=(-?\d+)/g)].map(
        ([, dfd]) => `${dfd} `,
      );
      got.push(passed.join(''));
    } catch (error) {
      errno(system, error);
      const shownFilter = 'events/grp/orc/filter';
      got.push(
        'REJECTED',
        ...(system.fs.exists(shownFilter) ? latin1(system, shownFilter) : '').replace(/\n+$/, '').split('\n'),
      );
    }
    const expected = [result, ...rest.filter((line) => line !== '')];
    const problem = difference(expected, got);
    report(`${name} ${n + 1}`, problem === undefined ? [] : [`${filter}: ${problem}`]);
  }
}

/** `=== TRIGGER`, whether it was taken, the trigger file and the hist file after orc's calls, and its removal. */
function runHistOutput(createSystem, file, name, report) {
  const lines = readFileSync(file, 'utf8').split('\n');
  const { definition, seq } = header(lines);
  const tests = [];
  for (const line of lines.slice(1)) {
    if (line.startsWith('=== ')) tests.push({ command: line.slice(4), expected: [] });
    else tests.at(-1)?.expected.push(line);
  }
  for (const [n, { command, expected }] of tests.entries()) {
    const system = createSystem();
    define(system, definition);
    system.fs.writeFile('error_log', '');
    const trigger = 'events/grp/orc/trigger';
    const attempt = (text) => {
      try {
        system.fs.appendFile(trigger, text);
        return 'ok';
      } catch (error) {
        return errno(system, error).split(' ').at(-1);
      }
    };
    const set = attempt(command);
    let got = `set: ${set}\n`;
    try {
      if (set === 'ok') {
        got += `trigger file:\n${latin1(system, trigger)}`;
        system.orc(seq);
        got += `hist file:\n${latin1(system, 'events/grp/orc/hist')}remove with !cmd: ${attempt(`!${command}`)}\n`;
      } else got += latin1(system, 'error_log');
    } catch (error) {
      got += errno(system, error);
    }
    const trimmed = (list) => list.filter((line) => line !== '');
    const problem = difference(trimmed(expected), trimmed(got.split('\n')));
    report(`${name} ${n + 1}`, problem === undefined ? [] : [`${command}: ${problem}`]);
  }
}
