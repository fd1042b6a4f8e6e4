import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { generatedFiles } from '../../src/cli/generate.ts';
import { helpText } from '../../src/cli/help.ts';
import { OPTION_SPECS, parseCommandLine } from '../../src/cli/options.ts';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));

function failure(...argv: string[]): string {
  try {
    parseCommandLine(argv);
  } catch (error) {
    const { code, message, hint } = error as { code: string; message: string; hint?: string };
    return `${code}: ${message}${hint === undefined ? '' : ` (${hint})`}`;
  }
  return 'accepted';
}

describe('the command line', () => {
  test('defaults', () => {
    expect(parseCommandLine([])).toEqual({
      pids: [],
      command: undefined,
      execute: undefined,
      list: false,
      output: undefined,
      format: 'text',
      arm: 'auto',
      maxPauseMs: 100,
      maxactive: 0,
      unsafe: false,
      debug: undefined,
      dryRun: false,
      info: false,
      verbose: false,
      help: false,
      version: false,
      positionals: [],
    });
  });

  test('the forms of the README', () => {
    expect(parseCommandLine(['-l', 'kprobe:server.js:*', '-p', '4711'])).toMatchObject({
      list: true,
      pids: [4711],
      positionals: ['kprobe:server.js:*'],
    });
    expect(parseCommandLine(['-lv', 'kprobe:*', '-p', '1', '-p', '2'])).toMatchObject({
      list: true,
      verbose: true,
      pids: [1, 2],
    });
    expect(parseCommandLine(['-c', 'node app.js', 'script.bt', 'one', '2'])).toMatchObject({
      command: 'node app.js',
      positionals: ['script.bt', 'one', '2'],
    });
    expect(
      parseCommandLine([
        '-p4711',
        '-fjson',
        '-o',
        'out',
        '--arm=edit',
        '--max-pause',
        '0',
        '-d',
        'codegen',
        '-e',
        'x',
      ]),
    ).toMatchObject({
      pids: [4711],
      format: 'json',
      output: 'out',
      arm: 'edit',
      maxPauseMs: 0,
      debug: 'codegen',
      execute: 'x',
    });
  });

  test('mistakes are told by the name of the option', () => {
    expect(failure('-p', 'x')).toBe('EUSAGE: -p: x is not a whole number from 1');
    expect(failure('-p', '0')).toBe('EUSAGE: -p: 0 is not a whole number from 1');
    expect(failure('--max-pause', '1e3')).toBe('EUSAGE: --max-pause: 1e3 is not a whole number from 0');
    expect(failure('--max-pause', '-1')).toBe('EUSAGE: --max-pause: -1 is not a whole number from 0');
    expect(failure('--maxactive', '-2.5')).toBe('EUSAGE: --maxactive: -2.5 is not a whole number from 0');
    expect(failure('-p', '-1')).toBe('EUSAGE: -p: -1 is not a whole number from 1');
    expect(failure('-lvp', '-1')).toBe('EUSAGE: -p: -1 is not a whole number from 1');
    expect(failure('-v', '-1')).toBe(
      'EUSAGE: unknown option -1 (a parameter that begins with - stands behind --: script.bt -- -1)',
    );
    expect(parseCommandLine(['script.bt', '--', '--max-pause', '-1']).positionals).toEqual([
      'script.bt',
      '--max-pause',
      '-1',
    ]);
    expect(failure('--arm', 'jump')).toBe('EUSAGE: --arm: jump is not one of auto, nop, bind, edit, break');
    expect(failure('-f', 'xml')).toBe('EUSAGE: -f: xml is not one of text, json');
    expect(failure('--max-puase', '5')).toBe(
      'EUSAGE: unknown option --max-puase (did you mean --max-pause?)',
    );
    expect(failure('-x')).toBe('EUSAGE: unknown option -x (trapline --help lists the options)');
    expect(failure('-k')).toBe(
      "EUSAGE: bpftrace's option -k is not here (reads that fail are always told, with their place)",
    );
    expect(failure('--no-warnings')).toBe(
      "EUSAGE: bpftrace's option --no-warnings is not here (warnings go to standard error: 2>/dev/null)",
    );
    expect(failure('-p')).toBe('EUSAGE: -p needs a value');
    expect(failure('-c', '-v')).toBe(
      'EUSAGE: -c needs a value (one that begins with a dash is given as -c-VALUE)',
    );
    expect(failure('--arm', '-p', '1')).toBe(
      'EUSAGE: --arm needs a value (one that begins with a dash is given as --arm=-VALUE)',
    );
    expect(failure('--info=yes')).toMatch(/^EUSAGE: Option '--info' does not take an argument/);
  });

  test('help names every option', () => {
    const help = helpText();
    for (const { name, short } of OPTION_SPECS) {
      expect(help).toContain(`--${name}`);
      if (short !== undefined) expect(help).toContain(`-${short}, --${name}`);
    }
    for (const line of help.split('\n').filter((line) => line.startsWith('  -'))) {
      expect(line.length).toBeLessThanOrEqual(100);
    }
  });
});

describe('generated files', () => {
  test.each([...generatedFiles()])('%s is up to date (npm run generate)', (file, text) => {
    expect(readFileSync(path.join(root, file), 'utf8')).toBe(text);
  });

  test('bash completes options, choices and pids', () => {
    const complete = (...words: string[]): string[] => {
      const script = `source completions/trapline.bash
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _trapline; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const output = execFileSync('bash', ['-c', script, 'bash', ...words], { cwd: root, encoding: 'utf8' });
      return output.trim().split('\n');
    };
    expect(complete('trapline', '--ma')).toEqual(['--max-pause', '--maxactive']);
    expect(complete('trapline', '--arm', 'b')).toEqual(['bind', 'break']);
    expect(complete('trapline', '-f', '')).toEqual(['text', 'json']);
    // as bash splits --arm=b and --format=
    expect(complete('trapline', '--arm', '=', 'b')).toEqual(['bind', 'break']);
    expect(complete('trapline', '--format', '=')).toEqual(['text', 'json']);
    expect(complete('trapline', 'READ')).toEqual(['README.md']);
    expect(complete('trapline', 'bpf', 'd')).toEqual(['dump', 'disasm']);
    expect(complete('trapline', 'bpf', 'dump', '--st')).toEqual(['--stage']);
    expect(complete('trapline', 'bpf', 'dump', '--stage', 'w')).toEqual(['wat']);
    expect(complete('trapline', 'bpf', 'run', 'READ')).toEqual(['README.md']);
  });

  test('fish completes options and choices', (context) => {
    if (spawnSync('fish', ['--version']).error !== undefined) context.skip('fish is not installed');
    const complete = (line: string): string[] => {
      const script = `source completions/trapline.fish; complete -C '${line}'`;
      const output = execFileSync('fish', ['-c', script], { cwd: root, encoding: 'utf8' });
      return output
        .trim()
        .split('\n')
        .map((row) => row.split('\t')[0]!)
        .sort();
    };
    expect(complete('trapline --arm b')).toEqual(['bind', 'break']);
    expect(complete('trapline --ma')).toEqual(['--max-pause', '--maxactive']);
  });

  for (const [shell, file] of [
    ['zsh', 'completions/_trapline'],
    ['fish', 'completions/trapline.fish'],
  ] as const) {
    test(`${shell} accepts its completion`, (context) => {
      if (spawnSync(shell, ['--version']).error !== undefined) context.skip(`${shell} is not installed`);
      const { status, stderr } = spawnSync(shell, ['-n', file], { cwd: root, encoding: 'utf8' });
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    });
  }
});
